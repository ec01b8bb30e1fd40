"""For how long no payload has come."""

from cloudmatch_edge.relay.silence import Silence


def test_silence_grows_until_a_payload_comes() -> None:
    silence = Silence()
    assert [silence.seconds(0, now) for now in (100.0, 102.0, 104.0)] == [0, 2, 4]
    assert [silence.seconds(1, now) for now in (106.0, 107.0)] == [0, 1]


def test_while_no_payload_could_come_there_is_none() -> None:
    silence = Silence()
    assert [silence.seconds(None, now) for now in (1.0, 9.0)] == [0, 0]
    assert [silence.seconds(0, now) for now in (10.0, 12.0)] == [0, 2]
