"""Images, without a container engine: the Dockerfile's text, and what deploy/install.sh installs."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from cloudmatch_local.settings import SERVICES, prefix
from deploy.rendered import Rendered
from harness import BIN, Process, eventually_sync
from harness.processes import ROOT
from harness.services import LISTENS

INSTALL = ROOT / "deploy/install.sh"
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
IN_IMAGE = "/opt/cloudmatch"
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for each in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
"""


def test_the_dockerfile_copies_only_files_that_exist_and_are_not_ignored() -> None:
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert len(sources) == 6
    for name in SERVICES:
        for source in sources:
            path = source.replace("${SERVICE}", name)
            assert (ROOT / path).exists(), path
            assert any(f"{path}/".startswith(f"{each}/") for each in kept), path


def test_the_image_runs_as_the_user_of_its_pod_and_without_a_shell(rendered: Rendered) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user
    for pod in rendered.pods:
        if pod.is_service:
            context = pod.spec["securityContext"]
            assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert not re.search("^(RUN|CMD|SHELL)", last, re.MULTILINE)
    assert f'ENTRYPOINT ["{IN_IMAGE}/service/bin/run"]' in last


@pytest.fixture(params=SERVICES, scope="module")
def installed(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """Each service, installed as in its image, and the folder that takes the place of /opt/cloudmatch."""
    if not request.config.getoption("--images", default=False):
        pytest.skip("takes long: make image-check")
    wheels = ROOT / ".run/wheels"
    env = {**os.environ, "PYTHON": sys.executable, "PIP_NO_COMPILE": "1"}
    subprocess.run(["sh", INSTALL, "wheels", wheels], env=env, check=True)
    with tempfile.TemporaryDirectory(prefix="cloudmatch-image-") as folder:
        for step in ("libraries", "service"):
            command = ["sh", INSTALL, step, request.param, folder]
            subprocess.run(command, env={**env, "WHEELS": str(wheels)}, check=True)
        yield request.param, Path(folder)


@pytest.mark.servers
def test_each_service_starts_from_its_image_and_answers_its_probes(
    installed: tuple[str, Path],
    nats_server: harness.NatsServer,
    amqp_url: str,
    kafka_broker: harness.KafkaBroker,
    tmp_path: Path,
) -> None:
    name, image = installed
    settings = {
        "PYTHONPATH": str(image / "service"),
        "CLOUDMATCH_NATS_URL": nats_server.url,
        "CLOUDMATCH_AMQP_URL": amqp_url,
        "CLOUDMATCH_RUN_DIR": str(tmp_path / "run"),
        f"{prefix(name)}_PORT": "0",
        **kafka_broker.settings,
    }
    process = Process(name, [image / "service/bin/run"], settings, tmp_path)
    try:
        service = harness.Service(name, settings, tmp_path)
        service.process, service.url = process, process.wait_line(LISTENS, 60)[1]
        eventually_sync(lambda: service.get("/system/liveness")[0] == 200, 20, "liveness")
        service.wait_ready(60)
        assert "# HELP cloudmatch_" in service.get("/metrics")[1]
        if name in ("edge", "analytics"):
            assert "<html" in service.get("/")[1].lower()
    finally:
        process.terminate()
    service.check()


def test_every_module_finds_its_imports(installed: tuple[str, Path]) -> None:
    name, image = installed
    bus = ["contract.amqp", "process"] if name == "analytics" else ["contract", "client", "process"]
    for package in (*(f"cloudmatch_bus.{each}" for each in bus), f"cloudmatch_{name.replace('-', '_')}"):
        subprocess.run(
            [image / "libraries/bin/python", "-c", IMPORT_ALL, package],
            env={"PYTHONPATH": str(image / "service")},
            check=True,
            timeout=60,
        )


def test_libraries_are_at_the_versions_that_were_tested(installed: tuple[str, Path]) -> None:
    _, image = installed
    pins = {line.lower().replace("_", "-") for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert libraries(image)
    assert libraries(image) <= pins


def test_every_image_but_that_of_analytics_has_a_client_of_nats(installed: tuple[str, Path]) -> None:
    name, image = installed
    found = {line.partition("==")[0] for line in libraries(image)}
    assert {"nats-py", "nkeys"} & found == (set() if name == "analytics" else {"nats-py", "nkeys"})


def libraries(image: Path) -> set[str]:
    """Return the libraries of an image as ``name==version``."""
    freeze = [BIN / "python", "-m", "pip", "--python", image / "libraries/bin/python", "freeze"]
    found = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout.split()
    return {line.lower().replace("_", "-") for line in found}


def test_the_programs_that_pods_name_are_in_the_image(
    installed: tuple[str, Path], rendered: Rendered
) -> None:
    name, image = installed
    for pod in rendered.pods:
        for container in (*pod.containers, *pod.steps):
            if container["image"].startswith(f"cloudmatch/{name}:"):
                for path in re.findall(rf"{IN_IMAGE}/([\w/-]+)", str(container)):
                    assert (image / path).exists(), path
