"""Messages and records that nobody can read, against a real worker and a real edge, which both go on."""

from collections.abc import Callable

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import Heartbeat, LeavePool, encode
from cloudmatch_bus.contract.request_batches import RequestBatch
from cloudmatch_bus.contract.streams import BUCKET_PREFIX
from harness import NatsServer, Service, eventually
from harness.bus import Stranger, stranger
from harness.classic import device, receive_text

DEEP = b"[" * 100_000
# of a device of its own: for whom it names, it is a request that a worker can read and fulfils
LEAVE = LeavePool(app="default", device="z", edge="edge-0", connection_id=2**52)
VALID = [
    encode(LEAVE),
    encode(RequestBatch(requests=[LEAVE])),
    encode(Heartbeat(role="edge", name="edge-0", leaving=True, incarnation=2**52)),
    encode(Heartbeat(role="worker", name="w", incarnation=2**52)),
]
TAILS = [
    "default.up.x.a",
    "default.up.edge-0.x.a",
    "default.match.5.a",
    "default.match.5.edge-0.batch",
    "default.dn.edge-0.a",
    "default.ctl.edge-0.a",
    *(f"default.ack.edge-0.a.7.0.{shape}" for shape in ("a", "p", "q", "e", "t4")),
    "sys.hb.edge.edge-1",
    "sys.hb.worker.w1",
    "sys.probe.edge-0",
    "sys.explain",
    "sys.cluster",
    "sys.devices",
    "sys.device",
]
KEYS = [b"dev.default.a", b"dev.default.\xff", b"dev", b"pair.default.x", b"pair.default.7", b"\xc3.\xff"]


def publish_everywhere(sender: Stranger, payload: bytes) -> None:
    for tail in TAILS:
        subject = f"{subjects.ROOT}.{tail}".encode()
        for each in (subject, subject + b"\xff", subject[:-1] + b"\xff", subject + b"\x0b9"):
            sender.publish(each, payload)
            sender.publish(each, payload, b"cm.v1.default.ack.edge-0.a.7.\xff")


async def test_what_nobody_can_read_stops_neither_worker_nor_edge(
    nats_server: NatsServer, start: Callable[..., Service]
) -> None:
    worker = start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url})
    edge = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url})
    async with stranger(nats_server.url) as sender:
        for key in KEYS:
            for value in (b"\xff", DEEP, b"{}", encode(LEAVE)):
                sender.publish(BUCKET_PREFIX.encode() + key, value)
        async with device(edge, "c", 1, 1) as c, device(edge, "d", 1, 1, radius=1000) as d:
            assert await receive_text(c) == "I matched with device 'd'!"
            assert await receive_text(d) == "I matched with device 'c'!"
            for payload in (b"", b"\xff", DEEP, b"1 " * 100_000, b"9" * 5000, *VALID):
                publish_everywhere(sender, payload)
            unreadable = "cloudmatch_bus_unreadable_total"
            await eventually(lambda: worker.metric(unreadable) > 50 and edge.metric(unreadable) > 50)
            await d.send("ciao")
            assert await receive_text(c) == "device d says: ciao"
            # whose record nobody could read
            async with device(edge, "a", 1, 5, radius=1) as a, device(edge, "b", 1, 5, radius=1) as b:
                assert await receive_text(a) == "I matched with device 'b'!"
                await a.send("hello")
                assert await receive_text(b) == "I matched with device 'a'!"
                assert await receive_text(b) == "device a says: hello"
    for each in (worker, edge):
        assert each.metric("cloudmatch_bus_reconnects_total") == 0
        assert each.logs().count("Traceback") == 0, each.logs()
