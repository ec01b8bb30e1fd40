"""The hops benchmark, which passes payloads through two edges and a worker without sockets."""

import pytest

from bench import hops


@pytest.mark.parametrize("dialect", ["v1", "classic"])
async def test_hops_without_sockets_deliver_every_payload_and_report_the_cost_of_each(dialect: str) -> None:
    found = await hops.measure(dialect, batch=8, size=200, repetitions=1)
    assert set(found) == {"edge a", "worker", "edge b"}
    assert all(cost > 0 for cost in found.values())
