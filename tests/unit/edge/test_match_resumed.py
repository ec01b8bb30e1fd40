"""Resumed matches: numbers that devices tell are checked, and what is said of the peer comes in order."""

from cloudmatch_bus.contract.messages import decode_position
from cloudmatch_edge.relay.sender import WINDOW_PAYLOADS
from unit.edge.fakes import CONNECTION, PEER_CONNECTION, PEER_EDGE
from unit.edge.match_end import End, position


def test_a_peer_that_returns_with_more_than_was_sent_is_told_how_much_was() -> None:
    end = End()
    end.push("one", "two")
    end.bus.pop_published()
    end.match.on_position(position(next=1000, delivered=1000))
    ((_, payload, _),) = end.bus.pop_published()
    assert decode_position(payload).sent == 2
    assert end.types() == []
    assert end.match.outbound.sender.undelivered == 2


def test_a_device_that_returns_with_what_was_sent_gets_no_error() -> None:
    end = End(received=2)
    end.match.on_position(position(base=1, sent=2, to=CONNECTION))
    assert end.types() == ["resumed"]
    assert end.match.inbound.receiver.delivered == 2


def test_nobody_knows_how_much_an_earlier_connection_elsewhere_has_sent_but_there_is_a_limit() -> None:
    end = End(received=0, previous=(1, "edge-c"))
    assert end.positions()[0].sent is None
    end.match.on_position(position(next=7, delivered=7, to=CONNECTION))
    end.match.on_position(position(next=7 + WINDOW_PAYLOADS + 1, delivered=7))
    assert end.positions()[-1].sent == 7 + WINDOW_PAYLOADS


# -- whether the peer is there


def test_that_the_peer_is_away_is_said_after_the_match_was_resumed() -> None:
    end = End(received=0, peer_away=True)
    end.match.on_peer_away(PEER_CONNECTION)
    assert end.types() == []
    end.match.on_position(position(to=CONNECTION))
    assert end.types() == ["resumed", "peer_away"]
    end.match.on_peer_returned(PEER_EDGE, PEER_CONNECTION + 1)
    assert end.types() == ["peer_back"]


def test_of_a_peer_that_is_back_before_the_match_is_resumed_nothing_is_said() -> None:
    end = End(received=0, peer_away=True)
    end.match.on_peer_returned(PEER_EDGE, PEER_CONNECTION + 1)
    end.match.on_position(position(connection_id=PEER_CONNECTION + 1, to=CONNECTION))
    assert end.types() == ["resumed"]


def test_a_peer_that_is_away_when_a_match_begins_is_away_and_then_back() -> None:
    end = End(peer_away=True)
    end.match.on_peer_returned(PEER_EDGE, PEER_CONNECTION + 1)
    assert end.types() == ["peer_away", "peer_back"]


def test_payloads_that_the_peer_can_no_longer_send_are_a_gap() -> None:
    end = End(received=3)
    end.match.on_position(position(base=5, to=CONNECTION))
    assert end.types() == ["gap", "resumed"]
    assert end.match.inbound.receiver.next == 5
