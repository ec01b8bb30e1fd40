"""Which of several edges the Python client connects to next."""

import pytest

from cloudmatch.core.edges import Edges


def test_a_single_edge_is_never_tried_again_at_once() -> None:
    edges = Edges(["one"])
    assert [edges.ended(code) for code in (503, None, 1012)] == [False] * 3
    assert edges.url == str(edges) == "one"


def test_all_edges_are_tried_at_once_before_the_first_pause() -> None:
    edges = Edges(["one", "two", "three"])
    assert str(edges) == "one or two or three"
    tried = [(edges.url, edges.ended(503)) for _ in range(6)]
    assert tried == [("one", True), ("two", True), ("three", False)] * 2


def test_a_connection_that_broke_is_restored_at_the_same_edge_and_then_elsewhere() -> None:
    edges = Edges(["one", "two"])
    assert edges.ended(503)
    edges.opened()
    assert not edges.ended(None)
    assert edges.url == "two"
    assert edges.ended(None), "it is not there any more"
    assert edges.url == "one"


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_device_of_an_edge_that_goes_away_tries_the_next_one(code: int) -> None:
    edges = Edges(["one", "two"])
    edges.opened()
    assert not edges.ended(code), "as many others do"
    assert edges.url == "two"
    assert not edges.ended(503), "both have failed"


def test_without_an_edge_there_is_nothing_to_connect_to() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Edges([])
