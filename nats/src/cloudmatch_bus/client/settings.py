"""Settings of the connection to NATS."""

import ssl
import typing
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from cloudmatch_bus.contract.credentials import Credentials, parse_credentials
from cloudmatch_bus.contract.subjects import token
from cloudmatch_bus.process.settings import Port, Settings, SettingsError, error_text, variable

KEYS = "keys"  # folder of `make up`, in the run folder


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
            "has. Of the roles of `cloudmatch-keys`, only match-engine may."
        ),
    ] = True
    lane: Annotated[
        bool,
        Meta(description="Use the fast transport, which bypasses nats-py's parser (`nats://` and `tls://`)."),
    ] = True
    credentials_file: Annotated[
        str,
        Meta(
            description="File of credentials by which this process is known on the bus, made by "
            "`cloudmatch-keys mint`. `make up` makes one for each process."
        ),
    ] = ""
    ca_file: Annotated[
        str, Meta(description="PEM file of CA certificates to trust with `tls://`. Default: the system's.")
    ] = ""

    @property
    def servers(self) -> list[str]:
        """URLs of the servers, at least one."""
        return self.url.split(",") if self.url else [f"nats://127.0.0.1:{self.port}"]

    def credentials(self) -> Credentials | None:
        """Read the credentials; None if no file is set.

        Raises:
            SettingsError: the file cannot be read or holds none.
        """
        if not self.credentials_file:
            return None
        try:
            return parse_credentials(Path(self.credentials_file).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            # Do not show the value: it may be a seed given by mistake in place of a file name.
            raise SettingsError(
                f"{variable(type(self), 'credentials_file')} contains no credentials: {error_text(error)}"
            ) from None

    def check_name(self, name: str) -> None:
        """Check that these credentials, if there are any, are of the process with this name.

        Raises:
            SettingsError: they are of another, whose messages this process would hear instead of its own.
        """
        credentials, own = self.credentials(), token(name)
        if credentials is not None and credentials.name != own:
            known = variable(type(self), "credentials_file")
            raise SettingsError(f"{known} is of {credentials.name!r}, not of {own!r}")

    def beside_up(self, run_dir: str, file: str) -> "NatsSettings":
        """Return these settings, by default with the credentials of this name that `make up` has made."""
        made = Path(run_dir, KEYS, file)
        if self.url or self.credentials_file or not made.exists():
            return self
        return replace(self, credentials_file=str(made))

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
        self.credentials()
        self.tls()
