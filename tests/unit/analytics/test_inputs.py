"""Messages of RabbitMQ, whatever is in them, are sizes or dead letters."""

import contextlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.kafka_records import Singles, decode_singles, encode, size
from cloudmatch_analytics.inputs import decode_size, publish_dead
from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.amqp_tolerance import UNREADABLE_HEADERS

T = 1_700_000_000_000


@pytest.mark.parametrize("value", [1e300, 10**30, {"a": [1e300]}])
async def test_headers_that_cannot_be_encoded_become_text_in_a_dead_letter(value: object) -> None:
    published: list[Any] = []

    async def publish(body: bytes, **of: Any) -> None:
        published.append((body, of["properties"]))

    properties = spec.Basic.Properties(headers={"app": 5, "odd": value}, message_id="m")
    message = SimpleNamespace(
        body=b"four", header=SimpleNamespace(properties=properties), exchange="", routing_key="q"
    )
    await publish_dead(SimpleNamespace(basic_publish=publish), "q", message)  # type: ignore[arg-type]
    ((body, made),) = published
    assert body == b"four"
    assert (made.message_id, made.headers["app"], made.headers["odd"]) == ("m", 5, repr(value))
    assert made.headers["x-death"][0]["queue"] == "q"
    made.marshal()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.decimals(allow_nan=False)
    | st.text(max_size=9)
    | st.text(min_size=501, max_size=600)
    | st.binary(max_size=9)
    | st.datetimes(timezones=st.just(UTC)),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3),
)
names = st.sampled_from(["app", "from", "to", "match", "at", "batched", UNREADABLE_HEADERS]) | st.text(
    max_size=9
)
bodies = st.binary(max_size=20) | st.integers(0, 10**16).map(lambda number: b"%d" % number)


@given(
    bodies,
    st.none() | st.dictionaries(names, values, max_size=5),
    st.none() | st.text(max_size=255),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_any_message_is_a_size_that_kafka_takes_or_unreadable(
    body: bytes, headers: dict[str, Any] | None, message_id: str | None, timestamp: datetime | None
) -> None:
    properties = SimpleNamespace(headers=headers, message_id=message_id, timestamp=timestamp)
    message = SimpleNamespace(body=body, header=SimpleNamespace(properties=properties))
    with contextlib.suppress(UnreadableError):
        found = size(decode_size(message), T)  # type: ignore[arg-type]
        assert decode_singles(encode(Singles(T, [found]))).sizes == [found]
