"""Numbers beyond all sense are refused where messages are decoded; the largest that make sense are not."""

import json

import msgspec
import pytest

from cloudmatch_bus.contract import messages
from cloudmatch_bus.contract.bounds import EXACT, YEAR_2100
from cloudmatch_bus.contract.deliveries import MAX_BYTES, MAX_PAYLOADS

SPAN = ["a", "b", 7, 0, 1, 4, "4"]
LEFT = {"type": "left", "app": "x", "at": 1, "device": "a", "edge": "e", "session": 1, "code": 1000}
DELIVERED = {
    "type": "delivered",
    "app": "x",
    "at": 1,
    "match": 1,
    "sender": "a",
    "receiver": "b",
    "sizes": [4],
}
REPORTED = {"type": "reported", "app": "x", "at": 1, "device": "a", "eventType": "bytesSent", "amount": 4}
COUNTED = {"type": "deliveries", "app": "x", "at": 1, "source": "e", "start": 1, "number": 1, "spans": [SPAN]}
SEEK = {"type": "seek", "app": "x", "device": "a", "edge": "e", "session": 1, "lat": 1, "lon": 1}
BEAT = {"role": "edge", "name": "e"}
POSITION = {"edge": "e", "session": 1, "next": 1, "taken": 1}

BOUNDS = [
    (messages.decode_fact, LEFT, "at", 0, YEAR_2100),
    (messages.decode_fact, LEFT, "session", 0, EXACT - 1),
    (messages.decode_fact, LEFT, "code", 0, 65535),
    (messages.decode_fact, DELIVERED, "match", 0, EXACT - 1),
    (messages.decode_fact, REPORTED, "amount", -(2**63), 2**63 - 1),
    (messages.decode_fact, COUNTED, "start", 0, EXACT - 1),
    (messages.decode_fact, COUNTED, "number", 0, EXACT - 1),
    (messages.decode_request, SEEK, "session", 0, EXACT - 1),
    (messages.decode_request, SEEK, "start", 0, EXACT - 1),
    (messages.decode_request, SEEK, "place", 0, EXACT - 1),
    (messages.decode_request, SEEK, "patience", 0, 10**9),
    (messages.decode_request, SEEK, "lat", -90, 90),
    (messages.decode_request, SEEK, "lon", -180, 180),
    (messages.decode_request, SEEK, "radius", 0, None),
    (messages.decode_heartbeat, BEAT, "start", 0, EXACT - 1),
    (messages.decode_heartbeat, BEAT, "devices", 0, 2**40),
    (messages.decode_position, POSITION, "next", 0, EXACT - 1),
    (messages.decode_position, POSITION, "taken", 0, EXACT - 1),
    (messages.decode_position, POSITION, "base", 0, EXACT - 1),
]


@pytest.mark.parametrize(("decode", "message", "field", "least", "most"), BOUNDS)
def test_a_number_is_read_up_to_its_bounds_and_refused_beyond(
    decode: object, message: dict[str, object], field: str, least: int, most: int | None
) -> None:
    beyond = [least - 1, -(2**70), *([] if most is None else [most + 1, 2**70])]
    for value in (least, least if most is None else most):
        decode(json.dumps({**message, field: value}).encode())  # type: ignore[operator]
    for value in beyond:
        with pytest.raises(msgspec.ValidationError):
            decode(json.dumps({**message, field: value}).encode())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("index", "most"), [(2, EXACT - 1), (3, EXACT - 1), (4, MAX_PAYLOADS), (5, MAX_BYTES - 1)]
)
def test_so_are_the_numbers_of_a_span(index: int, most: int) -> None:
    def fact(value: int) -> bytes:
        return json.dumps({**COUNTED, "spans": [[*SPAN[:index], value, *SPAN[index + 1 :]]]}).encode()

    messages.decode_fact(fact(most))
    for value in (-1, most + 1, 2**70):
        with pytest.raises(msgspec.ValidationError):
            messages.decode_fact(fact(value))


def test_so_is_the_size_of_a_payload() -> None:
    messages.decode_fact(json.dumps({**DELIVERED, "sizes": [0, 2**31 - 1]}).encode())
    for size in (-1, 2**31):
        with pytest.raises(msgspec.ValidationError):
            messages.decode_fact(json.dumps({**DELIVERED, "sizes": [size]}).encode())
