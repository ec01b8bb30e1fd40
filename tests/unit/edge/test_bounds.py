"""What the relay keeps for one device, at most."""

from cloudmatch_edge.relay.sender import WINDOW_BYTES
from unit.edge.fakes import batch, paired, texts
from unit.edge.match_end import End
from unit.edge.test_device import Lone


def test_no_more_bytes_of_early_batches_wait_than_a_window_and_one_batch() -> None:
    lone = Lone()
    half = "x" * (WINDOW_BYTES // 2)
    for match in (6, 7):
        for number in range(4):
            lone.device.on_batch(*batch(number, texts(half), match=match))
        lone.device.on_answer(paired(match))
        assert len(lone.socket.pop_texts()) == 1 + 2


def test_what_an_overfull_socket_could_not_take_is_asked_for_once_it_has_drained() -> None:
    end = End()
    end.match.on_drained()
    assert end.positions() == []
    end.match.on_batch(*batch(0, texts("one")))
    end.owner.socket.overfull = True
    end.match.on_batch(*batch(1, texts("two")))
    end.match.on_batch(*batch(2, texts("three")))
    assert end.types() == ["message"]
    end.owner.socket.overfull = False
    end.match.on_drained()
    (asked,) = end.positions()
    assert (asked.next, asked.to) == (1, 0)
    end.match.on_drained()
    assert end.positions() == []
    end.match.on_batch(*batch(1, texts("two")))
    assert end.types() == ["message"]
