"""The pending claims of each direction."""

import math

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_journal.core.claims import Claims, PendingClaim


def pending(delivered: int, sender: str = "a", match: int = 7, position: int = 1) -> PendingClaim:
    return PendingClaim(position=position, app="x", at=1, claim=Claim(sender, "c", match, delivered))


def test_a_claim_ends_after_all_that_it_says_was_delivered() -> None:
    claim = Claim("a", "b", 7, 4, span("a", "b", 7, 3, [1, 1, 1]))
    assert PendingClaim(position=1, app="x", at=1, claim=claim).end == 6
    assert pending(4).end == 4


@given(st.lists(st.integers(1, 20)), st.integers(0, 21))
def test_claims_of_what_is_counted_are_removed(ends: list[int], before: int) -> None:
    some = [pending(end, position=position) for position, end in enumerate(ends)]
    claims = Claims(some)
    assert (len(claims), sorted(each.end for each in claims)) == (len(ends), sorted(ends))
    other = pending(1, sender="b")
    assert claims.add(other) == 1
    if ends:
        left = [each for each in some if each.end > before]
        assert claims.counted(7, "a", before) == min((each.end for each in left), default=0)
        assert sorted(claims, key=repr) == sorted([*left, other], key=repr)
        if left:
            assert claims.counted(7, "a", math.inf) == 0
    assert list(claims) == [other]


def test_what_is_awaited_is_what_ends_first() -> None:
    claims = Claims()
    assert [claims.add(pending(end)) for end in (5, 3, 4)] == [5, 3, 3]
    assert claims.remove(7, "a", [pending(3), pending(9)]) == 4
    assert claims.remove(7, "b", [pending(3)]) == 0
    assert len(claims) == 2


def test_the_claims_of_a_match_are_forgotten_in_both_directions() -> None:
    others = [pending(1, match=8), pending(2, match=8)]
    claims = Claims([pending(1), pending(2, sender="b"), *others])
    claims.forget(7, ("a", "b", "c"))
    assert list(claims) == others


def test_a_device_has_another_name_in_the_claims_of_one_match() -> None:
    claims = Claims([pending(5), pending(4), pending(3, sender="c"), pending(2, match=8)])
    claims.rename(7, "a", "x")
    assert sorted((each.direction, each.end) for each in claims) == [
        ((7, "c"), 3),
        ((7, "x"), 4),
        ((7, "x"), 5),
        ((8, "a"), 2),
    ]
    assert claims.counted(7, "x", 4) == 5
