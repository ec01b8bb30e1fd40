"""What an end of a match claims: the peer's edge may die before counting it."""

from typing import Any

import pytest

from unit.edge.fakes import CONNECTION, PEER_CONNECTION, batch, paired, texts
from unit.edge.match_end import End, position


def received(*words: str) -> End:
    """An end that has delivered payloads of the peer."""
    end = End()
    end.match.on_batch(*batch(0, texts(*words)))
    end.match.on_device_ack(len(words))
    return end


@pytest.mark.parametrize(
    "what",
    [
        lambda match: match.on_peer_away(PEER_CONNECTION),
        lambda match: match.on_peer_returned("edge-c", PEER_CONNECTION + 1),
        lambda match: match.on_position(position(edge="edge-c", connection_id=PEER_CONNECTION + 1)),
        lambda match: match.on_paired(
            paired(5, peer_edge="edge-c", peer_connection=PEER_CONNECTION + 1, peer_away=True)
        ),
        lambda match: match.disconnect(),
        lambda match: match.supersede(CONNECTION + 1, "edge-c"),
        lambda match: match.end(),
        lambda match: match.close(),
    ],
    ids=["peer away", "peer returned", "position", "paired", "disconnect", "supersede", "end", "close"],
)
def test_what_was_delivered_lately_is_claimed_when_a_connection_ends(what: Any) -> None:
    end = received("one", "three")
    what(end.match)
    what(end.match)
    assert end.bus.pop_claims() == [(0, [3, 5])]
