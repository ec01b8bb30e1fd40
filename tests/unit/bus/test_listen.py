"""A port is taken, or it is said which one cannot be, why, and what to change."""

import pytest

from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.settings import SettingsError


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            listen("127.0.0.1", port, "CLOUDMATCH_X_PORT")
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{port} (Address already in use): "
        "change CLOUDMATCH_X_PORT, or end what listens there"
    )


def test_a_port_that_was_let_go_can_be_taken_again() -> None:
    with listen("127.0.0.1", 0, "") as first:
        port = first.getsockname()[1]
    with listen("127.0.0.1", port, "") as second:
        assert second.getsockname()[1] == port


@pytest.mark.parametrize(
    ("host", "port", "place"),
    [
        ("192.0.2.1", 8080, "192.0.2.1:8080"),  # an address of no machine
        ("2001:db8::1", 8080, "[2001:db8::1]:8080"),  # the same
        ("127.0.0.1", 65_546, "127.0.0.1:65546"),  # as of a worker with a high number
    ],
)
def test_what_nobody_can_listen_on_is_named_too(host: str, port: int, place: str) -> None:
    with pytest.raises(SettingsError) as refused:
        listen(host, port, "CLOUDMATCH_X_PORT")
    text = str(refused.value)
    assert text.startswith(f"cannot listen on {place} (")
    assert text.endswith("): change CLOUDMATCH_X_PORT, or the host")
