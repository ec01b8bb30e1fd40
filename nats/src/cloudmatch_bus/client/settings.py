"""Settings of the connection to NATS."""

import ssl
import typing
from pathlib import Path
from typing import Annotated

import nkeys  # type: ignore[import-untyped]  # it has no types
from msgspec import Meta

from cloudmatch_bus.process.settings import Port, Settings, SettingsError, error_text, variable


class NatsSettings(Settings, frozen=True, kw_only=True):
    """Servers, credentials, and how the bus is used."""

    prefix = "CLOUDMATCH_NATS"

    port: Annotated[Port, Meta(description="Port of the local NATS server.")] = 4222
    url: Annotated[
        str,
        Meta(
            pattern=r"^(nats|tls|ws|wss)://.+",
            description="URLs of NATS servers, comma-separated. Default: the local server.",
        ),
    ] = ""

    replicas: Annotated[
        typing.Literal[1, 3, 5], Meta(description="Replicas of new streams: 3 in production.")
    ] = 1
    provision: Annotated[
        bool,
        Meta(
            description="Create and update streams and consumers, instead of waiting until another process "
            "has. Of the users in `nats/permissions.conf`, only match-engine may."
        ),
    ] = True
    lane: Annotated[
        bool,
        Meta(description="Use the fast transport, which bypasses nats-py's parser (`nats://` and `tls://`)."),
    ] = True
    nkey_file: Annotated[
        str, Meta(description="File with the seed of this user's nkey. Default: authenticate without one.")
    ] = ""
    ca_file: Annotated[
        str, Meta(description="PEM file of CA certificates to trust with `tls://`. Default: the system's.")
    ] = ""

    @property
    def servers(self) -> list[str]:
        """URLs of the servers, at least one."""
        return self.url.split(",") if self.url else [f"nats://127.0.0.1:{self.port}"]

    def seed(self) -> str | None:
        """Read the seed of the user's nkey; None if no file is set.

        Raises:
            SettingsError: the file cannot be read or holds no seed.
        """
        if not self.nkey_file:
            return None
        try:
            seed = Path(self.nkey_file).read_text(encoding="ascii").strip()
            nkeys.from_seed(bytearray(seed.encode()))
        except (OSError, ValueError, nkeys.NkeysError) as error:
            # Do not show the value: it may be a seed given by mistake in place of a file name.
            raise SettingsError(
                f"{variable(type(self), 'nkey_file')} contains no nkey seed: {error_text(error)}"
            ) from None
        return seed

    def tls(self) -> ssl.SSLContext | None:
        """Load the certificates to trust; None for the system's.

        Raises:
            SettingsError: the file cannot be read or holds none.
        """
        if not self.ca_file:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            name = variable(type(self), "ca_file")
            raise SettingsError(
                f"{name}={self.ca_file!r} contains no certificates: {error_text(error)}"
            ) from None

    def check(self) -> None:
        """Load both files.

        Raises:
            SettingsError: one cannot be used.
        """
        self.seed()
        self.tls()
