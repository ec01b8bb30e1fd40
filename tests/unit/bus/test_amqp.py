"""Size messages, and the exchanges and queues that they pass."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract import amqp
from cloudmatch_bus.contract.amqp import MAX_DIGITS, SizeMessage, UnreadableError
from cloudmatch_bus.contract.amqp_tolerance import UNREADABLE_HEADERS
from unit.bus.recorder import Recorder

HEADERS = {"app": "demo", "from": "alice", "to": "bob", "match": 7, "at": 1_700_000_000_000}

messages = st.builds(
    SizeMessage,
    st.integers(0, 10**MAX_DIGITS - 1),
    st.text(min_size=1),
    st.text(),
    st.text(),
    st.integers(0),
    st.none() | st.integers(0, 10**14),
    st.none() | st.text(min_size=1),
)


@given(messages)
def test_every_message_is_decoded_as_it_was_encoded(message: SizeMessage) -> None:
    body, _, message_id, correlation_id, timestamp, headers = message.encode()
    assert SizeMessage.decode(body, headers, message_id, timestamp) == message
    assert correlation_id == message_id


@given(messages)
def test_a_routing_key_is_two_tokens(message: SizeMessage) -> None:
    assert message.encode().routing_key.count(".") == 1


def test_a_time_in_the_headers_counts_before_the_timestamp() -> None:
    sent = datetime.fromtimestamp(1_700_000_000, UTC)
    assert SizeMessage.decode(b"4", {"at": 5}, None, sent).at == 5
    assert SizeMessage.decode(b"4", {}, None, sent).at == 1_700_000_000_000


def test_an_empty_app_is_the_default_app() -> None:
    assert SizeMessage.decode(b"4", {"app": ""}).app == "default"


def test_a_receiver_or_match_of_the_wrong_type_is_unknown() -> None:
    message = SizeMessage.decode(b"4", HEADERS | {"to": 5, "match": "x"})
    assert (message.sender, message.receiver, message.match) == ("alice", "", 0)


@pytest.mark.parametrize(
    "body", [b"", b"four", b"-4", b"4.0", b" 4", b"4\n", b"\xd9\xa4", b"\xff", b"1" * 16]
)
def test_a_body_that_is_not_an_ascii_decimal_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError, match="the body"):
        SizeMessage.decode(body, HEADERS)


@pytest.mark.parametrize(
    "headers",
    [
        {"from": 5},
        {"app": b"demo"},
        {"at": "now"},
        {"at": -1},
        {"at": True},
        {"at": 1.5},
        {"at": amqp.MAX_TIME},
    ],
)
def test_a_header_of_the_wrong_type_is_unreadable_and_named(headers: dict[str, object]) -> None:
    with pytest.raises(UnreadableError, match=f"header '{next(iter(headers))}'"):
        SizeMessage.decode(b"4", HEADERS | headers)


async def test_exchanges_and_queues_are_durable_and_rejected_messages_become_dead_letters() -> None:
    calls: list[tuple[Any, ...]] = []
    queue = await amqp.declare(Recorder(calls), "quorum")
    assert queue.name == "cloudmatch.bytes.analytics"
    dead = {"x-queue-type": "quorum"}
    assert calls == [
        ("exchange", "cloudmatch.bytes", "topic", True),
        ("exchange", "cloudmatch.bytes.dead", "fanout", True),
        ("queue", "cloudmatch.bytes.dead", True, dead),
        ("bind", "cloudmatch.bytes.dead", "cloudmatch.bytes.dead", "cloudmatch.bytes.dead"),
        ("queue", queue.name, True, dead | {"x-dead-letter-exchange": "cloudmatch.bytes.dead"}),
    ]


async def test_a_bound_queue_gets_all_that_is_published_to_its_exchange() -> None:
    calls: list[tuple[Any, ...]] = []
    queue = await amqp.declare_bound(Recorder(calls), "news", "readers", "unread", "classic")
    kind = {"x-queue-type": "classic"}
    assert queue.name == "readers"
    assert calls == [
        ("exchange", "news", "topic", True),
        ("exchange", "unread", "fanout", True),
        ("queue", "unread", True, kind),
        ("bind", "unread", "unread", "unread"),
        ("queue", "readers", True, kind | {"x-dead-letter-exchange": "unread"}),
        ("bind", "readers", "news", "#"),
    ]


class MissingError(Exception):
    """There is no such queue."""


class Connection:
    """A driver's connection whose channels close, as RabbitMQ's do, once a queue is found missing."""

    def __init__(self, *existing: str) -> None:
        self.existing = set(existing)
        self.calls: list[tuple[Any, ...]] = []

    def channel(self) -> "Plain":
        return Plain(self)


class Plain(Recorder):
    """A channel of it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.calls)
        self.connection, self.open = connection, False

    async def __aenter__(self) -> "Plain":
        self.open = True
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.open = False

    async def declare_queue(
        self, name: str, /, *, durable: bool, passive: bool = False, arguments: dict[str, Any] | None = None
    ) -> Recorder:
        assert self.open
        if passive and name not in self.connection.existing:
            self.open = False
            raise MissingError
        return await super().declare_queue(name, durable=durable, arguments={"passive": passive})


async def test_a_plain_queue_is_durable_without_arguments_and_bound_if_asked() -> None:
    connection = Connection()
    await amqp.declare_plain(connection, "testqueue", MissingError)
    assert connection.calls == [("queue", "testqueue", True, {"passive": False})]
    connection.calls.clear()
    await amqp.declare_plain(connection, "testqueue", MissingError, amqp.EXCHANGE)
    assert connection.calls[1:] == [("bind", "testqueue", "cloudmatch.bytes", "#")]


async def test_a_plain_queue_that_exists_is_not_declared_again_but_bound_as_it_is() -> None:
    connection = Connection("testqueue")
    await amqp.declare_plain(connection, "testqueue", MissingError, amqp.EXCHANGE)
    assert connection.calls == [
        ("queue", "testqueue", True, {"passive": True}),
        ("bind", "testqueue", "cloudmatch.bytes", "#"),
    ]


def test_the_names_of_plain_queues_are_split_at_commas() -> None:
    assert amqp.plain_queues("") == []
    assert amqp.plain_queues(f"testqueue,sizes of 2019,{'é' * 127}x") == [
        "testqueue",
        "sizes of 2019",
        "é" * 127 + "x",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (",", "'' is empty"),
        ("a,", "'' is empty"),
        ("a, b", "' b' is empty, or begins or ends with a space"),
        ("a\n", r"'a\\n' is not printable"),
        ("\udcff", r"'\\udcff' is not printable"),
        ("é" * 128, "has more than 255 bytes"),
        ("a,amq.gen-1", "'amq.gen-1' begins with 'amq.'"),
        ("a,b,a", "'a' is there twice"),
        (amqp.QUEUE, "'cloudmatch.bytes.analytics' begins with 'cloudmatch.'"),
        (amqp.DEAD_QUEUE, "'cloudmatch.bytes.dead' begins with 'cloudmatch.'"),
    ],
)
def test_a_name_that_no_plain_queue_can_have_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        amqp.plain_queues(text)


def test_the_headers_of_a_dead_letter_say_from_where_it_comes_and_can_be_encoded() -> None:
    now = datetime.fromtimestamp(1_700_000_000, UTC)
    death = {"count": 1, "reason": "rejected", "queue": "q", "exchange": "e", "routing-keys": ["k"]}
    death |= {"time": now}
    headers = {"from": b"\xff", "deep": [{"a": b"\xff"}, 1]}
    assert amqp.dead_letter_headers(headers, "q", "e", "k", now) == {
        "from": bytearray(b"\xff"),
        "deep": [{"a": bytearray(b"\xff")}, 1],
        "x-death": [death],
    }
    earlier = {"x-death": [{"count": 2}]}
    assert amqp.dead_letter_headers(earlier, "q", "e", "k", now) == {"x-death": [death, {"count": 2}]}


def test_headers_that_the_driver_could_not_decode_are_unreadable() -> None:
    with pytest.raises(UnreadableError, match="headers"):
        SizeMessage.decode(b"4", {UNREADABLE_HEADERS: bytearray(b"x")})
