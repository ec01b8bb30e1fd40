"""Every message that was ever written can be decoded for ever."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloudmatch_bus.contract import messages, request_batches
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    AnyRequest,
    DeviceRecord,
    Heartbeat,
    PairRecord,
    Position,
    Tombstone,
    encode,
)
from cloudmatch_bus.contract.request_batches import AnswerBatch, RequestBatch

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "messages.json").read_text(encoding="utf-8")
)
DECODERS = {
    "facts": messages.decode_fact,
    "requests": messages.decode_request,
    "answers": messages.decode_answer,
    "request_batches": request_batches.decode_requests,
    "answer_batches": request_batches.decode_answers,
    "devices": messages.decode_device,
    "departures": messages.decode_tombstone,
    "pairs": messages.decode_pair,
    "heartbeats": messages.decode_heartbeat,
    "positions": messages.decode_position,
}
SAMPLES = [(kind, sample) for kind, samples in GOLDEN.items() for sample in samples]


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_a_golden_sample_is_decoded_and_encoded_unchanged(kind: str, sample: dict[str, Any]) -> None:
    message = DECODERS[kind](json.dumps(sample).encode())
    assert json.loads(encode(message)) == sample


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_unknown_fields_of_later_versions_are_ignored(kind: str, sample: dict[str, Any]) -> None:
    decode = DECODERS[kind]
    assert decode(json.dumps({**sample, "future": [1]}).encode()) == decode(json.dumps(sample).encode())


@pytest.mark.parametrize(
    ("kind", "union"), [("facts", AnyFact), ("requests", AnyRequest), ("answers", AnyAnswer)]
)
def test_every_type_has_a_golden_sample_with_all_its_fields(kind: str, union: Any) -> None:
    for struct in union.__args__:
        info = msgspec.structs.fields(struct)
        tag = struct.__struct_config__.tag
        sample = next((s for s in GOLDEN[kind] if s["type"] == tag), None)
        assert sample is not None, tag
        assert set(sample) == {"type", *(f.encode_name for f in info)}


def test_records_have_golden_samples_with_all_their_fields() -> None:
    structs = {
        "devices": DeviceRecord,
        "departures": Tombstone,
        "pairs": PairRecord,
        "heartbeats": Heartbeat,
        "positions": Position,
        "request_batches": RequestBatch,
        "answer_batches": AnswerBatch,
    }
    for kind, struct in structs.items():
        names = {f.encode_name for f in msgspec.structs.fields(struct)}
        assert names in [set(sample) - {"type"} for sample in GOLDEN[kind]]
