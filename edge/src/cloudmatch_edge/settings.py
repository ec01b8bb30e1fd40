"""Settings of the edge."""

import ssl
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from cloudmatch_bus.contract.subjects import MAX_EDGE, token
from cloudmatch_bus.process import origins
from cloudmatch_bus.process.listen import is_loopback
from cloudmatch_bus.process.settings import Port, Settings, SettingsError, check_origins, variable

ALGORITHMS = frozenset({"EdDSA", "ES256", "RS256"})  # of tokens
SHARED = frozenset({"HS256"})  # the same, made with a shared secret


class EdgeSettings(Settings, frozen=True, kw_only=True):
    """One edge."""

    prefix = "CLOUDMATCH_EDGE"

    host: Annotated[str, Meta(min_length=1, description="Address to listen on for devices.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of edge 0; edge i listens on +10·i.")] = 8080
    legacy_port: Annotated[
        Port, Meta(description="Second port of edge 0, for devices of 2019 (80 there); 0: none.")
    ] = 0
    index: Annotated[int, Meta(ge=0, le=999, description="Number of this edge on this machine.")] = 0
    name: Annotated[
        str,
        Meta(max_length=64, description="Name of this edge, unique in the system. Default: edge-<index>."),
    ] = ""
    max_payload: Annotated[
        int, Meta(ge=1, le=512 * 1024, description="Largest payload in bytes; larger ones close with 1009.")
    ] = 256 * 1024
    max_connections: Annotated[
        int,
        Meta(
            ge=0,
            description="Devices connected to this edge, at most; at that number it refuses more with 503 "
            "and is not ready. 0: unlimited.",
        ),
    ] = 20_000
    connections_per_address: Annotated[
        int,
        Meta(
            ge=0,
            description="Connections of one IP address (IPv6: of one /64) to this edge, at most; further "
            "devices get 429. Those of this machine itself are not counted. 0: unlimited.",
        ),
    ] = 500
    connects_per_address: Annotated[
        float,
        Meta(
            ge=0,
            description="Devices that one address may connect in a second, ten times as many at once; "
            "further ones get 429. 0: unlimited.",
        ),
    ] = 20.0
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses and networks of proxies, comma-separated: `10.0.0.0/8, ::1`. They are "
            "believed which address a device has: X-Forwarded-For, or a PROXY header (version 1 or 2). All "
            "devices behind another proxy count as one address."
        ),
    ] = ""
    connects_per_device: Annotated[
        float,
        Meta(
            ge=0,
            description="How often one id may connect in a second, ten times as often at once; beyond that "
            "it gets 429. To take over from another client counts four times. 0: unlimited.",
        ),
    ] = 1.0
    connections_per_app: Annotated[
        int,
        Meta(
            ge=0,
            description="Devices of one app connected to this edge, at most; further ones get 429. "
            "0: unlimited.",
        ),
    ] = 0
    patience: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without progress of its peer, or of its own socket while too much waits for "
            "that, after which a device is closed with 1013.",
        ),
    ] = 30.0
    grace: Annotated[
        float,
        Meta(ge=0, description="Seconds within which a disconnected device may resume its session."),
    ] = 30.0
    heartbeat: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="Seconds between two pings to a device; it is closed with 4008 after four without a "
            "sign of life. Must be shorter than the idle time-out of any proxy on the way.",
        ),
    ] = 5.0
    frames: Annotated[
        float,
        Meta(
            ge=0,
            description="Frames of one device that are read in a second, over time; further ones wait. "
            "0: unlimited.",
        ),
    ] = 0.0
    bytes: Annotated[
        float,
        Meta(
            ge=0,
            description="Bytes of one device that are read in a second, over time; further ones wait. "
            "0: unlimited.",
        ),
    ] = 0.0
    control: Annotated[
        float,
        Meta(
            ge=0,
            description="Frames of one device in a second that only ask for an answer: pings, pongs, what is "
            "no message; five times as many at once. Beyond that it is closed with 1008. 0: unlimited.",
        ),
    ] = 20.0
    message_timeout: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds that a message may take to arrive, checked at each ping; then its device is "
            "closed with 1008. 0: unlimited.",
        ),
    ] = 30.0
    silent_match: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds without a payload of either device after which a match ends, by `expired`; "
            "both wait again, but not for each other. 0: never.",
        ),
    ] = 0.0
    auth: Annotated[
        Literal["", "none", "jwt"],
        Meta(
            description="Who may connect: `jwt`, devices with a token; `none`, whoever reaches this edge, as "
            "whatever device. Default: `none` on loopback; on any other address the edge refuses to start "
            "until it is told."
        ),
    ] = ""
    auth_jwks: Annotated[
        str,
        Meta(
            description="Where the public keys of tokens are, a JWK set: the path of a file, reloaded when "
            "it changes, or an `https://` URL, read every 5 minutes and when a token names an unknown key. "
            "While it cannot be read the last good set counts."
        ),
    ] = ""
    auth_issuer: Annotated[str, Meta(description="Who makes tokens: their `iss`. `jwt` needs it.")] = ""
    auth_audience: Annotated[
        str, Meta(min_length=1, description="For whom tokens are made: their `aud`, or one of it.")
    ] = "cloudmatch"
    auth_algorithms: Annotated[
        str,
        Meta(
            description="Algorithms of tokens, comma-separated: `EdDSA`, `ES256`, `RS256`; or `HS256` alone, "
            "with a secret."
        ),
    ] = "EdDSA,ES256,RS256"
    auth_secret_file: Annotated[
        str,
        Meta(
            description="File with a secret of at least 32 bytes, instead of public keys (`HS256`): whoever "
            "knows it makes tokens. Reloaded when it changes."
        ),
    ] = ""
    auth_leeway: Annotated[
        float,
        Meta(ge=0, le=300, description="Seconds by which the clock of whoever makes tokens may differ."),
    ] = 30.0
    auth_longest: Annotated[
        float,
        Meta(ge=60, le=86_400, description="Seconds that a token may live, from its `iat` to its `exp`."),
    ] = 86_400.0
    origins: Annotated[
        str,
        Meta(
            description="Origins of pages that may connect devices, comma-separated: `https://example.com`. "
            "The edge's own page is one of them; clients that are no browsers send none, and may. "
            "Default, and `*`: any."
        ),
    ] = ""
    path_prefix: Annotated[
        str,
        Meta(
            pattern=r"^(/[A-Za-z0-9._~-]+)*$",
            description="Path under which a proxy forwards requests without removing it, such as `/cm`.",
        ),
    ] = ""
    tls_cert_file: Annotated[
        str, Meta(description="Certificate chain (PEM) for `wss`, with its key. Default: `ws`.")
    ] = ""
    tls_key_file: Annotated[
        str, Meta(description="Private key (PEM). Both files are reloaded when they change.")
    ] = ""

    services: Annotated[
        str,
        Meta(
            pattern=r"^((edge|match-engine|journal|bridge-rabbit|analytics)=https?://[^,\s]+(,|$))*$",
            description="URLs of services for the dev client: `journal=http://…`, comma-separated.",
        ),
    ] = ""

    @property
    def places(self) -> dict[str, list[str]]:
        """URLs by service, without trailing slashes."""
        found: dict[str, list[str]] = {}
        for each in filter(None, self.services.split(",")):
            service, _, url = each.partition("=")
            found.setdefault(service, []).append(url.rstrip("/"))
        return found

    @property
    def allowed_origins(self) -> list[str]:
        """The origins as a list; empty: any."""
        return origins.listed(self.origins)

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """The networks of trusted proxies.

        Raises:
            ValueError: one is none.
        """
        return [ip_network(each) for text in self.trusted_proxies.split(",") if (each := text.strip())]

    def check(self) -> None:
        """Check the name, the origins, the proxies, who may connect, the certificate and its key.

        Raises:
            SettingsError: one is invalid, or lacks another.
        """
        if len(token(self.name)) > MAX_EDGE:
            name = variable(type(self), "name")
            raise SettingsError(f"{name}={self.name!r} has more than {MAX_EDGE} bytes in subjects")
        check_origins(type(self), self.origins)
        try:
            _ = self.proxies
        except ValueError as error:
            name = variable(type(self), "trusted_proxies")
            raise SettingsError(f"{name}={self.trusted_proxies!r} cannot be used: {error}") from None
        self._check_auth()
        cert, key = variable(type(self), "tls_cert_file"), variable(type(self), "tls_key_file")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise SettingsError(f"{cert} and {key} must both be set, or neither")
        if self.tls_cert_file:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert_file, self.tls_key_file)
            except OSError as error:
                raise SettingsError(
                    f"{cert}={self.tls_cert_file!r} and {key}={self.tls_key_file!r} cannot be used: {error}"
                ) from None

    def _check_auth(self) -> None:
        """Check who may connect."""
        jwks, secret = variable(type(self), "auth_jwks"), variable(type(self), "auth_secret_file")
        algorithms, auth = variable(type(self), "auth_algorithms"), variable(type(self), "auth")
        if not self.auth and not is_loopback(self.host):
            raise SettingsError(
                f"{auth} must be set, as {variable(type(self), 'host')}={self.host} is no loopback address: "
                "to `jwt` if devices need a token, to `none` if whoever reaches it may connect"
            )
        if self.auth != "jwt":
            return
        if not self.auth_issuer:
            raise SettingsError(f"{auth}=jwt needs {variable(type(self), 'auth_issuer')}")
        if bool(self.auth_jwks) == bool(self.auth_secret_file):
            raise SettingsError(f"{auth}=jwt needs {jwks}, or {secret} instead")
        if "://" in self.auth_jwks:
            try:
                parts = urlsplit(self.auth_jwks)
                usable = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
                _ = parts.port
            except ValueError:
                usable = False
            if not usable:
                raise SettingsError(f"{jwks}={self.auth_jwks!r} cannot be used: it is no https:// URL")
        allowed, source = (SHARED, secret) if self.auth_secret_file else (ALGORITHMS, jwks)
        if not self.algorithms or not allowed.issuperset(self.algorithms):
            only = f"{source} goes with {', '.join(sorted(allowed))} only"
            raise SettingsError(f"{algorithms}={self.auth_algorithms!r} cannot be used: {only}")

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms of tokens."""
        return tuple(each for text in self.auth_algorithms.split(",") if (each := text.strip()))

    @property
    def own_port(self) -> int:
        """The port of this edge; 0 for any free port."""
        return self.port and self.port + 10 * self.index

    @property
    def own_legacy_port(self) -> int:
        """The second port of this edge; 0 for none."""
        return 0 if self.index else self.legacy_port

    @property
    def own_ports(self) -> list[int]:
        """The ports of this edge, as far as the settings fix them."""
        return [port for port in (self.own_port, self.own_legacy_port) if port]

    @property
    def own_name(self) -> str:
        """The name of this edge."""
        return self.name or f"edge-{self.index}"
