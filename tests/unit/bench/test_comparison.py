"""The trials of a comparison, their order, and the report on them."""

import json
from xml.etree import ElementTree

import msgspec
import pytest

from bench import trials
from bench.compare import picture
from bench.comparison import Comparison, Outcome, PeerInfo, figure, markdown
from bench.peers.all_peers import PEERS
from bench.plot import Bar, Group, svg
from bench.report import Check, ProcessUse, Run, Times


def run(
    rate: float = 100,
    cpu: float = 4,
    lost: int = 0,
    reordered: int = 0,
    other_cores: float = 0,
    **more: object,
) -> Run:
    times = Times(p50=1000, p99=2000, p999=3000, max=4000)
    return Run(
        valid=not lost,
        connections=2,
        seconds=1,
        processes={
            "edge": ProcessUse(cores=0.5, rss_before_kib=100, rss_kib=140, cpu_us=cpu),
            "generator": ProcessUse(cores=0.2, rss_before_kib=1, rss_kib=9, cpu_us=9),
        },
        other_cores=other_cores,
        payloads=1000,
        payloads_per_second=rate,
        latency_us=times,
        opening_us=times,
        check=Check(sent=1000, received=1000 - lost, lost=lost, repeated=0, reordered=reordered, damaged=0),
        **more,  # type: ignore[arg-type] # fields of a run
    )


def comparison(*outcomes: Outcome, skipped: dict[str, str] | None = None) -> Comparison:
    machine = {
        "date": "2026-11-24T00:00:00",
        "commit": "c",
        "cores": 2,
        "processor": "P",
        "system": "S",
        "python": "3",
    }
    peers = [
        PeerInfo(name, name.upper(), "one process", "at most once", {"x": "1"}) for name in ("ours", "theirs")
    ]
    return Comparison(machine, peers, [], skipped or {}, list(outcomes))


def outcome(peer: str, trial: str, of: Run | None, repetition: int = 0, error: str = "") -> Outcome:
    return Outcome(trial, peer, repetition, 0.5, of, error)


def column(made: Comparison, title: str) -> list[str]:
    table = next(table for table in made.tables() if title in table.title)
    return table.rows[0][1:]


# -- the order


def test_peers_take_turns_and_every_other_round_goes_backwards() -> None:
    steps = trials.order(trials.QUICK, ["a", "b"])
    assert [(step.trial.name, step.peer, step.repetition) for step in steps] == [
        *(("50x64:64", "a", 0), ("50x64:64", "b", 0), ("1x1:64", "a", 0), ("1x1:64", "b", 0)),
        *(("50x64:64", "b", 1), ("50x64:64", "a", 1), ("1x1:64", "b", 1), ("1x1:64", "a", 1)),
    ]


def test_single_trials_come_before_the_rounds_so_that_only_repetitions_can_be_missing() -> None:
    steps = trials.order(trials.FULL, ["a"], ["big"])
    assert [step.trial.name for step in steps[:4]] == ["idle", "opening", "cut", "kill"]
    assert [step.peer for step in steps[4:7]] == ["big"] * 3
    assert [step.repetition for step in steps[7:]] == sorted(step.repetition for step in steps[7:])
    assert len(steps) == 4 + 3 + 3 * len(trials.RELAY)


def test_the_full_run_repeats_every_shape_three_times_and_the_quick_one_twice() -> None:
    assert {trial.repetitions for trial in trials.RELAY} == {3}
    assert {trial.repetitions for trial in trials.QUICK} == {2}


def test_both_runs_fit_into_their_time() -> None:
    names = [peer.name for peer in PEERS]
    assert trials.estimate(trials.order(trials.FULL, names, ["1", "2", "4"])) < 15 * 60
    assert trials.estimate(trials.order(trials.QUICK, names)) < 2 * 60


def test_no_two_peers_share_a_name_or_a_title() -> None:
    for of in (lambda peer: peer.name, lambda peer: peer.title):
        assert len(set(map(of, PEERS))) == len(PEERS)


# -- the tables


def test_medians_are_shown_with_half_of_their_spread() -> None:
    made = comparison(*(outcome("ours", "1x1:64", run(100, cpu), i) for i, cpu in enumerate((4, 5, 6))))
    assert column(made, "CPU-µs") == ["5.00 ± 20%", "–"]


def test_latencies_are_shown_in_milliseconds() -> None:
    assert column(comparison(outcome("ours", "1x1:64", run())), "Latency")[0] == "1.00 / 2.00 / 3.00"


def test_shapes_of_the_command_line_follow_the_standard_ones() -> None:
    made = comparison(
        outcome("ours", "7x7:77", run()), outcome("ours", "1x1:64", run()), outcome("ours", "idle", run())
    )
    assert [row[0] for row in made.tables()[0].rows] == ["1 × 1, 64 B", "7 × 7, 77 B"]


def test_a_peer_that_falls_short_of_the_rate_counts_as_overloaded() -> None:
    made = comparison(
        outcome("ours", "50@20000:64", run(19_900)), outcome("theirs", "50@20000:64", run(12_000))
    )
    assert column(made, "per second") == ["19,900 ± 0%", "12,000 ± 0% (overloaded)"]


def test_losses_are_shown_with_the_number_sent() -> None:
    made = comparison(
        outcome("ours", "kill", run()),
        outcome("ours", "cut", None, error="it ended\nwith a traceback"),
        outcome("theirs", "kill", run(lost=7)),
    )
    table = next(table for table in made.tables() if "Guarantees" in table.title)
    assert [row[4:6] for row in table.rows] == [["0 of 1,000", "failed"], ["7 of 1,000", "–"]]


def test_a_peer_keeps_the_order_only_if_it_did_in_every_run() -> None:
    made = comparison(outcome("ours", "1x1:64", run()), outcome("ours", "1x1:64", run(reordered=1), 1))
    table = next(table for table in made.tables() if "Guarantees" in table.title)
    assert table.rows[0][2] == "no"


def test_memory_is_the_growth_of_all_servers_per_connection() -> None:
    made = comparison(outcome("ours", "idle", run()), outcome("ours", "1x1:64", run()))
    table = next(table for table in made.tables() if "Guarantees" in table.title)
    assert dict(zip(table.header, table.rows[0], strict=True))["KiB per idle connection"] == "20.0"


def test_a_trial_without_outcomes_has_no_column() -> None:
    made = comparison(outcome("ours", "1x1:64", run()))
    assert made.tables()[-1].header == ["", "promise", "order kept", "repeated"]


def test_caveats_name_skipped_peers_failures_losses_and_noise() -> None:
    made = comparison(
        outcome("ours", "1x1:64", None, error="it ended\nwith a traceback"),
        outcome("theirs", "50x64:64", run(lost=3, other_cores=0.5)),
        skipped={"Third": "not installed: go"},
    )
    assert made.caveats() == [
        "Third was left out: not installed: go",
        "OURS, 1x1:64: it ended",
        "THEIRS, 50 × 64, 64 B: 3 payloads were lost",
        "In 1 of 1 runs other processes used more than 0.1 cores, up to 0.50",
    ]


def test_a_comparison_without_figures_can_be_shown() -> None:
    made = comparison(outcome("ours", "1x1:64", None, error="it ended"))
    assert "it ended" in markdown(made, "")
    assert picture(made) == ""


def test_a_comparison_decodes_from_its_own_json() -> None:
    made = comparison(outcome("ours", "1x1:64", run()))
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(made))), Comparison) == made


@pytest.mark.parametrize(
    ("value", "written"), [(0.123, "0.12"), (4.56, "4.56"), (45.67, "45.7"), (4567, "4,567")]
)
def test_figures_have_their_significant_digits(value: float, written: str) -> None:
    assert figure(value) == written


# -- the picture


def widths(drawn: str) -> list[float]:
    bars = ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 # ours
    return [float(bar.attrib["width"]) for bar in bars]


def test_bars_grow_with_the_logarithm() -> None:
    small, middle, large = widths(
        svg("x", [Group("g", [Bar("a", 2, True), Bar("b", 20, False), Bar("c", 200, False)])])
    )
    assert large - middle == pytest.approx(middle - small, abs=0.2)


def test_the_svg_escapes_names_and_titles() -> None:
    drawn = svg("a < b", [Group("<g>", [Bar("R&D", 1.5, True)])])
    assert "R&amp;D" in drawn
    assert len(widths(drawn)) == 1
