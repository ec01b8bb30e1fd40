"""Senders that are forgotten, and no sum but theirs."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.forgotten import Forgotten, digest, unknown
from cloudmatch_analytics.core.windows import ALL, BASE, Shape, Sums, Timeline

T = 1_700_000_040_000
TEN = Shape(BASE, BASE)


def test_what_is_sent_up_to_then_is_an_unknown_senders() -> None:
    forgotten = Forgotten({digest("demo.bob"): T})
    forgotten.add("demo.alice", T + BASE)
    forgotten.add("demo.alice", T)
    sent = {"demo.alice": (1, 1), "demo.bob": (2, 1), "demo.": (4, 1), "other.bob": (8, 1)}
    assert forgotten.renamed(T, sent) == {"demo.": (7, 3), "other.bob": (8, 1)}
    assert forgotten.renamed(T + BASE, sent) == {"demo.": (5, 2), "demo.bob": (2, 1), "other.bob": (8, 1)}
    assert forgotten.renamed(T + BASE + 1, sent) is sent
    assert unknown("demo.alice") == "demo."


def test_nobody_is_forgotten_for_longer_than_sizes_count() -> None:
    forgotten = Forgotten()
    forgotten.expire(T)
    forgotten.add("demo.alice", T)
    forgotten.add("demo.bob", T + 1)
    forgotten.expire(T)
    assert len(forgotten.until) == 2
    forgotten.expire(T + 1)
    assert forgotten.until == {digest("demo.bob"): T + 1}


def test_whoever_is_forgotten_stays_forgotten_after_a_restart_for_as_long_as_sizes_count() -> None:
    timeline = Timeline()
    timeline.forget("demo.alice", T)
    timeline.forget("demo.alice", T - BASE)
    again = Timeline(retained=60_000)
    again.restore(timeline.bounds, timeline.forgotten.until)
    assert "alice" not in str(again.forgotten.until)
    again.add(T, {"demo.alice": (4, 1)})
    assert again.senders(0) == {"demo.": Sums(4, 1)}
    again.add(T + 300_000, {"demo.alice": (4, 1)})
    again.close(T + 300_000)
    assert again.forgotten.until == {}


senders = st.sampled_from(["demo.a", "demo.b", "other.a"])
steps = st.lists(
    st.tuples(st.just("add"), senders, st.integers(0, 3), st.integers(0, 9))
    | st.tuples(st.just("forget"), senders, st.integers(-1, 4 * BASE), st.just(0))
)


@given(steps)
def test_totals_never_change_and_forgotten_names_are_in_no_slice_from_before(
    taken: list[tuple[str, str, int, int]],
) -> None:
    timeline, expected = Timeline(), Timeline()
    until: dict[str, int] = {}
    for what, series, at, amount in taken:
        if what == "forget":
            timeline.forget(series, T + at)
            until[series] = max(until.get(series, 0), T + at)
        else:
            timeline.add(T + at * BASE, {series: (amount, 1)})
            expected.add(T + at * BASE, {series: (amount, 1)})
    for series, end in until.items():
        assert not [start for start, held in timeline.all_series().items() if series in held and start <= end]
    for series in (ALL, "demo", "other"):
        for start in range(T, T + 4 * BASE, BASE):
            assert timeline.window(TEN, start, series) == expected.window(TEN, start, series)
