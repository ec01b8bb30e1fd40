"""A short run of what ``make test-pairing-faults`` does for many seeds."""

import pytest

from faults.pairing import Trial, Verdict, ground


@pytest.mark.servers
async def test_whoever_has_a_partner_in_reach_is_matched_once_whatever_dies_meanwhile() -> None:
    async with ground() as under:
        report = await Trial(under, seed=1, devices=300, faults=2, say=print).run()
    print(report)  # noqa: T201  # pytest shows it with a failure
    assert report.verdict == Verdict()
    assert report.faults == ["worker killed", "NATS leader killed"]
    assert report.matches > 100
