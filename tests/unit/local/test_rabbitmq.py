"""The folder of the private RabbitMQ node."""

from cloudmatch_local.rabbitmq import configure


def test_a_cookie_that_others_may_read_is_made_private(tmp_path):
    cookie = tmp_path / ".erlang.cookie"
    cookie.write_text("ABC")
    cookie.chmod(0o644)
    configure(tmp_path, 5672)
    assert cookie.stat().st_mode & 0o777 == 0o400
    assert cookie.read_text() == "ABC"
    configure(tmp_path, 5672)
