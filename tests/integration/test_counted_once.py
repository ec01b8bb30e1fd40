"""Facts that EVENTS holds twice count once: JetStream recognizes a repetition for two minutes only."""

import dataclasses
from collections.abc import Callable

import pytest

from cloudmatch_bus.client.history import history
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, DeliveriesCounted
from cloudmatch_journal.core.ledger import Ledger
from faults.link import Link
from harness import NatsServer, Service, eventually
from harness.amqp import arriving, arriving_singles
from harness.bus import connected, running
from harness.facts import facts

pytestmark = pytest.mark.servers

WINDOW = 0.2  # s in which JetStream recognizes a repetition; 120 s elsewhere
ACK_TIMEOUT = 0.5  # s


def fact(number: int) -> AnyFact:
    if number % 2:
        return AmountReported(
            app="x",
            at=1,
            device="a",
            event_type="bytesSent",
            amount=number,
            source="journal-reports",
            incarnation=5,
            number=number,
        )
    spans = [span("a", "b", 7, number, [number, number])]
    return DeliveriesCounted(app="x", at=1, source="edge-0", incarnation=5, number=number, spans=spans)


async def test_facts_whose_acks_are_lost_for_longer_than_the_duplicate_window_count_once(
    nats_server: NatsServer, amqp_url: str, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.publisher.ACK_TIMEOUT", ACK_TIMEOUT)
    start("bridge-rabbit", {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_AMQP_URL": amqp_url})
    sent = [fact(number) for number in range(1, 21)]
    sums = sum(each.amount for each in sent if isinstance(each, AmountReported))
    sums += sum(each.spans[0].bytes for each in sent if isinstance(each, DeliveriesCounted))
    async with (
        facts(nats_server.url) as direct,
        Link(nats_server.port) as link,
        connected(f"nats://127.0.0.1:{link.port}") as bus,
        arriving(amqp_url) as batches,
        arriving_singles(amqp_url) as singles,
    ):
        js = direct.bus.jetstream()
        config = (await js.stream_info(streams.EVENTS)).config
        await js.update_stream(dataclasses.replace(config, duplicate_window=WINDOW))
        publisher = FactPublisher(bus)
        async with running(publisher.run()):
            link.cut(answers_only=True)
            for each in sent:
                assert publisher.publish(each)

            async def stored_twice() -> bool:
                return (await js.stream_info(streams.EVENTS)).state.messages >= 2 * len(sent)

            await eventually(stored_twice)
            link.heal()
            assert await publisher.drain(10) == 0
        info = (await js.stream_info(streams.EVENTS)).state
        await eventually(lambda: len(batches) == info.messages)
        await eventually(lambda: len(singles) >= info.messages)
        ledger = Ledger()
        async for some in history(direct.bus, 0, info.last_seq):
            for position, each in some:
                assert each is not None
                ledger.fold(position, each)
    assert len({message.message_id for message in batches}) == len(sent)
    by_id = {message.correlation_id: int(message.body) for message in singles}
    assert sum(by_id.values()) == sums
    state = ledger.device("x", "a")
    assert state is not None
    assert state.bytes_sent == sums
