"""The journal's settings."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import CommonSettings, Port, PositiveInt, Settings


class JournalSettings(Settings, frozen=True, kw_only=True):
    """Where the journal listens, and what it stores where and for how long."""

    prefix = "CLOUDMATCH_JOURNAL"

    host: Annotated[str, Meta(description="Address on which the journal listens.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port on which the journal listens.")] = 8081
    legacy_port: Annotated[
        Port, Meta(description="Second port, for clients of 2019 (81 there); 0: none.")
    ] = 0
    folder: Annotated[
        str, Meta(description="Folder of the segments. Default: `journal` in the run folder.")
    ] = ""
    segment_size: Annotated[
        PositiveInt, Meta(description="Events in a segment; a full one is never written again.")
    ] = 4096
    max_states: Annotated[
        PositiveInt,
        Meta(
            description="Devices, and matches, whose state is kept, at most: one of each takes 1 KiB. "
            "Beyond that a tenth of them goes: devices that are not connected, and ended matches, of which "
            "nothing was heard for longest. A device that comes back begins at zero; its events stay."
        ),
    ] = 200_000
    claim_grace: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that edges have to count claimed payloads, before the journal does.",
        ),
    ] = 15.0
    retention_days: Annotated[
        float,
        Meta(
            ge=0,
            description="Days after which a full segment is dropped, as of the last event: never while "
            "nothing happens. 0: never.",
        ),
    ] = 0.0
    retention_bytes: Annotated[
        int,
        Meta(
            ge=0, description="Bytes of events beyond which the oldest full segments are dropped. 0: never."
        ),
    ] = 0


def folder(environment: Environment) -> Path:
    """Return the folder of the segments."""
    return Path(environment[JournalSettings].folder or Path(environment[CommonSettings].run_dir) / "journal")
