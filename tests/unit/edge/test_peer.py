"""Where the peer of a match is."""

from cloudmatch_edge.relay.peer import Peer
from unit.edge.fakes import paired


def test_acks_go_to_the_edge_that_holds_the_peer() -> None:
    peer = Peer("app", paired(5, peer_edge="edge.b", peer_connection=20))
    assert (peer.id, peer.disconnected, peer.connection_id) == ("b", False, 20)
    assert (peer.edge, peer.ack_prefix) == ("edge=2Eb", "cm.v1.app.ack.edge=2Eb.b.5.")
    peer.move("edge-c", 30)
    assert (peer.edge, peer.ack_prefix, peer.connection_id) == ("edge-c", "cm.v1.app.ack.edge-c.b.5.", 30)


def test_what_is_known_of_a_peer_is_never_replaced_by_something_older() -> None:
    peer = Peer("app", paired(5, peer_revision=40))
    assert not peer.is_news(39)
    assert peer.is_news(40)
    assert peer.is_news(42)
    assert not peer.is_news(41)
    assert peer.is_news(0), "a worker of an earlier version does not say"


def test_a_peer_may_be_disconnected_from_the_beginning() -> None:
    assert Peer("app", paired(5, peer_away=True)).disconnected
