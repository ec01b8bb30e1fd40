"""Facts about matches carry a key by which a repetition is recognized."""

from cloudmatch_bus.contract.messages import MatchEnded, MatchMade, PairRecord
from cloudmatch_match_engine.core.facts import HALF, match_ended, match_made

NONCE = "m" * HALF + "e" * HALF


def test_a_made_match_is_published_as_its_record_says() -> None:
    pair = PairRecord(app="demo", match=7, device="b", peer="a", at=5, distance=1.5, nonce=NONCE)
    fact = MatchMade(app="demo", at=5, match=7, device="b", peer="a", distance=1.5)
    assert match_made(pair) == (fact, f"matched-demo-7-{'m' * HALF}")


def test_an_ended_match_names_the_device_that_ended_it() -> None:
    fact = MatchEnded(app="demo", at=9, match=7, device="a", peer="b", reason="left")
    assert match_ended("demo", 7, "a", "b", "left", 9, NONCE) == (fact, f"unmatched-demo-7-{'e' * HALF}")


def test_a_key_fits_into_a_header_whatever_the_app() -> None:
    pair = PairRecord(app="a\r\nx: é", match=7, device="b", peer="a", at=5)
    assert match_made(pair)[1] == "matched-a=0D=0Ax=3A=20=C3=A9-7-"
    assert match_ended(pair.app, 7, "a", "b", "left", 9, "")[1] == "unmatched-a=0D=0Ax=3A=20=C3=A9-7-"


def test_the_end_of_a_match_has_the_same_key_whichever_device_ended_it() -> None:
    first, second = ("a", "b", "left", 9), ("b", "a", "expired", 8)
    assert match_ended("demo", 7, *first, NONCE)[1] == match_ended("demo", 7, *second, NONCE)[1]
