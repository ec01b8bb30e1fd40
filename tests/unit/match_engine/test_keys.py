"""Keys of the bucket: escaped like subjects, and parsed back."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.streams import BUCKET_PREFIX
from cloudmatch_match_engine.core.keys import DeviceId, device_id, pair_key, parse_device, source_of
from harness.ids import ids

LINE = 4096  # bytes that NATS takes before a payload


def test_a_key_escapes_what_a_subject_may_not_contain() -> None:
    assert device_id("demo", "a").key == "dev.demo.a"
    key = device_id("my app", "a.b").key
    assert key.count(".") == 2
    assert " " not in key


@given(ids, ids)
def test_a_device_is_parsed_back_from_its_key(app: str, device: str) -> None:
    named = device_id(app, device)
    assert parse_device(named.key) == named
    assert len(f"HPUB {BUCKET_PREFIX}{named.key} _INBOX_match-engine.{'x' * 44} 1000 100000\r\n") <= LINE
    assert (subjects.untoken(named.app), subjects.untoken(named.device)) == (app, device)


@given(ids, st.integers(1, 2**62))
def test_the_key_of_a_match_is_of_no_device(app: str, match: int) -> None:
    key = pair_key(app, match)
    assert key == f"pair.{subjects.token(app)}.{match}"
    assert parse_device(key) is None


@given(ids, ids, ids)
def test_the_source_of_a_batch_is_device_and_edge_of_its_subject(app: str, edge: str, device: str) -> None:
    assert source_of(subjects.up(app, edge, device)) == (device_id(app, device), subjects.token(edge))


def test_a_subject_of_another_kind_has_no_source() -> None:
    assert source_of("cm.v1.demo.up") is None
    assert source_of(subjects.up_fallback("demo", "e", "a")) == (DeviceId("demo", "a"), "e")
    assert source_of("cm.v1.demo.up.99.a") == (DeviceId("demo", "a"), "")
