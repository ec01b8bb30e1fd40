"""A short run of ``make test-pairing-faults``."""

import pytest

from faults.pairing import Trial, Verdict, pairing_cluster


@pytest.mark.servers
async def test_every_device_with_a_peer_in_reach_is_matched_once_whichever_process_dies() -> None:
    async with pairing_cluster() as under_test:
        report = await Trial(under_test, seed=1, devices=300, faults=2, on_fault=print).run()
    print(report)  # noqa: T201  # pytest shows it with a failure
    assert report.verdict == Verdict()
    assert report.faults == ["worker killed", "NATS leader killed"]
    assert report.matches > 100
