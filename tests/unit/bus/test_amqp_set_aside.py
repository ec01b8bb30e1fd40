"""The queue of facts that bridge-rabbit could not publish."""

from typing import Any

from cloudmatch_bus.contract import amqp_set_aside
from unit.bus.recorder import Recorder


async def test_the_queue_is_durable_and_bound_to_no_exchange() -> None:
    calls: list[tuple[Any, ...]] = []
    queue = await amqp_set_aside.declare(Recorder(calls), "quorum")
    assert queue.name == "cloudmatch.facts.dead"
    assert calls == [("queue", "cloudmatch.facts.dead", True, {"x-queue-type": "quorum"})]
