"""Facts about matches, each with the key by which JetStream recognizes it when it is published again.

JetStream drops a fact whose key anyone has used. So a key ends with half of the match's nonce, which only
workers know; whoever reads the first fact knows nothing about the key of the second.
"""

from cloudmatch_bus.contract.messages import MatchEnded, MatchMade, PairRecord
from cloudmatch_bus.contract.subjects import token

HALF = 24  # characters of a match's nonce


def match_made(pair: PairRecord) -> tuple[MatchMade, str]:
    """Make the fact that a match was made."""
    fact = MatchMade(
        app=pair.app,
        at=pair.at,
        match=pair.match,
        device=pair.device,
        peer=pair.peer,
        distance=pair.distance,
    )
    return fact, f"matched-{token(pair.app)}-{pair.match}-{pair.nonce[:HALF]}"


def match_ended(
    app: str, match: int, device: str, peer: str, reason: str, at: int, nonce: str
) -> tuple[MatchEnded, str]:
    """Make the fact that `device` ended a match at `at` (ms since 1970); `nonce` is the match's."""
    fact = MatchEnded(app=app, at=at, match=match, device=device, peer=peer, reason=reason)
    return fact, f"unmatched-{token(app)}-{match}-{nonce[HALF:]}"
