"""What a match believes of its peer: what is later, whichever message says it."""

from unit.edge.fakes import PEER_CONNECTION, PEER_EDGE, paired
from unit.edge.test_match import End


def test_an_answer_that_is_later_makes_a_peer_return_that_has_kept_its_connection() -> None:
    end = End(peer_revision=40)
    end.match.on_peer_away(PEER_CONNECTION, 42)
    assert end.types() == ["peer_away"]
    assert end.matches.awaiting == [end.match]
    end.match.on_paired(paired(5, peer_revision=41))
    assert end.match.peer.disconnected, "this is older"
    assert end.match.awaits_peer
    end.match.verify_peer()
    assert end.owner.resyncs == 1
    end.match.on_paired(paired(5, peer_revision=43))
    assert end.types() == ["peer_back"]
    assert not end.match.awaits_peer
    end.match.on_peer_away(PEER_CONNECTION, 42)
    end.match.on_peer_returned(PEER_EDGE, PEER_CONNECTION, 42)
    end.match.on_paired(paired(5, peer_revision=42, peer_away=True))
    assert end.types() == [], "it comes late"


def test_a_peer_that_is_away_from_the_beginning_is_awaited_too() -> None:
    end = End(received=0, peer_away=True)
    assert end.matches.awaiting == [end.match]
    end.owner.disconnected = True
    assert not end.match.awaits_peer
