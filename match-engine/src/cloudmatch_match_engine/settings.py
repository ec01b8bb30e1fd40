"""Settings of match-engine."""

from typing import Annotated

from msgspec import Meta

from cloudmatch_bus.process.settings import Port, Settings
from cloudmatch_match_engine.core.distances import Told
from cloudmatch_match_engine.core.matcher import PLANAR_REACH


class MatchEngineSettings(Settings, frozen=True, kw_only=True):
    """One worker."""

    prefix = "CLOUDMATCH_MATCH_ENGINE"

    host: Annotated[str, Meta(min_length=1, description="Address its probes listen on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of worker 0; worker i listens on +10·i.")] = 8082
    index: Annotated[int, Meta(ge=0, le=999, description="Number of this worker on this machine.")] = 0

    reach: Annotated[
        float,
        Meta(
            gt=0,
            description="How far a device that names no radius reaches, as a planar distance in degrees.",
        ),
    ] = PLANAR_REACH

    distance: Annotated[
        Told,
        Meta(
            description="How far apart two devices are, as they are told: `rounded` to a kilometre and to "
            "two digits, between squares of a kilometre, so that nobody is located by asking from several "
            "places; `exact`, to 0.1 m, for devices that know each other; `none`: always 0."
        ),
    ] = "rounded"

    @property
    def own_port(self) -> int:
        """The port of this worker; 0 (any free port) stays 0."""
        return self.port and self.port + 10 * self.index
