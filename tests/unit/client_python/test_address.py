"""The URL that the Python client connects to."""

import pytest

from cloudmatch.core.address import address


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/device/connect?id=a+b"),
        ("https://example.org/", "wss://example.org/device/connect?id=a+b"),
        ("wss://example.org/cloud/", "wss://example.org/cloud/device/connect?id=a+b"),
        ("ws://[::1]:80/device/connect?key=1#x", "ws://[::1]:80/device/connect?key=1&id=a+b"),
    ],
)
def test_a_servers_url_gets_the_path_and_the_devices_parameters(base: str, url: str) -> None:
    assert address(base, {"id": "a b"}) == url


@pytest.mark.parametrize("base", ["", "127.0.0.1:8080", "ftp://example.org", "http://", "http:///path"])
def test_anything_but_the_url_of_a_server_is_rejected(base: str) -> None:
    with pytest.raises(ValueError, match="a server's URL looks like http://"):
        address(base, {})
