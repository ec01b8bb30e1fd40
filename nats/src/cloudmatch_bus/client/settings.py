"""Where the bus is, and who we are there."""

import ssl
import typing
from pathlib import Path
from typing import Annotated

import nkeys  # type: ignore[import-untyped]  # it has no types
from msgspec import Meta

from cloudmatch_bus.process.settings import Port, Settings, SettingsError, reason, variable


class NatsSettings(Settings, frozen=True, kw_only=True):
    """Where the bus is."""

    prefix = "CLOUDMATCH_NATS"

    port: Annotated[Port, Meta(description="Port of the local NATS server.")] = 4222
    url: Annotated[
        str,
        Meta(
            pattern=r"^(nats|tls|ws|wss)://.+",
            description="NATS servers, comma-separated. Default: the local one.",
        ),
    ] = ""

    replicas: Annotated[
        typing.Literal[1, 3, 5], Meta(description="Copies that JetStream keeps: 3 in production.")
    ] = 1
    provision: Annotated[
        bool,
        Meta(
            description="Whether this process makes streams and consumers, or waits until another has: "
            "of the users that `nats/permissions.conf` knows, match-engine alone may."
        ),
    ] = True
    lane: Annotated[
        bool,
        Meta(
            description="Whether messages take the fast lane past the client's parser (`nats://` and `tls://`)."
        ),
    ] = True
    nkey_file: Annotated[
        str, Meta(description="File with the seed of the user's nkey. Default: servers that ask for none.")
    ] = ""
    ca_file: Annotated[
        str, Meta(description="Certificates (PEM) to trust, with `tls://`. Default: the system's.")
    ] = ""

    @property
    def servers(self) -> list[str]:
        """URLs of the servers, at least one."""
        return self.url.split(",") if self.url else [f"nats://127.0.0.1:{self.port}"]

    def seed(self) -> str | None:
        """Read the seed of the user's nkey; None without one.

        Raises:
            SettingsError: there is none in the file.
        """
        if not self.nkey_file:
            return None
        try:
            seed = Path(self.nkey_file).read_text(encoding="ascii").strip()
            nkeys.from_seed(bytearray(seed.encode()))
        except (OSError, ValueError, nkeys.NkeysError) as error:
            # Not the value: a seed that was given in place of the file's name would be shown.
            raise SettingsError(
                f"{variable(type(self), 'nkey_file')} names no nkey: {reason(error)}"
            ) from None
        return seed

    def tls(self) -> ssl.SSLContext | None:
        """Give the certificates to trust; None for the system's.

        Raises:
            SettingsError: there are none in the file.
        """
        if not self.ca_file:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            name = variable(type(self), "ca_file")
            raise SettingsError(f"{name}={self.ca_file!r} names no certificates: {reason(error)}") from None

    def check(self) -> None:
        """Try the files.

        Raises:
            SettingsError: one cannot be used.
        """
        self.seed()
        self.tls()
