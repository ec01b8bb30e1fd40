"""`make deploy`, `undeploy` and `images` with SERVICE: one service, everything of it, and nothing else.

A script in place of kubectl records what it is asked; it leaves rendering to the real one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from cloudmatch_local.one_service import OneServiceError, select, shared
from deploy.rendered import KUBECTL, NAME, Object, Rendered, render
from deploy.test_manifests import parts
from harness.processes import BIN, ROOT

SERVER = ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "StatefulSet"]
PRODUCTION = {
    "edge": [
        *("Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy"),
        *("PodDisruptionBudget", "Service"),
    ],
    "match-engine": ["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget"],
    "journal": ["NetworkPolicy", "Service", "StatefulSet"],
    "bridge-rabbit": ["Deployment", "NetworkPolicy"],
    "analytics": ["ConfigMap", "NetworkPolicy", "Service", "StatefulSet"],
    "nats": SERVER,
    "rabbitmq": SERVER,
    "kafka": ["NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet"],
    "prometheus": [
        *("ConfigMap", "NetworkPolicy", "Role", "RoleBinding", "Service", "ServiceAccount", "StatefulSet"),
    ],
}
LOCAL = {
    "edge": ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service"],
    "match-engine": ["Deployment", "NetworkPolicy", "PodDisruptionBudget"],
    "journal": ["NetworkPolicy", "Service", "Service", "StatefulSet"],
    "bridge-rabbit": ["Deployment", "NetworkPolicy"],
    "analytics": ["ConfigMap", "NetworkPolicy", "Service", "Service", "StatefulSet"],
    "nats": SERVER,
    "rabbitmq": SERVER,
}
EXPECTED = {"local": LOCAL, "staging": PRODUCTION, "production": PRODUCTION}

pytestmark = pytest.mark.skipif(not KUBECTL.exists(), reason="kubectl is not installed: make setup")


def key(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def without_hash(name: str) -> str:
    """Return a generated name without the hash of its content."""
    stem, _, last = name.rpartition("-")
    return stem if stem and len(last) == 10 else name


@pytest.mark.parametrize("environment", EXPECTED)
def test_each_service_has_its_own_objects_and_the_rest_is_shared(environment: str) -> None:
    objects = render(f"overlays/{environment}").objects
    owned = set()
    for service, kinds in EXPECTED[environment].items():
        selected = select(objects, environment, service)
        assert sorted(each["kind"] for each in selected) == sorted(kinds), service
        assert {each["metadata"]["labels"][NAME] for each in selected} == {service}
        owned |= {key(each) for each in selected}
    rest = {(kind, without_hash(name)) for kind, name in map(key, objects) if (kind, name) not in owned}
    common = {
        ("ConfigMap", "amqp"),
        ("ConfigMap", "bus"),
        ("NetworkPolicy", "names"),
        ("NetworkPolicy", "nobody"),
    }
    if environment == "local":  # its secrets, and the policies of pods that it has not
        common |= {("Secret", "nats-keys"), ("Secret", "rabbitmq")}
        common |= {("NetworkPolicy", "kafka"), ("NetworkPolicy", "prometheus")}
    (namespace,) = {name for kind, name in rest if kind == "Namespace"}
    assert rest == common | {("Namespace", namespace)}


def test_a_configmap_belongs_to_its_only_reader_or_to_nobody(rendered: Rendered) -> None:
    readers: dict[str, set[str]] = {}
    for pod in rendered.pods:
        for part in parts(pod.spec):
            if reference := part.get("configMapRef") or part.get("configMap"):
                readers.setdefault(reference["name"], set()).add(pod.name)
    for each in rendered.of("ConfigMap"):
        found = readers[each["metadata"]["name"]]
        (owner,) = found if len(found) == 1 else [None]
        assert each["metadata"]["labels"].get(NAME) == owner, each["metadata"]["name"]


def test_what_a_service_shares_are_the_configmaps_and_secrets_of_the_environment_it_reads() -> None:
    def of(environment: str, service: str) -> list[str]:
        objects = render(f"overlays/{environment}").objects
        return sorted(map(without_hash, shared(objects, select(objects, environment, service))))

    assert of("local", "edge") == ["configmap/bus", "secret/nats-keys"]
    assert of("local", "analytics") == ["configmap/amqp", "secret/rabbitmq"]
    assert of("production", "bridge-rabbit") == ["configmap/amqp", "configmap/bus"]
    assert of("production", "kafka") == []


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    objects = render("overlays/local").objects
    with pytest.raises(OneServiceError) as wrong:
        select(objects, "local", "kafka")  # embedded there
    assert str(wrong.value) == (
        "SERVICE=kafka cannot be used: ENV=local has "
        "analytics, bridge-rabbit, edge, journal, match-engine, nats and rabbitmq"
    )


# -- the commands


SCRIPT = """#!{python}
import json, os, sys
if sys.argv[1] == "kustomize":
    os.execv({kubectl!r}, [{kubectl!r}, *sys.argv[1:]])
text = sys.stdin.read() if "-" in sys.argv else ""
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[1:], text]) + "\\n")
if "get" in sys.argv:
    print(*(each for each in sys.argv if each.startswith({present!r})), sep="\\n")
"""


class Call(NamedTuple):
    """A command of kubectl, and the objects on its stdin."""

    command: list[str]
    objects: list[Object]


class Outcome(NamedTuple):
    """What came of `make`."""

    code: int
    output: str
    calls: list[Call]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Outcome]:
    """Run `make` with a kubectl that finds everything, or what begins with `present`, in its cluster."""

    def run(*arguments: str, present: tuple[str, ...] = ("configmap/", "secret/")) -> Outcome:
        script, log = tmp_path / "kubectl", tmp_path / "log"
        fields: dict[str, Any] = {"python": sys.executable, "kubectl": str(KUBECTL), "log": str(log)}
        script.write_text(SCRIPT.format(**fields, present=present))
        script.chmod(0o755)
        log.write_text("")
        done = subprocess.run(
            ["make", "-s", "-o", "setup", *arguments, f"KUBECTL={script}", f"BIN={BIN}"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        calls = [
            Call(command, list(yaml.safe_load_all(text)))
            for command, text in map(json.loads, log.read_text().splitlines())
        ]
        return Outcome(done.returncode, done.stdout, calls)

    return run


def test_one_service_is_applied_and_waited_for(make: Callable[..., Outcome]) -> None:
    outcome = make("deploy", "SERVICE=edge", "ENV=staging")
    assert outcome.code == 0, outcome.output
    look, apply, wait = outcome.calls
    assert look.command[:3] == ["-n", "cloudmatch-staging", "get"]
    assert apply.command == ["apply", "-f", "-"]
    expected = select(render("overlays/staging").objects, "staging", "edge")
    assert apply.objects == expected
    assert wait.command == (
        ["-n", "cloudmatch-staging", "rollout", "status", "deployment/edge", "--timeout=10m"]
    )


def test_one_service_is_removed_and_what_others_use_stays(make: Callable[..., Outcome]) -> None:
    outcome = make("undeploy", "SERVICE=journal")
    assert outcome.code == 0, outcome.output
    (delete,) = outcome.calls
    assert delete.command == ["delete", "--ignore-not-found", "-f", "-"]
    assert sorted(map(key, delete.objects)) == [
        ("NetworkPolicy", "journal"),
        ("Service", "cloudmatch-db-svc"),
        ("Service", "journal"),
        ("StatefulSet", "journal"),
    ]


def test_a_service_is_not_deployed_into_a_cluster_without_what_it_shares(
    make: Callable[..., Outcome],
) -> None:
    outcome = make("deploy", "SERVICE=edge", present=("secret/",))
    assert outcome.code != 0
    assert [call.command[2] for call in outcome.calls] == ["get"]
    (bus,) = (each for each in shared_by_edge() if each.startswith("configmap/bus"))
    assert (
        f"cloudmatch-local lacks {bus}, which services share: run `make deploy ENV=local` first"
        in outcome.output
    )


def shared_by_edge() -> list[str]:
    objects = render("overlays/local").objects
    return shared(objects, select(objects, "local", "edge"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("deploy", "SERVICE=edges"), "SERVICE=edges cannot be used: ENV=local has analytics, "),
        (("undeploy", "SERVICE=edges"), "SERVICE=edges cannot be used: ENV=local has analytics, "),
        (
            ("deploy", "SERVICE=edge", "ENV=moon"),
            "ENV=moon cannot be used: expected local, production or staging",
        ),
        (("undeploy", "SERVICE="), "SERVICE is empty: name a service, or leave it out"),
        (
            ("images", "SERVICE=nats"),
            "SERVICE=nats: expected one of edge match-engine journal bridge-rabbit analytics",
        ),
    ],
)
def test_wrong_names_are_refused_before_anything_is_done(
    make: Callable[..., Outcome], arguments: tuple[str, ...], sentence: str
) -> None:
    outcome = make(*arguments, "CONTAINERS=false")
    assert outcome.code != 0
    assert sentence in outcome.output
    assert outcome.calls == []


def test_without_a_service_the_whole_environment_is_meant(make: Callable[..., Outcome]) -> None:
    assert [call.command for call in make("undeploy").calls] == [
        ["delete", "-k", "deploy/kustomize/overlays/local"]
    ]
    apply, wait = (call.command for call in make("deploy", "ENV=production").calls)
    assert apply == ["apply", "-k", "deploy/kustomize/overlays/production"]
    assert wait[:4] == ["-n", "cloudmatch", "rollout", "status"]


def test_the_image_of_one_service_is_built_or_all(make: Callable[..., Outcome]) -> None:
    def built(*arguments: str) -> list[str]:
        lines = make("images", "CONTAINERS=echo", *arguments).output.splitlines()
        return [line.partition(" -t ")[2] for line in lines]

    assert built("SERVICE=edge", "TAG=7") == ["cloudmatch/edge:7 ."]
    services = ("edge", "match-engine", "journal", "bridge-rabbit", "analytics")
    assert built() == [f"cloudmatch/{each}:local ." for each in services]
