"""The journal on a real bus."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.deliveries import Claim, Span, span
from cloudmatch_bus.contract.messages import (
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceLeft,
    MatchEnded,
    MatchMade,
    PayloadsDelivered,
    encode,
)
from cloudmatch_journal.core import segments
from harness import NatsServer, Service, eventually
from harness.bus import stranger
from harness.facts import facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]


def journal(start: Start, nats: NatsServer, **how: Any) -> Service:
    return start(
        "journal", {"CLOUDMATCH_NATS_URL": nats.url, "CLOUDMATCH_JOURNAL_SEGMENT_SIZE": "300"}, **how
    )


def pages(service: Service, path: str) -> list[dict[str, Any]]:
    """Read all pages; positions must ascend."""
    events: list[dict[str, Any]] = []
    after, more = 0, True
    while more:
        page = service.get_json(f"{path}?after={after}&limit=1000")
        events += page["events"]
        after, more = page["next"], page["more"]
    positions = [event["position"] for event in events]
    assert positions == sorted(set(positions))
    return events


def numbers(service: Service) -> list[int]:
    return [event["fact"]["at"] for event in pages(service, "/events")]


def files(service: Service, pattern: str) -> list[Path]:
    return list(Path(service.env["CLOUDMATCH_RUN_DIR"], "journal").glob(pattern))


async def test_devices_and_matches_have_the_state_that_facts_fold_into(
    nats_server: NatsServer, start: Start
) -> None:
    service = journal(start, nats_server)
    async with facts(nats_server.url) as bus:
        for fact in (
            DeviceConnected(app="default", at=1, device="a", edge="e", connection_id=1, lat=1, lon=1),
            DeviceConnected(app="default", at=2, device="c", edge="f", connection_id=1, lat=1, lon=2),
            MatchMade(app="default", at=3, match=9, device="c", peer="a", distance=111.2),
            PayloadsDelivered(app="default", at=4, match=9, sender="a", receiver="c", sizes=[4]),
            MatchEnded(app="default", at=5, match=9, device="c", peer="a", reason="left"),
            DeviceLeft(app="default", at=6, device="c", edge="f", connection_id=1, code=1001),
        ):
            bus.publisher.publish(fact)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 6)
    a, c = service.get_json("/device/state/a"), service.get_json("/device/state/c")
    assert (a["connectionsOpen"], a["bytesSent"], a["messagesSent"], a["matches"]) == (1, 4, 1, 1)
    assert (c["connectionsOpen"], c["bytesReceived"], c["messagesReceived"], c["matches"]) == (0, 4, 1, 1)
    match = service.get_json("/match/9")
    assert (match["madeAt"], match["endedAt"], match["endedBy"], match["reason"]) == (3, 5, "c", "left")
    assert {"sender": "a", "receiver": "c", "payloads": 1, "bytes": 4} in match["ways"]
    assert [event["fact"]["type"] for event in pages(service, "/device/events/a")] == [
        "connected",
        "matched",
        "delivered",
        "unmatched",
    ]


def batch(number: int, *spans: Span) -> DeliveriesCounted:
    return DeliveriesCounted(
        app="default", at=number, source="edge-0", incarnation=1, number=number, spans=list(spans)
    )


async def test_batches_count_and_are_shown_as_events_of_each_direction(
    nats_server: NatsServer, start: Start
) -> None:
    service = journal(start, nats_server)
    async with facts(nats_server.url) as bus:
        bus.publisher.publish(batch(1, span("a", "c", 9, 0, [4, 4]), span("c", "a", 9, 0, [5])))
        # its text does not add up, and is counted by its totals
        bus.publisher.publish(batch(2, Span("a", "c", 9, 2, 1, 7, "nonsense"), span("f", "g", 10, 0, [1])))
        bus.publisher.publish(claims(3, Claim("a", "c", 9, 3)))
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 3)
    state = service.get_json("/device/state/a")
    assert (state["bytesSent"], state["messagesSent"], state["bytesReceived"]) == (15, 3, 5)
    assert {"sender": "a", "receiver": "c", "payloads": 3, "bytes": 15} in service.get_json("/match/9")[
        "ways"
    ]
    shown = [(e["fact"]["type"], e["fact"]["sizes"]) for e in service.get_json("/device/events/a")["events"]]
    assert shown == [("delivered", [4, 4]), ("delivered", [5]), ("delivered", [7]), ("claimed", [])]
    exported = await asyncio.to_thread(service.ask, "export", "--type", "delivered", "--device", "c")
    assert [json.loads(line)["sizes"] for line in exported.stdout.splitlines()] == [[4, 4], [5], [7]]
    checked = await asyncio.to_thread(service.ask, "verify")
    assert (checked.returncode, checked.stdout) == (0, "")

    service.terminate()
    (segment,) = files(service, "*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"4*2"', b'"4,4"'))
    checked = await asyncio.to_thread(service.ask, "verify")
    assert checked.returncode == 1
    assert checked.stdout.startswith("damaged ")


def claims(number: int, *some: Claim) -> DeliveriesClaimed:
    return DeliveriesClaimed(
        app="default", at=number, source="edge-1", incarnation=1, number=number, claims=list(some)
    )


async def test_claimed_payloads_are_counted_once_by_whoever_can_count_them(
    nats_server: NatsServer, start: Start
) -> None:
    grace = {"CLOUDMATCH_JOURNAL_CLAIM_GRACE": "1"}
    service = start("journal", {"CLOUDMATCH_NATS_URL": nats_server.url, **grace})

    def figures() -> list[float]:
        names = ("claims", "unaccounted_payloads", "counted_twice_payloads", "granted_payloads_total")
        return [service.metric(f"cloudmatch_journal_{name}") for name in names]

    async with facts(nats_server.url) as bus:
        bus.publisher.publish(MatchMade(app="default", at=1, match=9, device="c", peer="a", distance=1))
        bus.publisher.publish(batch(1, span("a", "c", 9, 3, [4])))
        bus.publisher.publish(claims(2, Claim("a", "c", 9, 6, span("a", "c", 9, 2, [3, 4, 5, 6]))))
        bus.publisher.publish(claims(3, Claim("c", "a", 9, 2, span("c", "a", 9, 0, [1, 2]))))
        await bus.kept()
        await eventually(lambda: figures()[0] == 2)
        bus.publisher.publish(batch(2, span("c", "a", 9, 0, [1, 2])))  # late
        await eventually(lambda: figures() == [0, 2, 0, 3], 10)
        sizes = [e["fact"]["sizes"] for e in service.get_json("/events?type=delivered")["events"]]
        assert sizes == [[4], [1, 2], [3], [5, 6]]
        assert service.get_json("/match/9")["unaccounted"] == 2
        bus.publisher.publish(batch(3, span("a", "c", 9, 0, [1, 2, 3])))  # late; the last was granted
        await eventually(lambda: figures() == [0, 0, 1, 3])
    state = service.get_json("/device/state/a")
    assert (state["bytesSent"], state["messagesSent"], state["bytesReceived"]) == (21, 6, 3)
    assert "payloads counted that were only claimed: 3" in service.logs()


async def test_a_report_is_published_on_the_bus_and_an_invalid_one_is_not(
    nats_server: NatsServer, start: Start
) -> None:
    service = journal(start, nats_server)
    bad = {"deviceId": "a", "eventType": "nonsense", "amount": 1}
    assert service.get("/device/event", json.dumps(bad).encode())[0] == 400
    good = {"deviceId": "a", "eventType": "bytesSent", "amount": 5}
    assert service.get("/device/event", json.dumps(good).encode()) == (200, '"Thanks!"')
    await eventually(lambda: service.get("/device/state/a")[0] == 200)
    assert service.get_json("/device/state/a")["bytesSent"] == 5
    (reported,) = (event["fact"] for event in pages(service, "/events"))
    assert (reported["type"], reported["source"], reported["number"]) == ("reported", "journal-reports", 1)
    assert reported["start"] > 0


async def test_no_event_is_lost_when_the_bus_is_killed_and_restarted(
    nats_server: NatsServer, start: Start
) -> None:
    service = journal(start, nats_server)
    async with facts(nats_server.url) as bus:
        for round_ in range(3):
            for _ in range(200):
                bus.payloads(1)
            await bus.kept()
            if round_ < 2:
                await asyncio.to_thread(nats_server.kill)
                await asyncio.to_thread(nats_server.restart)
        await eventually(lambda: numbers(service) == list(range(1, 601)), 20)
    await asyncio.to_thread(service.wait_ready)


async def test_a_deleted_consumer_is_created_again(nats_server: NatsServer, start: Start) -> None:
    service = journal(start, nats_server)
    async with facts(nats_server.url) as bus:
        bus.payloads(1)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 1)
        stream = bus.bus.jetstream()
        for consumer in await stream.consumers_info("EVENTS"):
            if consumer.name.startswith("journal-"):
                await stream.delete_consumer("EVENTS", consumer.name)
        bus.payloads(1)
        await eventually(lambda: numbers(service) == [1, 2])
    assert service.metric("cloudmatch_feed_resumed_total") == 1


async def test_messages_that_are_not_facts_are_dropped_and_disturb_nothing(
    nats_server: NatsServer, start: Start
) -> None:
    service = journal(start, nats_server)
    async with facts(nats_server.url) as bus:
        bus.payloads(1)
        await bus.kept()
        subject = subjects.ev("default", "delivered", "a")
        for rubbish in (
            b"",
            b"nonsense",
            b"\xff\xfe",
            b"{}",
            b'{"type":"unheard-of"}',
            b'{"type":"left","app":1}',
            encode(batch(1, span("a", "b", 7, 0, [4]))).replace(b'0,1,4,"4"', b'0,0,0,""'),  # no payloads
        ):
            await bus.bus.jetstream().publish(subject, rubbish)
        forged = DeviceLeft(app="default", at=1, device="a", edge="e", connection_id=1, code=1000)
        async with stranger(nats_server.url) as sender:
            sender.publish(b"cm.v1.default.ev.left.\xff", encode(forged))
            sender.publish(b"cm.v1.default.ev.left.b", encode(forged))
        bus.payloads(2)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 2)
    assert numbers(service) == [1, 2]
    await eventually(lambda: service.metric("cloudmatch_feed_undecodable_total") == 9)
    assert service.logs().count("message dropped at position") == 9
    service.wait_ready()


async def test_readiness_gives_the_reason_while_the_bus_is_unreachable(
    nats_server: NatsServer, start: Start
) -> None:
    nats_server.terminate()
    service = journal(start, nats_server, ready=False)
    assert service.get("/system/readiness")[0] == 503
    assert "NATS" in service.get("/system/readiness")[1]
    assert service.get("/system/liveness")[0] == 200
    report = json.dumps({"deviceId": "a", "eventType": "bytesSent", "amount": 5}).encode()
    assert service.get("/device/event", report)[0] == 503
    nats_server.restart()
    service.wait_ready()
    nats_server.kill()
    await eventually(lambda: service.get("/system/readiness")[0] == 503)


@pytest.mark.parametrize("reachable", [True, False], ids=["bus reachable", "bus unreachable"])
async def test_sigterm_ends_it_cleanly(nats_server: NatsServer, start: Start, reachable: bool) -> None:
    service = journal(start, nats_server)
    if not reachable:
        nats_server.kill()
        await eventually(lambda: service.get("/system/readiness")[0] == 503)
    service.terminate()
    assert service.process.returncode == 0


async def test_a_folder_in_use_is_refused_with_an_error_message(
    nats_server: NatsServer, start: Start
) -> None:
    service = journal(start, nats_server)
    env = {"CLOUDMATCH_RUN_DIR": service.env["CLOUDMATCH_RUN_DIR"], "CLOUDMATCH_NATS_URL": nats_server.url}
    with pytest.raises(AssertionError, match="is in use by another journal") as failure:
        start("journal", env)
    assert "Traceback" not in str(failure.value)


async def test_a_folder_that_is_a_file_is_refused_with_an_error_message(
    nats_server: NatsServer, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    env = {"CLOUDMATCH_JOURNAL_FOLDER": str(file), "CLOUDMATCH_NATS_URL": nats_server.url}
    with pytest.raises(AssertionError, match=r"CLOUDMATCH_JOURNAL_FOLDER: \S+ is not a folder") as failure:
        start("journal", env)
    assert "Traceback" not in str(failure.value)


async def test_a_full_disk_is_said_and_the_journal_goes_on_when_there_is_space(
    nats_server: NatsServer, start: Start, tmp_path: Path
) -> None:
    mounted = await asyncio.to_thread(
        subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        (tmp_path / "journal").mkdir()
        ballast = tmp_path / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        service = start(
            "journal",
            {"CLOUDMATCH_JOURNAL_FOLDER": f"{tmp_path}/journal", "CLOUDMATCH_NATS_URL": nats_server.url},
        )
        async with facts(nats_server.url) as bus:
            bus.payloads(1, 2)
            await eventually(lambda: service.get("/system/readiness")[0] == 503, 15)
            assert "No space left on device" in service.get("/system/readiness")[1]
            assert service.get_json("/events")["events"] == []
            ballast.unlink()
            await asyncio.to_thread(service.wait_ready)
            await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 1)
        assert service.get_json("/device/state/a")["bytesSent"] == 3
        service.terminate()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", tmp_path], check=True)


async def test_verify_finds_no_fault_while_the_service_writes_and_every_planted_one(
    nats_server: NatsServer, start: Start
) -> None:
    # one segment, without a seal, with which any change would be one of damage
    env = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_JOURNAL_SEGMENT_SIZE": "5000"}
    service = start("journal", env)
    async with facts(nats_server.url) as bus:
        for number in range(1000):
            bus.payloads(number)
            if number == 500:
                await bus.bus.jetstream().publish(subjects.ev("default", "left", "a"), b"no fact")
        checked = await asyncio.to_thread(service.ask, "verify")
        assert (checked.returncode, checked.stdout) == (0, ""), checked
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 1000)
    checked = await asyncio.to_thread(service.ask, "verify")
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "1,000 events in 1 segments, compared with 1,001 messages" in checked.stderr

    service.terminate()
    (segment,) = files(service, "*.jsonl")
    documents = segments.read(segment.read_bytes(), 1).documents
    positions = [document["position"] for document in documents]
    invented = positions[-1] + 5
    planted = {"missing": positions[5], "different": positions[10], "out of order": positions[20]}
    planted |= {"duplicate": positions[30], "not in the stream": invented}
    changed = {**documents[10], "receiver": "c"}
    begin = [*documents[:5], *documents[6:10], changed, *documents[11:20], documents[21], documents[20]]
    end = [*documents[22:31], *documents[30:], {**documents[0], "position": invented}]
    segment.write_bytes(segments.encode_lines(begin + end, after=0))  # as the journal would have written them
    checked = await asyncio.to_thread(service.ask, "verify")
    assert checked.returncode == 1
    assert sorted(checked.stdout.splitlines()) == sorted(
        f"{fault:<17}  position {position}  {segment.name}" for fault, position in planted.items()
    )


async def test_export_writes_what_the_service_has_stored(nats_server: NatsServer, start: Start) -> None:
    service = journal(start, nats_server)
    async with facts(nats_server.url) as bus:
        for number in range(700):
            bus.payloads(number)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 700)
    exported = await asyncio.to_thread(service.ask, "export", "--device", "b")
    assert exported.returncode == 0
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [line["sizes"] for line in lines] == [[number] for number in range(700)]
    assert [line["position"] for line in lines] == [e["position"] for e in pages(service, "/events")]


async def test_dropped_events_still_count_and_are_not_read_again(
    nats_server: NatsServer, start: Start
) -> None:
    limit = {"CLOUDMATCH_JOURNAL_RETENTION_BYTES": "50000", "CLOUDMATCH_JOURNAL_SEGMENT_SIZE": "100"}
    service = start("journal", {"CLOUDMATCH_NATS_URL": nats_server.url, **limit})
    async with facts(nats_server.url) as bus:
        for _ in range(2000):
            bus.payloads(1)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 2000)
        begins = service.get_json("/events")["begins"]
        assert pages(service, "/events")[0]["position"] == begins > 0
        service.kill()
        files(service, "state.json")[0].unlink()
        await asyncio.to_thread(service.restart)
        bus.payloads(1)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 1)
    assert service.get_json("/device/state/a")["bytesSent"] == 2001
    assert service.get_json("/events")["begins"] >= begins
    assert service.metric("cloudmatch_journal_size_bytes") < 150_000
    assert service.get_json("/device/state/a")["bytesSent"] == 2001
    checked = await asyncio.to_thread(service.ask, "verify")
    assert (checked.returncode, checked.stdout) == (0, "")
