"""The close codes that the Python client decides by."""

from cloudmatch.core import close_codes


def test_every_close_code_has_a_way_to_reconnect() -> None:
    codes = {value for name, value in vars(close_codes).items() if name.isupper() and isinstance(value, int)}
    assert set(close_codes.RECONNECT) == codes


def test_a_device_reconnects_after_a_normal_close_but_not_once_it_is_replaced() -> None:
    assert close_codes.RECONNECT[close_codes.NORMAL] == "with backoff"
    assert close_codes.RECONNECT[close_codes.REPLACED] == "never"
