"""Deploy or remove one service of a Kubernetes environment: ``make deploy SERVICE=edge``, ``undeploy``."""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

OVERLAYS = Path(__file__).resolve().parents[2] / "kustomize/overlays"
NAME = "app.kubernetes.io/name"  # the label that says of which service an object is
WORKLOADS = ("Deployment", "StatefulSet")
TIMEOUT = "10m"  # for a roll-out
Object = dict[str, Any]


class OneServiceError(Exception):
    """Nothing was done; the message is one sentence that says what to change."""


def main() -> None:
    """Deploy or remove one service; exit with kubectl's code if it fails."""
    parser = argparse.ArgumentParser(prog="one_service", description=__doc__)
    parser.add_argument("action", choices=("deploy", "undeploy"))
    parser.add_argument("environment", help="a folder of deploy/kustomize/overlays")
    parser.add_argument("service")
    parser.add_argument("--kubectl", default=str(Path(sys.executable).with_name("kubectl")))
    given = parser.parse_args()
    try:
        objects = render(given.kubectl, given.environment)
        selected = select(objects, given.environment, given.service)
        if given.action == "deploy":
            deploy(given.kubectl, given.environment, objects, selected)
        else:
            text = yaml.safe_dump_all(selected)
            _run(given.kubectl, "delete", "--ignore-not-found", "-f", "-", text=text, show=True)
    except OneServiceError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except subprocess.CalledProcessError as error:  # kubectl has said why
        sys.exit(error.returncode)


def render(kubectl: str, environment: str) -> list[Object]:
    """Return all objects of an environment."""
    known = sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))
    if environment not in known:
        raise OneServiceError(f"ENV={environment} cannot be used: expected {_either(known)}")
    return list(yaml.safe_load_all(_run(kubectl, "kustomize", str(OVERLAYS / environment))))


def select(objects: Sequence[Object], environment: str, service: str) -> list[Object]:
    """Return the objects of one service: those that have its name as label, none that others use, too.

    Raises:
        OneServiceError: the environment does not run it; names those that it runs.
    """
    known = sorted(each["metadata"]["name"] for each in objects if each["kind"] in WORKLOADS)
    if service not in known:
        raise OneServiceError(
            f"SERVICE={service} cannot be used: ENV={environment} has {_either(known, 'and')}"
        )
    return [each for each in objects if each["metadata"]["labels"].get(NAME) == service]


def shared(objects: Sequence[Object], selected: Sequence[Object]) -> list[str]:
    """Return ``kind/name`` of each ConfigMap and Secret of the environment that `selected` only refers to."""
    words = {word for each in selected for word in _strings(each)}
    return [
        f"{each['kind'].lower()}/{each['metadata']['name']}"
        for each in objects
        if each["kind"] in ("ConfigMap", "Secret")
        and each not in selected
        and each["metadata"]["name"] in words
    ]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def deploy(kubectl: str, environment: str, objects: Sequence[Object], selected: Sequence[Object]) -> None:
    """Apply the objects of a service and wait until it has rolled out.

    Raises:
        OneServiceError: the cluster lacks what the service shares with others.
    """
    namespace = selected[0]["metadata"]["namespace"]
    if wanted := shared(objects, selected):
        found = _run(kubectl, "-n", namespace, "get", *wanted, "--ignore-not-found", "-o", "name").split()
        if missing := [each for each in wanted if each not in found]:
            raise OneServiceError(
                f"{namespace} lacks {_either(missing, 'and')}, which services share: "
                f"run `make deploy ENV={environment}` first"
            )
    _run(kubectl, "apply", "-f", "-", text=yaml.safe_dump_all(selected), show=True)
    for each in selected:
        if each["kind"] in WORKLOADS:
            what = f"{each['kind'].lower()}/{each['metadata']['name']}"
            _run(kubectl, "-n", namespace, "rollout", "status", what, f"--timeout={TIMEOUT}", show=True)


def _run(kubectl: str, *arguments: str, text: str = "", show: bool = False) -> str:
    """Run kubectl on `text`; return what it prints, or show it.

    Raises:
        subprocess.CalledProcessError: it failed; its own message is on stderr.
    """
    command = [*kubectl.split(), *arguments]
    done = subprocess.run(
        command, input=text, stdout=None if show else subprocess.PIPE, text=True, check=True
    )
    return done.stdout or ""


def _either(names: Sequence[str], word: str = "or") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


if __name__ == "__main__":
    main()
