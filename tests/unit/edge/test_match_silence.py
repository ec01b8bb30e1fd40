"""A match in which no payload comes ends, if payloads could come."""

import pytest

from cloudmatch_bus.contract.messages import DeviceUnpaired
from unit.edge.fakes import CONNECTION, batch, paired, texts, v1
from unit.edge.lone import Lone
from unit.edge.match_end import End


def test_a_match_ends_when_no_payload_has_come_for_too_long() -> None:
    end = End()
    end.match.check_silence(0, 10)
    end.push("one")
    end.match.check_silence(9.9, 10)
    end.match.on_batch(*batch(0, texts("two")))
    end.match.check_silence(19.8, 10)
    end.match.check_silence(29.7, 10)
    assert (end.match.silent, end.owner.left_match) == (False, 0)
    end.match.check_silence(29.8, 10)
    assert (end.match.silent, end.owner.left_match) == (True, 1)


@pytest.mark.parametrize("reason", ["away", "disconnected", "unmatching"])
def test_a_match_in_which_no_payload_could_come_is_not_silent(reason: str) -> None:
    end = End(peer_away=reason == "away")
    end.owner.disconnected = reason == "disconnected"
    end.match.unmatching = reason == "unmatching"
    for now in (0, 100):
        end.match.check_silence(now, 10)
    assert end.owner.left_match == 0


def test_a_silent_match_expires_for_both() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.types()
    assert lone.device.match is not None
    for now in (0, 60):
        lone.device.match.check_silence(now, 60)
    assert lone.engine.calls == ["leave_match 5"]
    assert lone.types() == []
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="expired"))
    assert lone.types() == ["peer_left"]
