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


def run(rate: float, p50: float, cpu: float) -> Run:
    return decode_run(
        b'{"valid":true,"connections":2,"seconds":1,"payloads":1,"payloads_per_second":%f,'
        b'"latency_us":{"p50":%f,"p99":9,"p999":9,"max":9},'
        b'"check":{"sent":1,"received":1,"gaps":0,"repeats":0,"damaged":0,"missing":0},'
        b'"processes":{"edge-a":{"cores":0.5,"rss_before_kib":1,"rss_kib":1,"cpu_us":%f}}}' % (rate, p50, cpu)
    )


def test_a_summary_takes_medians_and_shows_the_spread() -> None:
    summary = summarise([run(100, 5, 1), run(300, 7, 3), run(200, 6, 2)])
    assert (summary.rate, summary.p50, summary.cpu_us) == (200, 6, {"edge-a": 2})
    assert summary.spread == 1.0
