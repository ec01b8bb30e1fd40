"""What the error of a pipeline means."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from quixstreams import Application
from quixstreams.exceptions.assignment import PartitionAssignmentError
from quixstreams.state.exceptions import InvalidStoreChangelogOffset
from quixstreams.state.rocksdb import RocksDBStorePartition

from cloudmatch_analytics import topics
from cloudmatch_analytics.pipeline import (
    ROCKSDB,
    UNREADABLE_RECORDS,
    Failure,
    PollingApplication,
    StrayRecordError,
    _is_whole,
    add_up,
    diagnose,
    skips,
)
from cloudmatch_analytics.put_aside import put_aside


def caused(error: Exception, cause: Exception) -> Exception:
    """An error with its cause."""
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize("damage", ["MANIFEST", "CURRENT", "sst"])
def test_a_damaged_database_is_damage(tmp_path: Path, damage: str) -> None:
    state = tmp_path / "state"
    made = RocksDBStorePartition(str(state), ROCKSDB)
    made.close()
    for file in state.glob("MANIFEST*") if damage == "MANIFEST" else [state / "CURRENT"]:
        file.write_bytes(b"x" * 99 if damage != "sst" else b"MANIFEST-999999\n")
    with pytest.raises(Exception) as raised:  # noqa: PT011 # whatever it is
        RocksDBStorePartition(str(state), ROCKSDB)
    assert diagnose(raised.value).damaged
    assert diagnose(caused(PartitionAssignmentError("Error"), raised.value)).damaged
    name = put_aside(state, tmp_path / "missing")
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Exception("IO error: No space left on device"), Failure("IO error: No space left on device")),
        (OSError(28, "No space left on device", "/a/b"), Failure("/a/b: No space left on device")),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), None),
        (ZeroDivisionError("division by zero"), Failure("division by zero", expected=False)),
        (KeyError(), Failure("KeyError", expected=False)),
    ],
)
def test_other_errors_are_of_the_disk_of_kafka_or_our_own(error: Exception, failure: Failure | None) -> None:
    found = diagnose(caused(RuntimeError("around it"), error))
    assert not found.damaged
    assert not found.foreign
    assert found == failure if failure else found.expected


def test_changelogs_that_were_created_again_are_foreign() -> None:
    assert diagnose(InvalidStoreChangelogOffset("The offset in the state store")).foreign


def test_a_record_that_cannot_be_read_is_counted_and_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudmatch_analytics.pipeline.message_context", lambda: SimpleNamespace(partition=3))
    before = UNREADABLE_RECORDS._value.get()
    for value, key in ((b"{}", "batches"), (b"", "7"), (b'{"told":5,"sizes":[]}', "7"), (b"\xff\xfe", "7")):
        assert add_up(value, key, 0, None, {}) == (0, {})
    assert UNREADABLE_RECORDS._value.get() == before + 4


def test_records_without_a_key_or_a_value_are_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudmatch_analytics.pipeline.message_context", lambda: SimpleNamespace(partition=3))
    before = UNREADABLE_RECORDS._value.get()
    assert [_is_whole(value, key, 0, None) for value, key in ((None, "7"), (b"{}", None))] == [False, False]
    assert UNREADABLE_RECORDS._value.get() == before + 2
    assert _is_whole(b"", "tick", 0, None)


def test_a_record_whose_key_cannot_be_decoded_is_skipped_and_errors_of_kafka_are_raised() -> None:
    before = UNREADABLE_RECORDS._value.get()
    log = logging.getLogger()
    assert skips(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), SimpleNamespace(partition=lambda: 3), log)
    assert UNREADABLE_RECORDS._value.get() == before + 1
    assert not skips(KafkaException(KafkaError(KafkaError._TRANSPORT)), None, log)


@pytest.mark.parametrize(("key", "raised"), [(topics.CHANGELOG, StrayRecordError), ("another key", KeyError)])
def test_a_record_of_a_changelog_that_comes_late_ends_the_pipeline_as_expected(
    monkeypatch: pytest.MonkeyPatch, key: str, raised: type[Exception]
) -> None:
    def process(_: object, __: object) -> None:
        raise KeyError(key)

    monkeypatch.setattr(Application, "_process_message", process)
    with pytest.raises(raised) as error:
        PollingApplication.__new__(PollingApplication)._process_message({})
    assert diagnose(error.value).expected == (raised is StrayRecordError)
