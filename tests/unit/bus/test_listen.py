"""Listening on a port, or an error that names the address, the reason and the setting."""

import errno
import os
import socket

import pytest

from cloudmatch_bus.process.listen import listen, listen_also
from cloudmatch_bus.process.settings import SettingsError


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            listen("127.0.0.1", port, "CLOUDMATCH_X_PORT")
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{port} (Address already in use): "
        "change CLOUDMATCH_X_PORT, or stop the process that is listening there"
    )


def test_a_port_that_only_root_may_use_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket, __: object) -> None:  # tests may run as root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SettingsError) as refused:
        listen("127.0.0.1", 80, "CLOUDMATCH_X_PORT")
    assert str(refused.value) == (
        "cannot listen on 127.0.0.1:80 (Permission denied): change CLOUDMATCH_X_PORT, "
        "or run it as root, or lower net.ipv4.ip_unprivileged_port_start by sysctl"
    )


def test_a_second_port_is_optional() -> None:
    assert listen_also("127.0.0.1", 0, "CLOUDMATCH_X_LEGACY_PORT") == []
    with listen("127.0.0.1", 0, "") as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match="change CLOUDMATCH_X_LEGACY_PORT"):
            listen_also("127.0.0.1", port, "CLOUDMATCH_X_LEGACY_PORT")
    (second,) = listen_also("127.0.0.1", port, "CLOUDMATCH_X_LEGACY_PORT")
    with second:
        assert second.getsockname()[1] == port


def test_a_port_that_was_closed_can_be_used_again() -> None:
    with listen("127.0.0.1", 0, "") as first:
        port = first.getsockname()[1]
    with listen("127.0.0.1", port, "") as second:
        assert second.getsockname()[1] == port


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("192.0.2.1", 8080, "192.0.2.1:8080"),  # documentation addresses, of no machine
        ("2001:db8::1", 8080, "[2001:db8::1]:8080"),
        ("127.0.0.1", 65_546, "127.0.0.1:65546"),  # as of a worker with a high index
    ],
)
def test_an_address_on_which_nobody_can_listen_is_named(host: str, port: int, address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        listen(host, port, "CLOUDMATCH_X_PORT")
    text = str(refused.value)
    assert text.startswith(f"cannot listen on {address} (")
    assert text.endswith("): change CLOUDMATCH_X_PORT, or the host")
