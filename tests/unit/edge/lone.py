"""A device outside of any network."""

import json
from typing import Any

from cloudmatch_edge.admission.stay import FOREVER, Stay
from cloudmatch_edge.dialects.base import Dialect
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import Device
from unit.edge.fakes import (
    APP,
    CONNECTION,
    DEVICE,
    FakeBus,
    FakeMatches,
    FakeMatchmaking,
    FakeSocket,
    classic,
)


class Lone:
    """A device outside of any network, with fakes for ports."""

    def __init__(
        self, dialect: Dialect | None = None, *, control: float = 0.0, stay: Stay = FOREVER, **parameters: Any
    ) -> None:
        self.bus, self.matches, self.engine = FakeBus(), FakeMatches(), FakeMatchmaking()
        self.socket = FakeSocket()
        self.device = Device(
            Parameters(DEVICE, 0, 0, APP, **parameters),
            CONNECTION,
            self.socket,
            dialect or classic(),
            self.bus,
            self.matches,
            self.engine,
            control=control,
            stay=stay,
        )

    def command(self, text: str) -> None:
        """Have the device send a text frame."""
        self.device.on_frames([(True, text.encode())])

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of cloudmatch.v1 written since the last call."""
        return [json.loads(text) for text in self.socket.pop_texts()]

    def types(self) -> list[str]:
        """Return the types of the frames of cloudmatch.v1 written since the last call."""
        return [text.split('"')[3] for text in self.socket.pop_texts()]
