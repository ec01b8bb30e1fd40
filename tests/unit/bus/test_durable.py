"""What a process remembers of the facts that it has acknowledged."""

from typing import cast

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.client.durable import MOST_DONE, DurableState


def test_an_acknowledged_fact_is_known_by_position_and_time_and_not_for_ever() -> None:
    state = DurableState(cast("Bus", None), "bridge-rabbit")
    state.acknowledged(0, 1.0)
    assert state.is_done(0, 1.0)
    assert not state.is_done(0, 2.0)  # of another stream
    for position in range(1, MOST_DONE + 1):
        state.acknowledged(position, 1.0)
    assert state.is_done(MOST_DONE, 1.0)
    assert not state.is_done(0, 1.0)
