"""What each process may do on real servers, and the rotation of keys and certificates."""

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from cloudmatch_bus.client import optional_consumer
from cloudmatch_bus.client.bucket import Bucket, Write
from cloudmatch_bus.client.connection import Bus, NoRespondersError, connect
from cloudmatch_bus.client.consumer import DurableConsumer, Held
from cloudmatch_bus.client.durable import DurableState
from cloudmatch_bus.client.provision import ensure_provisioned, provision
from cloudmatch_bus.client.publisher import FactPublisher, publish_once
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams, subjects
from cloudmatch_bus.contract.messages import DeviceConnected, MatchEnded, PairRecord, encode
from cloudmatch_bus.contract.permissions import inbox
from cloudmatch_bus.tools import nkeys_cli
from cloudmatch_match_engine.core.facts import HALF, match_ended, match_made
from deploy.loopback import NODES, Environment, Node, certificate
from harness import BIN, Process, eventually

pytestmark = pytest.mark.servers
RELOAD = ["nats-server", "--signal", "reload=/run/nats/nats.pid"]
NAMES = {"edge": "edge-0", "match-engine": "worker-0"}  # of processes; others are named after their role
PATIENCE = 5.0  # s for a permitted message to arrive


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Environment]:
    """The environment `local`: one server, a key for each role."""
    environment = Environment("overlays/local", tmp_path)
    with environment.nats():
        yield environment


class Denials(list[str]):
    """The denials that a user has received."""

    async def wait_for(self, operation: str) -> None:
        """Return once the server has denied this operation."""
        denied = operation.lower()
        await eventually(lambda: any(denied in each for each in self), PATIENCE, f"a denial of {operation}")


@contextlib.asynccontextmanager
async def user(
    environment: Environment, role: str, denials: Denials | None = None, name: str = ""
) -> AsyncIterator[Bus]:
    """Connect as a process of a role. Denials are added to `denials`; without it, none may occur."""
    settings = environment.person(role, name or NAMES.get(role, role))
    bus = await asyncio.wait_for(connect(settings, role), 10)
    observed = Denials() if denials is None else denials
    report = bus.client._error_cb

    async def note(error: Exception) -> None:
        observed.append(str(error).lower())
        await report(error)

    bus.client._error_cb = note  # type: ignore[assignment]  # an async function, as before
    try:
        yield bus
        await bus.client.flush()
        assert denials is not None or not observed
    finally:
        await bus.close()


FORBIDDEN_PUBLICATIONS = [
    ("edge", subjects.heartbeat("edge", "edge-1")),
    ("edge", subjects.match_batch(subjects.match_lane("demo", "cell"), "edge-1")),
    ("edge", subjects.match("demo", "cell", "a")),  # which names no edge
    ("edge", subjects.ev("demo", "deliveries", "edge-1")),
    ("edge", subjects.ev("demo", "deliveries", "journal")),
    ("edge", subjects.ev("demo", "claimed", "edge-1")),
    ("edge", f"{inbox('edge', 'edge-1')}.x"),
    ("edge", f"{inbox('match-engine', 'worker-0')}.x.y"),  # which answers its other requests
    ("edge", subjects.up("demo", "edge-1", "a")),
    ("edge", subjects.up_fallback("demo", "edge-1", "a")),
    ("edge", "cm.v1.demo.up.99.a"),  # which does not say who sends it
    ("edge", "cm.v1.demo.up.edge-0.a"),
    ("edge", subjects.dn("demo", "edge-1", "a")),
    ("edge", subjects.ctl("demo", "edge-1", "a")),
    ("edge", subjects.ev("demo", "matched", "a")),
    ("edge", subjects.cluster()),
    ("edge", subjects.devices()),
    ("edge", subjects.device()),
    ("edge", "$KV.match.dev.demo.a"),
    ("edge", "$JS.API.STREAM.UPDATE.EVENTS"),
    ("edge", "$JS.ACK.EVENTS.bridge-rabbit.1.1.1.1.1"),
    ("match-engine", subjects.heartbeat("worker", "worker-1/17-1")),
    ("match-engine", subjects.heartbeat("edge", "edge-1")),
    ("match-engine", f"{inbox('journal', 'journal')}.x"),
    ("match-engine", subjects.up("demo", "edge-1", "a")),
    ("match-engine", subjects.ev("demo", "delivered", "a")),
    ("match-engine", "$JS.API.STREAM.DELETE.EVENTS"),
    ("match-engine", "$JS.API.STREAM.PURGE.KV_match"),
    ("journal", subjects.ev("demo", "deliveries", "edge-0")),
    ("journal", subjects.ev("demo", "delivered", "a")),
    ("journal", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.bridge-rabbit"),
    ("journal", "$JS.API.CONSUMER.CREATE.EVENTS"),  # whose deliver subject could be anyone's
    ("journal", "$JS.API.CONSUMER.CREATE.EVENTS.one"),
    ("journal", "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.one"),
    ("journal", "$JS.API.STREAM.MSG.GET.KV_match"),
    ("journal", "$JS.API.CONSUMER.DELETE.EVENTS.bridge-rabbit"),
    ("journal", "$JS.API.CONSUMER.DELETE.EVENTS.bridge-rabbit-singles"),
    ("journal", "$KV.match.dev.demo.a"),
    ("bridge-rabbit", subjects.ev("demo", "delivered", "a")),
    ("bridge-rabbit", "$JS.API.CONSUMER.CREATE.EVENTS.other"),
    ("bridge-rabbit", "$JS.API.CONSUMER.DELETE.EVENTS.bridge-rabbit"),
    ("trace", subjects.up("demo", "edge-1", "a")),
    ("trace", subjects.explain()),
    ("trace", subjects.cluster()),
    ("trace", subjects.devices()),
    ("journal", subjects.devices()),
    ("bridge-rabbit", subjects.device()),
    ("trace", "$JS.API.INFO"),
    ("operator", subjects.dn("demo", "edge-1", "a")),
]
FORBIDDEN_SUBSCRIPTIONS = [
    ("edge", subjects.all_of("up"), ""),
    ("edge", subjects.every_ev(), ""),
    ("edge", subjects.every_dn("edge-1"), ""),
    ("edge", subjects.all_of("dn"), ""),
    ("edge", subjects.every_ack("edge-1"), ""),
    ("edge", subjects.every_ctl("edge-1"), ""),
    ("edge", subjects.probe("edge-1"), ""),
    ("edge", subjects.every_heartbeat("edge"), ""),
    ("edge", f"{inbox('edge', 'edge-1')}.>", ""),
    ("edge", f"{inbox('edge', '*')}.>", ""),
    ("edge", "_INBOX_match-engine.>", ""),
    ("edge", "$KV.match.>", ""),
    ("match-engine", subjects.all_of("up"), ""),  # outside its queue group
    ("match-engine", subjects.every_up_of(1), ""),
    ("match-engine", subjects.every_up_of(1), "other"),
    ("match-engine", subjects.cluster(), ""),
    ("match-engine", subjects.devices(), ""),
    ("match-engine", subjects.all_of("dn"), ""),
    ("match-engine", subjects.EVERYTHING, ""),
    ("journal", subjects.every_ev(), ""),
    ("bridge-rabbit", subjects.EVERYTHING, ""),
    ("bridge-rabbit", f"{inbox('bridge-rabbit', 'bridge-rabbit-1')}.>", ""),
    ("trace", "_INBOX_edge.>", ""),
    ("trace", ">", ""),
    ("operator", "_INBOX_match-engine.>", ""),
]


async def test_an_operation_without_permission_is_denied_logged_and_counted(
    here: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    for name in dict.fromkeys(name for name, *_ in (*FORBIDDEN_PUBLICATIONS, *FORBIDDEN_SUBSCRIPTIONS)):
        denials = Denials()
        before = denied()
        async with user(here, name, denials) as bus:
            publications = [subject for who, subject in FORBIDDEN_PUBLICATIONS if who == name]
            for subject in publications:
                assert bus.publish(subject, b"ciao")
            subscriptions = [each[1:] for each in FORBIDDEN_SUBSCRIPTIONS if each[0] == name]
            for subject, queue in subscriptions:
                await bus.subscribe(subject, lambda *_: None, queue)
            for subject in publications:
                await denials.wait_for(f'publish to "{subject}"')
            for subject, queue in subscriptions:
                await denials.wait_for(
                    f'subscription to "{subject}"' + (f' using queue "{queue}"' if queue else "")
                )
        assert denied() - before == len(publications) + len(subscriptions)
        if publications:
            denial = f'permissions violation for publish to "{publications[0]}'.lower()
            assert f"permission denied by nats: nats: {denial}" in caplog.text.lower()


def denied() -> float:
    """Return the number of denials so far."""
    return REGISTRY.get_sample_value("cloudmatch_bus_denied_total") or 0


async def test_a_service_that_may_not_create_streams_waits_until_they_exist(
    here: Environment,
) -> None:
    async with user(here, "edge") as edge:
        waiting = asyncio.create_task(ensure_provisioned(edge, 1, create=False))
        async with user(here, "match-engine") as worker:
            assert not waiting.done()
            await provision(worker, 1)
            assert await asyncio.wait_for(waiting, PATIENCE)
            key = "dev.demo.a"
            bucket = Bucket(worker)
            revision = await bucket.commit([Write(key, b"1", 0), Write("pair.demo.1", b"2", 0)])
            assert revision == (await bucket.get(key)).revision + 1


async def test_the_bridge_makes_its_consumers_and_deletes_that_of_singles(
    here: Environment,
) -> None:
    handled, singles, others = list[Held](), list[int](), list[int]()
    stop, end = asyncio.Event(), asyncio.Event()

    async def handle(facts: list[Held]) -> None:
        handled.extend(facts)
        stop.set()

    async with (
        user(here, "match-engine") as worker,
        user(here, "bridge-rabbit") as bridge,
        user(here, "operator") as operator,
    ):
        await provision(worker, 1)
        await operator.jetstream().delete_consumer(streams.EVENTS, "bridge-rabbit")
        fact = MatchEnded(app="demo", at=1, match=1, device="a", peer="b", reason="left")
        subject = subjects.ev(fact.app, fact.kind, fact.primary_device)
        await worker.jetstream().publish(subject, encode(fact))  # stored before either consumer is there
        state = DurableState(bridge, streams.SINGLES, new=True, on_look=singles.append)
        looking = [
            asyncio.create_task(each.keep(end))
            for each in (state, DurableState(bridge, "bridge-rabbit", on_look=others.append))
        ]
        await eventually(lambda: singles == [0] and others == [1], PATIENCE, "both consumers")
        worker.publish(subject, encode(fact))
        await DurableConsumer(bridge, streams.SINGLES, state=state).run(handle, stop)
        assert [held.fact for held in handled] == [fact]
        await eventually(lambda: others[-1] == 2 and singles[-1] == 0, PATIENCE, "the ack")
        end.set()
        await asyncio.gather(*looking)
        assert await optional_consumer.remove(bridge, streams.SINGLES)
        assert not await optional_consumer.remove(bridge, streams.SINGLES)


async def test_clients_without_a_known_key_are_rejected(here: Environment) -> None:
    settings = here.person("edge")
    nkeys_cli.make_keys(strange := here.folder / "strange")
    nkeys_cli.write(file := here.folder / "unknown", nkeys_cli.mint(strange, "edge", "edge-0"))
    for unknown in (NatsSettings(url=settings.url), replace(settings, credentials_file=str(file))):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect(unknown, "edge"), 1.5)
    server = here.nodes[0].process
    await eventually(lambda: "authentication error" in server.log, PATIENCE, "the server's word")


async def test_operators_may_read_stream_states_and_ask_match_engine(here: Environment) -> None:
    async with user(here, "match-engine") as worker, user(here, "operator") as operator:
        await provision(worker, 1)
        assert (await operator.jetstream().stream_info(streams.EVENTS)).state.messages == 0
        answers: list[bytes] = []
        await operator.subscribe("_INBOX.cli", lambda *message: answers.append(message[2]))
        for question in (subjects.explain(), subjects.cluster(), subjects.devices(), subjects.device()):
            with pytest.raises(NoRespondersError):
                await operator.request(question, b"{}")

            def answer(_: str, reply: str, payload: bytes, __: object) -> None:
                worker.publish(reply, payload)

            await worker.subscribe(question, answer, subjects.QUEUE_GROUP)
            await worker.client.flush()
            operator.publish(question, question.encode(), "_INBOX.cli")  # as the command `nats` does
            await eventually(lambda: answers, PATIENCE, "the answer")
            assert answers.pop() == question.encode()


async def test_a_message_id_that_another_role_has_used_suppresses_no_fact(here: Environment) -> None:
    pair = PairRecord(app="demo", match=7, device="a", peer="b", at=1, nonce=secrets.token_hex(HALF))
    facts = match_made(pair), match_ended("demo", 7, "a", "b", "left", 2, pair.nonce)
    claimed = DeviceConnected(app="demo", at=1, device="a", edge="edge-0", connection_id=1, lat=0, lon=0)
    async with user(here, "edge") as edge, user(here, "match-engine") as worker:
        await provision(worker, 1)
        guesses = [f"{kind}-demo-7{end}" for kind in ("matched", "unmatched") for end in ("", "-")]
        for each in guesses:
            assert publish_once(edge, claimed, each)
        await edge.client.flush()
        for fact, key in (*facts, *facts):  # again, as after the death of a worker
            assert publish_once(worker, fact, key)
        await eventually(lambda: stored(worker, len(guesses) + len(facts)), PATIENCE, "each fact, once")
        publishers = [FactPublisher(bus) for bus in (edge, edge, worker)]
        assert len({each._origin for each in publishers}) == len(publishers)
        assert all(len(each._origin) >= 96 // 4 for each in publishers), "random digits"


async def stored(bus: Bus, facts: int) -> bool:
    """Whether EVENTS has this many facts."""
    return (await bus.jetstream().stream_info(streams.EVENTS)).state.messages == facts


def test_the_tracer_subscribes_with_its_own_key(here: Environment) -> None:
    settings = here.person("trace")
    tracer = Process(
        "trace",
        [BIN / "cloudmatch-trace"],
        {"CLOUDMATCH_NATS_URL": settings.url, "CLOUDMATCH_NATS_CREDENTIALS_FILE": settings.credentials_file},
        here.folder,
    )
    try:
        tracer.wait_line("listening at")
        assert "may not" not in tracer.log
    finally:
        assert tracer.terminate()


async def test_a_key_is_rotated_without_an_interruption(here: Environment) -> None:
    """As in deploy/README.md: the server accepts both keys, users switch, the old one is revoked."""
    (node,) = here.nodes
    old, new = here.keys, here.folder / "new"
    nkeys_cli.make_keys(new, old)
    (secret,) = [name for name in here.secrets if name.startswith("nats-keys-")]

    def accept(*folders: Path) -> None:
        here.secrets[secret]["accounts.conf"] = nkeys_cli.accounts_conf(*folders)
        node.mount()
        node.execute(RELOAD)

    revoked = here.person("edge", "edge-0")
    first = await asyncio.wait_for(connect(revoked, "edge"), PATIENCE)
    accept(old, new)
    await eventually(lambda: "Reloaded: accounts" in node.process.log, PATIENCE, "the reload")
    await first.client.flush()
    assert first.client.stats["reconnects"] == 0  # existing connections stay
    here.keys = new
    second = await asyncio.wait_for(connect(here.person("edge", "edge-1"), "edge"), PATIENCE)
    try:
        accept(new)
        await eventually(lambda: not first.connected, PATIENCE, "the old key's end")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect(revoked, "edge"), 1)
        await second.client.flush()
        assert second.client.stats["reconnects"] == 0
    finally:
        await first.close()
        await second.close()


async def presented(node: Node, trust: str) -> bytes | None:
    """Return the certificate that a NATS server presents."""
    context = ssl.create_default_context(cafile=trust)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.ports["client"])
    try:
        assert (await reader.readline()).startswith(b"INFO ")
        await writer.start_tls(context, server_hostname="nats")
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found
    finally:
        writer.transport.abort()


async def test_the_servers_certificate_is_replaced_while_clients_stay_connected(tmp_path: Path) -> None:
    here = Environment("overlays/production", tmp_path)
    with here.nats() as nodes:
        trust = here.authority_file
        async with user(here, "match-engine") as bus:
            await provision(bus, 3)
            before = [await presented(node, trust) for node in nodes]
            assert len(set(before)) == 1
            here.secrets["nats-tls"] = certificate(here.authority, *NODES)
            for node in nodes:
                node.mount()
                node.execute(RELOAD)

            async def changed() -> bool:
                after = [await presented(node, trust) for node in nodes]
                return len(set(after)) == 1 and not set(after) & set(before)

            await eventually(changed, PATIENCE, "the new certificate")
            assert bus.client.stats["reconnects"] == 0
            assert all(node.healthy() for node in nodes)
            await provision(bus, 3)  # the servers still reach each other
