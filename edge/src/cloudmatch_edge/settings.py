"""Settings of the edge."""

from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.settings import Port, Settings


class EdgeSettings(Settings, frozen=True, kw_only=True):
    """One edge."""

    prefix = "CLOUDMATCH_EDGE"

    host: Annotated[str, Meta(min_length=1, description="Address that devices connect to.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of edge 0; edge i listens on +10·i.")] = 8080
    index: Annotated[int, Meta(ge=0, le=999, description="Number of this edge on this machine.")] = 0
    name: Annotated[
        str,
        Meta(max_length=64, description="Name of this edge, unique in the system. Default: edge-<index>."),
    ] = ""
    max_payload: Annotated[
        int, Meta(ge=1, le=512 * 1024, description="Largest payload in bytes; larger ones close with 1009.")
    ] = 64 * 1024
    patience: Annotated[
        float,
        Meta(
            gt=0, description="Seconds without progress of its peer after which a device is closed with 1013."
        ),
    ] = 30.0
    grace: Annotated[
        float,
        Meta(ge=0, description="Seconds within which a device whose connection dropped may go on with it."),
    ] = 30.0
    origins: Annotated[
        str, Meta(description="Origins that browsers may come from, comma-separated. Default: any.")
    ] = ""

    services: Annotated[
        str,
        Meta(
            pattern=r"^((edge|match-engine|journal|bridge-rabbit|analytics)=https?://[^,\s]+(,|$))*$",
            description="Where browsers reach services, for the dev client: `journal=http://…`, comma-separated.",
        ),
    ] = ""

    @property
    def places(self) -> dict[str, list[str]]:
        """URLs by service, as many as were named; without a slash at the end."""
        found: dict[str, list[str]] = {}
        for each in filter(None, self.services.split(",")):
            service, _, url = each.partition("=")
            found.setdefault(service, []).append(url.rstrip("/"))
        return found

    @property
    def own_port(self) -> int:
        """The port of this very edge; 0 stays 0: a free one."""
        return self.port and self.port + 10 * self.index

    @property
    def own_name(self) -> str:
        """The name of this very edge."""
        return self.name or f"edge-{self.index}"
