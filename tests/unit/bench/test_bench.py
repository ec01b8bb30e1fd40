"""Shapes are read as they are written; summaries are medians."""

import pytest

from bench.report import Run, decode_run, summarise
from bench.shapes import RELAY, ShapeError, parse


@pytest.mark.parametrize("shape", RELAY)
def test_a_shape_is_read_as_it_is_written(shape: object) -> None:
    assert parse(str(shape)) == shape


@pytest.mark.parametrize(
    "text", ["", "50", "50x:64", "x64:64", "50x64", "50x64:10", "50x64:100000", "0x1:64", "1x0:64"]
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ShapeError):
        parse(text)


def run(rate: float, p50: float, cpu: float, more: bytes = b"", cores: float = 0.5) -> Run:
    return decode_run(
        b'{"valid":true,"connections":2,"seconds":1,"payloads":1,"payloads_per_second":%f,'
        b'"latency_us":{"p50":%f,"p99":9,"p999":9,"max":9},'
        b'"check":{"sent":1,"received":1,"lost":0,"repeated":0,"reordered":0,"damaged":0},'
        b'"processes":{"edge-a":{"cores":0.5,"rss_before_kib":1,"rss_kib":1,"cpu_us":%f},'
        b'"generator":{"cores":%f,"rss_before_kib":1,"rss_kib":1,"cpu_us":9}}%s}'
        % (rate, p50, cpu, cores, more)
    )


def test_a_summary_takes_medians_and_shows_the_spread() -> None:
    summary = summarise([run(100, 5, 1), run(300, 7, 3), run(200, 6, 2)])
    assert (summary.rate, summary.p50, summary.cpu_us) == (200, 6, {"edge-a": 2, "generator": 9})
    assert summary.spread == 1.0


def test_the_generators_own_use_is_not_counted_as_the_servers() -> None:
    assert summarise([run(100, 5, 3)]).servers_us == 3


def test_figures_of_a_quiet_machine_and_an_idle_generator_raise_no_doubt() -> None:
    assert summarise([run(100, 5, 1, b',"strangers":0.05'), run(100, 5, 1)]).doubts() == []


def test_one_run_beside_a_stranger_is_enough_to_doubt_the_figures() -> None:
    doubts = summarise([run(100, 5, 1), run(100, 5, 1, b',"strangers":0.4'), run(100, 5, 1)]).doubts()
    assert doubts == ["other processes used 0.40 cores"]


def test_a_generator_that_is_the_bottleneck_is_named() -> None:
    assert summarise([run(100, 5, 1, cores=0.95)]).doubts() == [
        "the generator is the bottleneck: 95% of a core"
    ]


def test_a_generator_that_sends_late_is_named() -> None:
    late = b',"lateness_us":{"p50":1,"p99":2,"p999":3,"max":4}'
    assert summarise([run(100, 5, 1, late)]).doubts() == ["the generator sent late: p99 0.0 ms"]
