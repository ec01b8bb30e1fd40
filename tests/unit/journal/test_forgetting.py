"""A journal that forgets devices: states and files, whenever it is interrupted."""

from pathlib import Path

import pytest
from rich.progress import Progress

from cloudmatch_bus.client.follower import Delivery
from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import AnyFact, DeviceConnected, DeviceForgotten, MatchMade
from cloudmatch_journal import files
from cloudmatch_journal.core.audit import compare
from cloudmatch_journal.journal import Journal, restore
from cloudmatch_journal.store import Store
from cloudmatch_journal.verification import Verification
from unit.journal.samples import SIZE, claimed, counted

ID = "secret-device"


def story(first: int = 1) -> list[Delivery]:
    """Ten events; the device meets b, then c meets b, and the device is forgotten with the last."""
    facts: list[AnyFact] = [
        DeviceConnected(app="default", at=1, device=ID, edge="e", connection_id=1, lat=45.5, lon=9, tag="t"),
        MatchMade(app="default", at=1, match=7, device=ID, peer="b", distance=3.5),
        counted(3, span(ID, "b", 7, 0, [4, 5]), span("b", ID, 7, 0, [6])).fact,
        MatchMade(app="other", at=1, match=8, device="b", peer="c", distance=0),
        counted(5, span(ID, "b", 7, 2, [7])).fact,
        claimed(6, Claim(ID, "b", 7, 5, span(ID, "b", 7, 3, [8, 9]))).fact,
        MatchMade(app="default", at=1, match=9, device="c", peer="b", distance=4.5),
        counted(8, span("c", "b", 9, 0, [10])).fact,
        counted(9, span("c", "b", 9, 1, [11])).fact,
        DeviceForgotten(app="default", at=2, device=ID),
    ]
    return [Delivery(position, fact) for position, fact in enumerate(facts, first)]


async def remember(journal: Journal, *some: Delivery) -> None:
    for each in some:
        await journal.append([each])


def named(folder: Path) -> dict[str, int]:
    """How often each file names the device."""
    counts = {file.name: file.read_text().count(ID) for file in folder.iterdir()}
    return {name: count for name, count in counts.items() if count}


def written(folder: Path) -> dict[str, int]:
    """When each file was written last."""
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


async def test_the_state_goes_and_the_history_of_peers_stays_exact(journal: Journal) -> None:
    *before, forgotten = story()
    await remember(journal, *before)
    b = journal.ledger.device("default", "b")
    assert b is not None
    received = b.bytes_received, b.bytes_sent, b.messages_received, b.matches
    await remember(journal, forgotten)
    assert journal.ledger.device("default", ID) is None
    assert (b.bytes_received, b.bytes_sent, b.messages_received, b.matches) == received == (37, 6, 5, 2)
    match = journal.ledger.match(7)
    assert match is not None
    assert match.devices == ("forgotten-10", "b")
    assert match.distance == 0
    assert [(d.sender, d.receiver, d.bytes) for d in match.directions] == [
        ("forgotten-10", "b", 16),
        ("b", "forgotten-10", 6),
    ]


async def test_the_files_name_the_device_no_more_and_are_intact(journal: Journal, tmp_path: Path) -> None:
    *before, forgotten = story()
    await remember(journal, *before)
    journal.save()
    sums = journal.store.size
    assert set(named(tmp_path)) >= {"state.json", "events-00000000000000000001.jsonl"}
    await remember(journal, forgotten)
    await journal.erase()
    assert named(tmp_path) == {}
    assert journal.ledger.erasures == []
    assert journal.store.size != sums
    with Progress(disable=True) as progress:
        assert Verification(tmp_path).check_files(progress) == []
    kept = journal.store.read(0, 100).entries
    assert sorted({position for position, _ in kept}) == list(range(1, 11))
    found = journal.store.read(0, 100, device=("default", "forgotten-10")).entries
    assert [position for position, _ in found] == [1, 2, 3, 3, 5, 6, 10]
    assert journal.store.read(0, 100, device=("default", ID)).entries == []
    await remember(journal, Delivery(11, story()[0].fact))  # it comes back
    assert len(journal.store.read(0, 100, device=("default", ID)).entries) == 1
    assert journal.ledger.device("default", ID) is not None


async def test_a_rebuild_from_what_is_left_has_the_same_states(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, SIZE)
    await remember(journal, *story())
    await journal.erase()
    states = journal.ledger.encode()
    (tmp_path / files.STATE).unlink()
    ledger, _ = restore(store)
    again = type(ledger).decode(states)
    for app, device in (("default", "b"), ("default", "c"), ("default", ID)):
        assert ledger.device(app, device) == again.device(app, device)
    assert [ledger.match(number) for number in (7, 9)] == [again.match(number) for number in (7, 9)]
    assert list(ledger.claims) == list(again.claims)
    assert ledger.erasures == []


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("fails", range(6))
async def test_an_erasure_that_is_interrupted_anywhere_is_done_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int, saved: bool
) -> None:
    folder = tmp_path / "journal"
    store = Store(folder, SIZE)
    journal = Journal(store, SIZE)
    await remember(journal, *story())
    if saved:
        journal.save()
    write, writes = files.write_atomically, iter(range(100))

    def interrupted(path: Path, data: bytes) -> None:
        if next(writes) == fails:
            raise OSError(28, "no space left")
        write(path, data)

    monkeypatch.setattr(files, "write_atomically", interrupted)
    await journal.erase()
    store.close()
    monkeypatch.setattr(files, "write_atomically", write)
    store = Store(folder, SIZE)
    journal = Journal(store, SIZE)
    assert journal.ledger.device("default", ID) is None
    await journal.erase()
    assert named(folder) == {}
    with Progress(disable=True) as progress:
        assert Verification(folder).check_files(progress) == []
    assert len(store.read(0, 100).entries) == 11
    store.close()


async def test_states_of_dropped_events_are_erased_too(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, SIZE)
    *before, forgotten = story()
    await remember(journal, *before)
    journal.save()
    store.drop_segments(1)
    await remember(journal, forgotten)
    await journal.erase()
    assert (tmp_path / files.BASE).exists()
    assert named(tmp_path) == {}
    ledger, _ = restore(store)
    assert ledger.device("default", ID) is None


async def test_what_was_erased_does_not_differ_from_the_stream(journal: Journal) -> None:
    await remember(journal, *story())
    await journal.erase()
    documents = [document for part in journal.store.find(0).parts for document in part.search(lambda _: True)]
    assert compare("s", documents, [*story()], range(1, 11)) == []
    documents[1]["match"] = 8
    assert [each.position for each in compare("s", documents, [*story()], range(1, 11))] == [2]


async def test_payloads_that_come_after_their_sender_was_forgotten_count_once(journal: Journal) -> None:
    await remember(journal, *story())
    late = counted(11, span(ID, "b", 7, 2, [7]), span(ID, "b", 7, 3, [8, 9]), span("b", ID, 7, 1, [2]))
    await remember(journal, late)
    match = journal.ledger.match(7)
    assert match is not None
    assert [direction.bytes for direction in match.directions] == [16 + 17, 6 + 2]
    assert journal.ledger.repeated == 1
    assert len(journal.ledger.claims) == 0


async def test_the_same_id_in_another_app_is_another_device(journal: Journal) -> None:
    connected = story()[0].fact
    other = DeviceConnected(app="other", at=1, device=ID, edge="e", connection_id=1, lat=4, lon=9, tag="t")
    await remember(journal, Delivery(1, connected), Delivery(2, other))
    await remember(journal, Delivery(3, DeviceForgotten(app="default", at=2, device=ID)))
    await journal.erase()
    assert journal.ledger.device("other", ID) is not None
    assert [fact for _, fact in journal.store.read(0, 9, device=("other", ID)).entries] == [other]


async def test_nothing_is_written_where_nobody_is_to_be_forgotten(journal: Journal, tmp_path: Path) -> None:
    await remember(journal, *story()[:-1])
    before = written(tmp_path)
    await journal.erase()
    assert written(tmp_path) == before
