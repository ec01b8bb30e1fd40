"""What all facts have in common, and the facts about the journal itself."""

from typing import Literal

import msgspec

from cloudmatch_bus.contract.bounds import Number, Time


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something that happened; published once to the stream EVENTS, on ``ev.<kind>.<device>``."""

    app: str
    at: Time  # ms since 1970

    @property
    def primary_device(self) -> str:
        """The device that the subject of this fact names."""
        raise NotImplementedError

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices involved."""
        return (self.primary_device,)

    @property
    def kind(self) -> str:
        """The kind in the subject, which is the ``type`` in JSON."""
        return str(self.__struct_config__.tag)


class FactsLost(Fact, frozen=True, kw_only=True, tag="lost"):
    """The journal does not have the facts between two of its positions, and never will.

    `expired`: they left EVENTS before it read them. `created`, `restored`: EVENTS was created again, or
    restored from an older copy; whatever it held beyond is lost. `damaged`: a part of the journal's file.
    """

    low: Number  # position
    high: Number  # position
    missing: Number | None  # facts, at most; None: unknown
    reason: Literal["expired", "created", "restored", "damaged"]

    @property
    def primary_device(self) -> str:
        return "journal"  # in place of a device

    @property
    def devices(self) -> tuple[str, ...]:
        return ()


class DeviceForgotten(Fact, frozen=True, kw_only=True, tag="forgotten"):
    """Someone asked to erase a device: whoever keeps anything about it from before this fact erases that."""

    device: str

    @property
    def primary_device(self) -> str:
        return self.device
