"""A double of the channel and queues of a RabbitMQ driver."""

from typing import Any


class Recorder:
    """A driver's channel and queue that record what is declared."""

    def __init__(self, calls: list[tuple[Any, ...]], name: str = "") -> None:
        self.calls, self.name = calls, name

    async def declare_exchange(self, name: str, kind: str, /, *, durable: bool) -> None:
        self.calls.append(("exchange", name, kind, durable))

    async def declare_queue(
        self, name: str, /, *, durable: bool, arguments: dict[str, Any] | None = None, passive: bool = False
    ) -> "Recorder":
        self.calls.append(("queue", name, durable, arguments))
        return Recorder(self.calls, name)

    async def bind(self, exchange: str, /, routing_key: str) -> None:
        self.calls.append(("bind", self.name, exchange, routing_key))
