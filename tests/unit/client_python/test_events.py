"""The events of the Python client."""

import dataclasses

import pytest

import cloudmatch
from cloudmatch.core import events
from cloudmatch.core.events import Event, Matched, Peer, PeerLeft


def test_every_event_is_public_and_immutable() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    assert len(kinds) == 12
    assert all(getattr(cloudmatch, kind.__name__) is kind for kind in kinds)
    matched = Matched(Peer("b", 1.5, 7))
    with pytest.raises(dataclasses.FrozenInstanceError):
        matched.peer = Peer("c", 0, 8)  # type: ignore[misc]


def test_events_are_equal_if_all_their_fields_are() -> None:
    peer = Peer("b", 1.5, 7)
    assert PeerLeft(peer, "left", ("ciao",)) == PeerLeft(Peer("b", 1.5, 7), "left", ("ciao",))
    assert PeerLeft(peer, "left", ()) != PeerLeft(peer, "expired", ())
