"""Render an environment of deploy/kustomize and query its objects."""

import functools
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from harness import BIN
from harness.processes import ROOT

KUSTOMIZE = ROOT / "deploy/kustomize"
KUBECTL = BIN / "kubectl"
ENVIRONMENTS = [
    str(path.parent.relative_to(KUSTOMIZE))
    for parent in ("overlays", "scenarios")
    for path in sorted(KUSTOMIZE.glob(f"{parent}/*/kustomization.yaml"))
]
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """The pods of a Deployment or StatefulSet."""

    owner: Object

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.owner["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def spec(self) -> Object:
        spec: Object = self.owner["spec"]["template"]["spec"]
        return spec

    @property
    def containers(self) -> list[Object]:
        """The long-running containers; the first is the main one."""
        initial = self.spec.get("initContainers", ())
        return [*self.spec["containers"], *(each for each in initial if "restartPolicy" in each)]

    @property
    def steps(self) -> list[Object]:
        """The containers that run before these, and end."""
        return [each for each in self.spec.get("initContainers", ()) if "restartPolicy" not in each]

    @property
    def ports(self) -> dict[str, int]:
        """Numbers of the ports, by name."""
        return {p["name"]: p["containerPort"] for c in self.containers for p in c.get("ports", ())}

    @property
    def is_service(self) -> bool:
        """Whether this is one of our own services."""
        return self.labels[COMPONENT] == "service"

    def matches(self, selector: Mapping[str, str]) -> bool:
        """Whether these labels select this pod."""
        return selector.items() <= self.labels.items()


class Rendered:
    """All objects of one environment."""

    def __init__(self, environment: str, text: str) -> None:
        self.environment, self.text = environment, text
        self.objects: list[Object] = list(yaml.load_all(text, Loader=yaml.CSafeLoader))

    def of(self, *kinds: str) -> Iterator[Object]:
        """Return the objects of these kinds."""
        return (each for each in self.objects if each["kind"] in kinds)

    @property
    def pods(self) -> list[Pod]:
        return [Pod(each) for each in self.of("Deployment", "StatefulSet")]

    def pod(self, name: str) -> Pod:
        """Return the pods of this name; `StopIteration` without one."""
        return next(each for each in self.pods if each.name == name)

    def data(self, kind: str, name: str) -> dict[str, str] | None:
        """Return the content of a ConfigMap or Secret; None if it is not in this environment."""
        for each in self.of(kind):
            if each["metadata"]["name"] == name:
                data: dict[str, str] = each["data"]
                return data
        return None


@functools.cache
def render(environment: str) -> Rendered:
    """Render an environment, given by its path in deploy/kustomize."""
    done = subprocess.run(
        [KUBECTL, "kustomize", KUSTOMIZE / environment],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Rendered(environment, done.stdout)
