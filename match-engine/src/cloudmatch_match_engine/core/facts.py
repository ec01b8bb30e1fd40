"""Facts about matches, each with the key by which JetStream recognizes it when it is published again."""

from cloudmatch_bus.contract.messages import MatchEnded, MatchMade, PairRecord
from cloudmatch_bus.contract.subjects import token


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
    return fact, f"matched-{token(pair.app)}-{pair.match}"


def match_ended(app: str, match: int, device: str, peer: str, reason: str, at: int) -> tuple[MatchEnded, str]:
    """Make the fact that `device` ended a match at `at` (ms since 1970)."""
    fact = MatchEnded(app=app, at=at, match=match, device=device, peer=peer, reason=reason)
    return fact, f"unmatched-{token(app)}-{match}"
