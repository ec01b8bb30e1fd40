"""Real NATS servers, started as Kubernetes would: the same configuration, options, variables, probes."""

from pathlib import Path

import pytest

from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.provision import provision
from cloudmatch_bus.contract import streams
from deploy.loopback import Environment, replaced
from harness import eventually_sync

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("environment", ["overlays/local", "overlays/production"])
async def test_nats_is_healthy_keeps_all_replicas_and_stops_cleanly(environment: str, tmp_path: Path) -> None:
    here = Environment(environment, tmp_path)
    with here.nats() as nodes:
        replicas = 3 if len(nodes) == 3 else 1
        bus = await connect(here.person("match-engine"), "match-engine")
        try:
            await provision(bus, replicas)
            kept = (await bus.jetstream().stream_info(streams.EVENTS)).config
            assert kept.num_replicas == replicas
        finally:
            await bus.close()
        first, *others = nodes
        first.stop()
        assert first.process.wait(30) == 0
        assert "Entering lame duck mode" in first.process.log
        eventually_sync(lambda: all(n.probe("readinessProbe") == 200 for n in others), 20, "the others")


def test_only_whole_words_are_translated_to_this_machine() -> None:
    here = {"4222": "20001", "0.0.0.0": "127.0.0.1", "/etc/nats": "/tmp/nats"}  # noqa: S104, S108  # replaced
    text = "listen: 0.0.0.0:4222\ninclude /etc/nats/users.conf\nnkey: UA42223"
    assert replaced(text, here) == "listen: 127.0.0.1:20001\ninclude /tmp/nats/users.conf\nnkey: UA42223"
