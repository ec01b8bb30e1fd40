"""An environment as a cluster would run it, on loopback: secrets, mounted files, variables, processes.

`Environment` renders one, and gives its servers of NATS and settings for its services. Files are those that
the pods mount, options and variables those that their containers get. Only what must differ here does:
folders, addresses and ports.
"""

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import trustme

from cloudmatch_bus.client.connection import PERMISSIONS_VIOLATION
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.tools import nkeys_cli
from deploy.rendered import KUSTOMIZE, Object, Pod, render
from harness import BIN, Process, Service, eventually_sync, free_port, service
from harness.tokens import ISSUER, jwk_set, signer

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
Secrets = dict[str, dict[str, str]]  # name → file → content


NODES = ("nats", *(f"nats-{i}.nats-nodes" for i in range(3)))


def certificate(authority: trustme.CA, *names: str) -> dict[str, str]:
    """Return the files that cert-manager would put into a Secret; here the names resolve to 127.0.0.1."""
    made = authority.issue_cert(*names, "127.0.0.1")
    return {
        "tls.crt": "".join(pem.bytes().decode() for pem in made.cert_chain_pems),
        "tls.key": made.private_key_pem.bytes().decode(),
        "ca.crt": authority.cert_pem.bytes().decode(),
    }


def secrets(folder: Path, authority: trustme.CA) -> Secrets:
    """Create the secrets that deploy/README.md lists; seeds are in `folder`."""
    nkeys_cli.make_keys(folder)
    return {
        "nats-keys": {file.name: file.read_text() for file in folder.iterdir() if file.is_file()},
        "nats-tls": certificate(authority, *NODES),
        "rabbitmq-tls": certificate(authority, "rabbitmq"),
        "http-keys": {"keys": ""},
        "device-tokens": {"issuer": ISSUER, "jwks.json": jwk_set(signer().published()).decode()},
    }


class Environment:
    """An environment of deploy/kustomize."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.keys = folder / "keys"  # as written by `cloudmatch-keys make`
        self.secrets = secrets(self.keys, self.authority)
        self.rendered = render(name)
        for each in self.rendered.of("Secret"):
            content = {k: base64.b64decode(v).decode() for k, v in each["data"].items()}
            self.secrets[each["metadata"]["name"]] = content
            self.keys = KUSTOMIZE / name / "keys"
        pod = self.rendered.pod("nats")
        count = pod.owner["spec"]["replicas"]
        self.ports = [{name: free_port() for name in pod.ports} for _ in range(count)]
        self.nodes: list[Node] = []
        self.started: list[Service] = []

    @property
    def url(self) -> str:
        """The local NATS servers."""
        pod = self.rendered.pod("edge")
        scheme = self.variables(pod, "")["CLOUDMATCH_NATS_URL"].partition(":")[0]
        return ",".join(f"{scheme}://127.0.0.1:{ports['client']}" for ports in self.ports)

    def _config(self, source: Object) -> dict[str, str]:
        return self.rendered.data("ConfigMap", source["configMapRef"]["name"]) or {}

    def content(self, source: Object) -> dict[str, str]:
        """Return the files of one source of a volume; none for an empty folder or a claim."""
        if reference := source.get("configMap"):
            return self.rendered.data("ConfigMap", reference["name"]) or {}
        if reference := source.get("secret"):
            files = self.secrets[reference.get("secretName") or reference["name"]]
            if items := reference.get("items"):
                return {item["path"]: files[item["key"]] for item in items}
            return files
        if projected := source.get("projected"):
            return {k: v for each in projected["sources"] for k, v in self.content(each).items()}
        return {}

    def mount(
        self, pod: Pod, own: Path, more: Mapping[str, str], container: Object | None = None
    ) -> dict[str, str]:
        """Write the files of a pod's first container under `own`; return the local path of each mount.

        Args:
            more: what else the files say of the pod → what it is here.
            container: instead of the first.
        """
        container = container or pod.containers[0]
        volumes = {each["name"]: each for each in pod.spec.get("volumes", ())}
        here: dict[str, str] = {}
        for each in container.get("volumeMounts", ()):
            folder = here[each["mountPath"]] = str(own / each["mountPath"].strip("/").replace("/", "-"))
            Path(folder).mkdir(parents=True, exist_ok=True)
        for each in container.get("volumeMounts", ()):
            for name, text in self.content(volumes.get(each["name"], {})).items():
                Path(here[each["mountPath"]], name).write_text(replaced(text, here | dict(more)))
        return here

    def variables(self, pod: Pod, name: str) -> dict[str, str]:
        """Return the variables of a pod's first container; `name` is the pod's."""
        values: dict[str, str] = {}
        for source in pod.containers[0].get("envFrom", ()):
            values |= self._config(source)
        for each in pod.containers[0].get("env", ()):
            source = each.get("valueFrom", {})
            if secret := source.get("secretKeyRef"):
                values[each["name"]] = self.secrets[secret["name"]][secret["key"]]
            else:
                values[each["name"]] = name if "fieldRef" in source else each["value"]
        return values

    def settings(self, service: str, name: str = "") -> dict[str, str]:
        """Return the settings of the service's pod of this name, for a local process."""
        pod, own = self.rendered.pod(service), self.folder / (name or service)
        more = {"0.0.0.0": "127.0.0.1"}  # noqa: S104 # replaced
        here = self.mount(pod, own, more) | more
        for step in pod.steps:
            self._make_credentials(
                step["command"], self.mount(pod, own, more, step), service, name or service
            )
        values = {k: replaced(v, here) for k, v in self.variables(pod, name or service).items()}
        for auth in ("CLOUDMATCH_EDGE_AUTH", "CLOUDMATCH_HTTP_AUTH"):
            if auth in values:
                values[auth] = "none"  # the devices of these tests have no tokens, its clients no keys
        if "CLOUDMATCH_NATS_URL" in values:
            values["CLOUDMATCH_NATS_URL"] = self.url
        return values

    def _make_credentials(self, command: list[str], here: Mapping[str, str], role: str, name: str) -> None:
        """Do what the step before a service does."""
        known = {"$(ROLE)": role, "$(POD_NAME)": name}
        program, what, *arguments = [known.get(word) or replaced(word, here) for word in command]
        assert (Path(program).name, what) == ("cloudmatch-keys", "mint")
        folder, role, name, file = arguments
        nkeys_cli.mint_credentials(Path(folder), role, name, Path(file))

    def person(self, role: str, name: str = "") -> NatsSettings:
        """Return the settings of a person, or of a service's process, for a connection of the test."""
        file = self.folder / f"{role}-{name}.creds"
        nkeys_cli.write(file, nkeys_cli.mint(self.keys, role, name or role))
        return NatsSettings(
            url=self.url,
            credentials_file=str(file),
            ca_file=self.authority_file if self.url.startswith("tls") else "",
        )

    @property
    def authority_file(self) -> str:
        """Path of the authority's certificate."""
        file = self.folder / "ca.crt"
        self.authority.cert_pem.write_to_path(str(file))
        return str(file)

    @contextlib.contextmanager
    def services(self) -> Iterator[Callable[..., Service]]:
        """Start services that end with the context: ``start(service, name of its pod, other settings)``."""
        with contextlib.ExitStack() as stack:

            def start(
                kind: str, name: str, more: Mapping[str, str] | None = None, deadline: float = 20
            ) -> Service:
                settings = self.settings(kind, name) | (more or {})
                self.started.append(stack.enter_context(service(kind, settings, deadline=deadline)))
                return self.started[-1]

            yield start

    def check(self) -> None:
        """Fail if a service was denied a subject."""
        for each in self.started:
            assert PERMISSIONS_VIOLATION not in each.logs(), each.process.tail()

    @contextlib.contextmanager
    def nats(self) -> Iterator[list["Node"]]:
        """Run the NATS servers; all probes succeed at first."""
        try:
            self.nodes = [Node(self, index) for index in range(len(self.ports))]
            eventually_sync(lambda: all(node.healthy() for node in self.nodes), 30, "all probes")
            yield self.nodes
        finally:
            for node in self.nodes:
                node.process.kill()
            shutil.rmtree(self.folder, ignore_errors=True)


def replaced(text: str, here: Mapping[str, str]) -> str:
    """Translate the names and ports of the cluster in a text to the local ones. A key may contain the digits
    of a port: only whole words are translated."""
    names = "|".join(map(re.escape, sorted(here, key=len, reverse=True)))
    return re.sub(rf"(?<!\w)(?:{names})(?!\w)", lambda found: here[found[0]], text)


class Node:
    """One server of the StatefulSet nats."""

    def __init__(self, environment: Environment, index: int) -> None:
        pod = environment.rendered.pod("nats")
        self.container = pod.containers[0]
        self.patience = pod.spec["terminationGracePeriodSeconds"]
        self.name, self.ports = f"nats-{index}", environment.ports[index]
        self._environment, self._pod = environment, pod
        self._own = environment.folder / self.name
        # addresses and ports of the pod → local ones
        self._there = {"0.0.0.0": "127.0.0.1"}  # noqa: S104 # replaced
        for i, each in enumerate(environment.ports):
            self._there[f"nats-{i}.nats-nodes:6222"] = f"127.0.0.1:{each['routes']}"
        self._there |= {str(number): str(self.ports[name]) for name, number in pod.ports.items()}
        self.start()

    @property
    def url(self) -> str:
        return f"{self._environment.url.partition(':')[0]}://127.0.0.1:{self.ports['client']}"

    def mount(self) -> None:
        """Write the files of the pod, as the kubelet does when they change."""
        self._there |= self._environment.mount(self._pod, self._own, self._there)

    def start(self) -> None:
        """Start the server, on its ports and its data."""
        self.mount()
        env = self._environment.variables(self._pod, self.name)
        command = [BIN / self.container["command"][0], *map(self._here, self.container["args"])]
        self.process = Process(self.name, command, env, self._own)

    def _here(self, text: str) -> str:
        return replaced(text, self._there)

    def probe(self, name: str) -> int:
        """Return the status that the kubelet would see; 0 without an answer."""
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
        """Whether all probes succeed."""
        assert self.process.returncode is None, self.process.tail()
        return all(self.probe(name) == 200 for name in PROBES)

    def execute(self, command: list[str]) -> None:
        """Run a command in the pod, like `kubectl exec`."""
        subprocess.run(
            [self._here(part) for part in command],
            env={"PATH": f"{BIN}:{os.defpath}"},
            check=True,
            capture_output=True,
        )

    def stop(self) -> None:
        """Stop it like the kubelet: the hook, then SIGTERM at once."""
        hook: Object = self.container["lifecycle"]["preStop"]["exec"]
        self.execute(hook["command"])
        self.process.signal(signal.SIGTERM)

    def replace(self) -> None:
        """Replace the pod as a roll-out does; return once the next one may follow."""
        self.stop()
        assert self.process.wait(self.patience) == 0, self.process.tail()
        self.start()
        eventually_sync(self.healthy, 60, f"all probes of {self.name}")
