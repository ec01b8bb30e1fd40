"""Real NATS servers, started as Kubernetes would: the same configuration, options, variables, probes."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_bus import streams
from cloudmatch_bus.connection import connect
from cloudmatch_bus.facts import FactPublisher
from cloudmatch_bus.messages import DeviceLeft
from cloudmatch_bus.provision import provision
from cloudmatch_bus.settings import NatsSettings
from deploy.rendered import Object, Rendered, render
from harness import BIN, Process, eventually_sync, free_port

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
pytestmark = pytest.mark.servers


class Node:
    """One server of the StatefulSet, on loopback."""

    def __init__(self, rendered: Rendered, folder: Path, index: int, ports: list[dict[str, int]]) -> None:
        pod = rendered.pod("nats")
        self.container = pod.containers[0]
        self.patience = pod.spec["terminationGracePeriodSeconds"]
        self.ports = ports[index]
        (volume,) = (each for each in pod.spec["volumes"] if "configMap" in each)
        configuration = rendered.data("ConfigMap", volume["configMap"]["name"])
        assert configuration
        for name, text in configuration.items():
            (folder / name).write_text(text)
        # The pod's paths, addresses and names → here.
        self._there = {"/etc/nats": folder, "/run/nats": folder, "/data": folder / "data"}
        self._there |= {"0.0.0.0": "127.0.0.1", "$(POD_NAME)": f"nats-{index}"}  # noqa: S104 # replaced
        for i, each in enumerate(ports):
            self._there[f"nats-{i}.nats-nodes:6222"] = f"127.0.0.1:{each['routes']}"
        for name, number in pod.ports.items():
            self._there[str(number)] = str(self.ports[name])
        self._name, self._folder = f"nats-{index}", folder
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.ports['client']}"

    def start(self) -> None:
        """Start the server, on its ports and its data."""
        env = {each["name"]: each["value"] for each in self.container["env"] if "value" in each}
        command = [BIN / self.container["command"][0], *map(self._here, self.container["args"])]
        self.process = Process(self._name, command, env, self._folder)

    def _here(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, self._there)), lambda found: str(self._there[found[0]]), text)

    def probe(self, name: str) -> int:
        """Give the status that the kubelet would see; 0 without an answer."""
        how = self.container[name]["httpGet"]
        url = f"http://127.0.0.1:{self.ports[how['port']]}{how['path']}"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # on loopback
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def healthy(self) -> bool:
        """Tell whether all probes are content."""
        assert self.process.returncode is None, self.process.tail()
        return all(self.probe(name) == 200 for name in PROBES)

    def stop(self) -> None:
        """Do what the kubelet does: the hook, then SIGTERM at once."""
        hook: Object = self.container["lifecycle"]["preStop"]["exec"]
        command = [self._here(part) for part in hook["command"]]
        subprocess.run(command, env={"PATH": f"{BIN}:{os.defpath}"}, check=True, capture_output=True)
        self.process.signal(signal.SIGTERM)

    def replace(self) -> None:
        """Do what a roll-out does to one pod; return when it is the next one's turn."""
        self.stop()
        assert self.process.wait(self.patience) == 0, self.process.tail()
        self.start()
        eventually_sync(self.healthy, 60, f"all probes of {self._name}")


@contextlib.contextmanager
def running(environment: str, folder: Path) -> Iterator[list[Node]]:
    rendered = render(environment)
    count = rendered.pod("nats").owner["spec"]["replicas"]
    ports = [{name: free_port() for name in rendered.pod("nats").ports} for _ in range(count)]
    nodes: list[Node] = []
    try:
        for index in range(count):
            (own := folder / str(index)).mkdir()
            nodes.append(Node(rendered, own, index, ports))
        eventually_sync(lambda: all(node.healthy() for node in nodes), 30, "all probes")
        yield nodes
    finally:
        for node in nodes:
            node.process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("environment", ["overlays/local", "overlays/production"])
async def test_nats_is_healthy_keeps_the_copies_and_ends_in_order(environment: str, tmp_path: Path) -> None:
    with running(environment, tmp_path) as nodes:
        replicas = 3 if len(nodes) == 3 else 1
        bus = await connect(NatsSettings(url=",".join(node.url for node in nodes)), "test")
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


async def test_a_roll_out_of_nats_loses_no_fact(tmp_path: Path) -> None:
    with running("overlays/production", tmp_path) as nodes:
        bus = await connect(NatsSettings(url=",".join(node.url for node in nodes)), "test")
        await provision(bus, 3)
        publisher = FactPublisher(bus)
        tasks = [asyncio.create_task(publisher.run())]
        told = 0

        async def tell() -> None:
            nonlocal told
            while True:
                fact = DeviceLeft(app="demo", at=told, device=f"d{told}", edge="e", session=1, code=1000)
                assert publisher.publish(fact)
                told += 1
                await asyncio.sleep(0.005)

        tasks.append(telling := asyncio.create_task(tell()))
        try:
            for node in reversed(nodes):  # as a StatefulSet does
                before = told
                await asyncio.to_thread(node.replace)
                assert told > before
            telling.cancel()
            assert await publisher.drain(30) == 0
            state = (await bus.jetstream().stream_info(streams.EVENTS)).state
            assert state.messages == told
        finally:
            for task in tasks:
                task.cancel()
            await bus.close()
