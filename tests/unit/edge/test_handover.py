"""Connections of one device agree on which reports the sizes of which payloads."""

from cloudmatch_bus.contract import subjects
from cloudmatch_edge.relay.handover import Handover
from unit.edge.fakes import APP, CONNECTION, DEVICE, FakeBus, paired

PREVIOUS = (5, "edge-p")
SUCCESSOR = (15, "edge-s")


def handover(bus: FakeBus, *, previous: tuple[int, str] = (0, ""), met: int = CONNECTION) -> Handover:
    return Handover(bus, APP, DEVICE, CONNECTION, paired(7, met=met, previous=previous))


def question(to: tuple[int, str], asker: int, edge: str) -> tuple[str, bytes, str]:
    """What is published to ask a connection where it began."""
    connection, its_edge = to
    subject = f"{subjects.ack_prefix(APP, its_edge, DEVICE, 7)}0.{subjects.HANDOVER}"
    return subject, subjects.handover_payload(asker, edge, connection), ""


def reply(to: tuple[int, str], base: int, since: int = 0) -> tuple[str, bytes, str]:
    """What is published to tell a connection where its successor began."""
    connection, edge = to
    subject = f"{subjects.ack_prefix(APP, edge, DEVICE, 7)}{base}.{subjects.HANDOVER_REPLY}"
    return subject, subjects.handover_reply_payload(connection, since), ""


def test_messages_to_this_end_go_to_its_own_edge() -> None:
    assert handover(FakeBus()).prefix == f"cm.v1.{APP}.ack.edge-a.{DEVICE}.7."


def test_a_superseded_connection_asks_its_successor_until_it_is_cut_off() -> None:
    bus = FakeBus()
    superseded = handover(bus)
    superseded.ask()
    assert superseded.done
    superseded.supersede(*SUCCESSOR)
    assert not superseded.done
    superseded.ask()
    assert bus.pop_published() == [question(SUCCESSOR, CONNECTION, "edge-a")]
    superseded.cut_off(9, 0, 9)
    assert superseded.done
    superseded.ask()
    assert bus.pop_published() == []


def test_a_successor_on_an_unknown_edge_is_not_asked() -> None:
    superseded = handover(FakeBus())
    superseded.supersede(15, "")
    assert superseded.done


def test_a_connection_that_begins_tells_the_previous_one_unasked() -> None:
    bus = FakeBus()
    handover(bus, previous=PREVIOUS, met=5).begin(9)
    assert bus.pop_published() == [reply(PREVIOUS, 9)]
    handover(bus, met=5).begin(9)
    assert bus.pop_published() == []


def test_a_connection_answers_once_it_knows_where_it_began() -> None:
    bus = FakeBus()
    successor = handover(bus, met=5)
    successor.answer(*PREVIOUS)
    assert bus.pop_published() == []
    successor.begin(9)
    successor.answer(*PREVIOUS)
    assert bus.pop_published() == [reply(PREVIOUS, 9)]


def test_the_connection_that_was_matched_began_at_0() -> None:
    bus = FakeBus()
    handover(bus).answer(*PREVIOUS)
    assert bus.pop_published() == [reply(PREVIOUS, 0)]


def test_a_question_from_before_the_previous_connection_is_forwarded_to_it() -> None:
    bus = FakeBus()
    handover(bus, previous=PREVIOUS).answer(3, "edge-o")
    assert bus.pop_published() == [question(PREVIOUS, 3, "edge-o")]


def test_a_connection_that_sent_nothing_answers_with_where_its_successor_began() -> None:
    bus = FakeBus()
    idle = handover(bus, previous=PREVIOUS, met=5)
    idle.cut_off(9, 0, None)
    idle.answer(*PREVIOUS)
    assert bus.pop_published() == [reply(PREVIOUS, 9)]


def test_what_a_connection_had_not_sent_again_falls_back_to_the_previous_one() -> None:
    bus = FakeBus()
    for since, sent, rest in ((0, 6, 6), (7, 6, 7)):
        handover(bus, previous=PREVIOUS).cut_off(9, since, sent)
        assert bus.pop_published() == [reply(PREVIOUS, 9, rest)]
    handover(bus, previous=PREVIOUS).cut_off(9, 0, 9)
    handover(bus).cut_off(9, 0, 6)
    assert bus.pop_published() == []
