"""Whatever bytes come from a disk or by HTTP, the journal opens, answers and goes on."""

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from litestar.testing import TestClient
from rich.progress import Progress

from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application
from cloudmatch_journal import files
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Store
from cloudmatch_journal.verification import Verification
from unit.journal.reopened import entries
from unit.journal.samples import SIZE

DATA = segments.encode_lines([segments.to_document(*each) for each in entries(1, 2, 3, 4)], after=0)
SEAL = segments.encode_seal(
    segments.make_seal([segments.to_document(*each) for each in entries(1, 2, 3, 4)], DATA, ["k"])
)
STATE = Ledger().encode()
DEEP = b"[" * 5000


def spoiled(whole: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes; and what is whole, with any bytes in place of a part of it."""
    places = st.integers(0, len(whole))
    cut = st.builds(lambda at, to, by: whole[:at] + by + whole[to:], places, places, st.binary(max_size=20))
    return st.binary(max_size=200) | cut | st.sampled_from([b"", DEEP, b'{"z":' + DEEP, whole + DEEP])


def checked(text: bytes) -> bytes:
    """Put its CRC-32 before it, as a disk that is intact has it."""
    return b"%08x\n%b" % (zlib.crc32(text), text)


snapshots = spoiled(STATE) | spoiled(STATE).map(checked)
seals = spoiled(SEAL) | spoiled(SEAL.partition(b"\n")[2]).map(checked)


@given(spoiled(DATA))
def test_a_segment_of_any_bytes_is_read_and_nothing_of_it_is_lost_from_sight(data: bytes) -> None:
    contents = segments.read(data, 1, 4)
    assert {line.position for line in contents.lines} <= {1, 2, 3, 4}
    assert len(contents.documents) == len(contents.entries) == len(contents.lines)
    assert 0 <= contents.size <= len(data)


@given(seals)
def test_a_seal_of_any_bytes_is_read_or_is_none(data: bytes) -> None:
    seal = segments.decode_seal(data)
    assert seal is None or seal.count >= 0 or data != SEAL


@example(DATA, SEAL, checked(b'{"z":' + DEEP), checked(b'{"z":' + DEEP))
@given(spoiled(DATA), seals, snapshots, snapshots)
def test_a_folder_of_any_bytes_is_opened_read_and_written_to(
    data: bytes, seal: bytes, state: bytes, base: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / segments.segment_name(1)).write_bytes(data)
        (folder / segments.seal_name(1)).write_bytes(seal)
        (folder / files.STATE).write_bytes(state)
        (folder / files.BASE).write_bytes(base)
        store = Store(folder, SIZE)
        try:
            Journal(store, SIZE)
            after = store.position
            with Progress(disable=True) as progress:
                Verification(folder).check_files(progress)
            assert store.append(entries(after + 1)) == 1
            assert [position for position, _ in store.read(after, 9).entries] == [after + 1]
        except StoreError:
            assert seal != SEAL or data != DATA  # it is named, and nothing is answered from it
        finally:
            store.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    store = Store(tmp_path_factory.mktemp("journal"), SIZE)
    journal = Journal(store, SIZE)
    with TestClient(
        application("journal", Health(), handlers(store, journal.ledger, lambda _: True))
    ) as client:
        yield client
    store.close()


REPORT = b'{"deviceId":"a","eventType":"bytesSent","amount":4}'


@given(body=spoiled(REPORT))
def test_a_body_of_any_bytes_is_taken_or_refused(client: TestClient[Any], body: bytes) -> None:
    answer = client.post("/device/event", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or answer.json()["error"]["code"] == "bad_request"


@given(name=st.text(min_size=1, max_size=80))
def test_a_device_of_any_name_has_no_state_and_is_not_forgotten(client: TestClient[Any], name: str) -> None:
    path = "".join(f"%{byte:02X}" for byte in name.encode())
    assert client.get(f"/device/state/{path}").status_code == 404
    assert client.delete(f"/device/{path}").status_code == 404
