"""Shapes of load, and summaries of runs."""

import pytest

from bench import relay
from bench.report import Run, decode_run, summarise
from bench.shapes import RELAY, ShapeError, parse


@pytest.mark.parametrize("shape", RELAY)
def test_a_shape_is_parsed_from_what_it_prints(shape: object) -> None:
    assert parse(str(shape)) == shape


@pytest.mark.parametrize(
    "text", ["", "50", "50x:64", "x64:64", "50x64", "50x64:10", "50x64:100000", "0x1:64", "1x0:64"]
)
def test_an_invalid_shape_is_rejected(text: str) -> None:
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


def test_the_cpu_of_the_generator_is_not_counted_for_the_servers() -> None:
    assert summarise([run(100, 5, 3)]).servers_us == 3


def test_a_quiet_machine_and_an_idle_generator_give_no_caveat() -> None:
    assert summarise([run(100, 5, 1, b',"other_cores":0.05'), run(100, 5, 1)]).caveats() == []


def test_one_run_on_a_noisy_machine_gives_a_caveat() -> None:
    caveats = summarise([run(100, 5, 1), run(100, 5, 1, b',"other_cores":0.4'), run(100, 5, 1)]).caveats()
    assert caveats == ["other processes used 0.40 cores"]


def test_a_generator_that_is_the_bottleneck_gives_a_caveat() -> None:
    assert summarise([run(100, 5, 1, cores=0.95)]).caveats() == [
        "the generator is the bottleneck: 95% of a core"
    ]


def test_a_generator_that_sends_late_gives_a_caveat() -> None:
    late = b',"lateness_us":{"p50":1,"p99":2,"p999":3,"max":4}'
    assert summarise([run(100, 5, 1, late)]).caveats() == ["the generator sent late: p99 0.0 ms"]


def test_the_relay_bench_names_the_shape_to_which_a_caveat_applies() -> None:
    noisy, quiet = summarise([run(100, 5, 1, b',"other_cores":0.4')]), summarise([run(100, 5, 1)])
    rows = [(parse("1x1:64"), noisy), (parse("50x1:64"), quiet)]
    assert relay.caveats(rows) == ["1 × 1, 64 B: other processes used 0.40 cores"]
