"""The manifests and deploy/SETTINGS.md agree with the services' settings."""

import itertools
import re
from typing import Any

import msgspec
import pytest

from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.settings import (
    AmqpSettings,
    CommonSettings,
    HttpSettings,
    Settings,
    describe,
    read,
)
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_local import settings_page
from cloudmatch_local.settings import SERVICES, LocalSettings, groups, prefix
from deploy.rendered import Object, Pod, Rendered

# The groups that each service reads besides its own: the arguments of `run` in its __main__.
READS: dict[str, list[type[Settings]]] = {
    "edge": [NatsSettings],
    "match-engine": [NatsSettings, HttpSettings],
    "journal": [NatsSettings, HttpSettings],
    "bridge-rabbit": [NatsSettings, AmqpSettings, HttpSettings],
    "analytics": [AmqpSettings, HttpSettings],
}
SECRETS = {
    "url": "amqp://user:secret@server:5672/",
    "username": "user",
    "password": "secret",
    "issuer": "https://issuer.example",
}


def test_the_page_of_settings_is_as_make_settings_writes_it_with_every_setting_and_its_default() -> None:
    page = settings_page.FILE.read_text(encoding="utf-8")
    assert page == settings_page.render(), "run `make settings`"
    for group in (group for of_service in groups().values() for group in of_service):
        for name, default, description in describe(group):
            shown = f"`{default}`" if default != "" else ""
            assert description, f"{name} has no description"
            assert f"| `{name}` | {shown} | {description}" in page


def environ(rendered: Rendered, pod: Pod, container: Object) -> dict[str, str]:
    """Return the environment of a container, with made-up secrets and names."""
    values: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        values |= rendered.data("ConfigMap", source["configMapRef"]["name"]) or {}
    for each in container.get("env", ()):
        source = each.get("valueFrom", {})
        if secret := source.get("secretKeyRef"):
            values[each["name"]] = SECRETS[secret["key"]]
        elif field := source.get("fieldRef"):
            assert field["fieldPath"] == "metadata.name"
            values[each["name"]] = f"{pod.name}-7d9c6f8b5d-x2x9z"
        else:
            values[each["name"]] = each["value"]
    return values


def service(rendered: Rendered, name: str) -> tuple[Pod, dict[str, str], list[type[Settings]]]:
    """Return a service's pod, its environment, and the groups of settings that it reads."""
    pod = rendered.pod(name)
    own = groups()[name]
    return pod, environ(rendered, pod, pod.containers[0]), [CommonSettings, *own, *READS[name]]


@pytest.mark.parametrize("name", SERVICES)
def test_every_variable_is_a_setting_of_its_service_with_a_valid_value(rendered: Rendered, name: str) -> None:
    _, values, its_groups = service(rendered, name)
    known = {
        f"{group.prefix}_{field.name.upper()}"
        for group in its_groups
        for field in msgspec.structs.fields(group)
    }
    assert values.keys() <= known
    for group in its_groups:
        read(group, values)  # raises for an invalid value


def test_edges_say_who_may_connect_and_only_a_local_one_lets_anybody_in(rendered: Rendered) -> None:
    _, values, (_, own, *_) = service(rendered, "edge")
    settings = read(EdgeSettings, values)
    assert own is EdgeSettings
    settings.check()
    assert settings.auth == ("none" if rendered.environment == "overlays/local" else "jwt")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_listens_on_the_port_of_its_pod(rendered: Rendered, name: str) -> None:
    pod, values, its_groups = service(rendered, name)
    settings: Any = read(next(g for g in its_groups if g.prefix == prefix(name)), values)
    assert getattr(settings, "own_port", settings.port) == pod.ports["http"]
    assert settings.host == "0.0.0.0"  # noqa: S104 # the kubelet probes the pod's address


def test_services_find_the_servers_of_their_environment(rendered: Rendered) -> None:
    names = {each["metadata"]["name"]: each for each in rendered.of("Service")}
    assert names["nats"]["spec"]["ports"][0]["port"] == rendered.pod("nats").ports["client"]
    _, values, _ = service(rendered, "edge")
    scheme = "tls" if "nats-tls" in rendered.text else "nats"
    assert read(NatsSettings, values).servers == [f"{scheme}://nats:4222"]
    _, values, _ = service(rendered, "analytics")
    kafka = read(KafkaSettings, values)
    if kafka.embedded:
        (broker,) = rendered.pod("analytics").spec["initContainers"]
        assert read(KafkaSettings, environ(rendered, rendered.pod("analytics"), broker)) == kafka
        assert f'("127.0.0.1", {kafka.port})' in broker["livenessProbe"]["exec"]["command"][2]
    elif "kafka-nodes" in names:
        pod = rendered.pod("kafka")
        count = pod.owner["spec"]["replicas"]
        assert kafka.brokers == ",".join(f"kafka-{i}.kafka-nodes:{pod.ports['kafka']}" for i in range(count))


def test_there_are_as_many_replicas_as_servers(rendered: Rendered) -> None:
    _, values, _ = service(rendered, "bridge-rabbit")
    nats = rendered.pod("nats").owner["spec"]["replicas"]
    assert read(NatsSettings, values).replicas == nats
    assert read(AmqpSettings, values).queue_type == ("quorum" if nats > 1 else "classic")
    file = "cluster.conf" if nats > 1 else "kubernetes.conf"
    assert rendered.pod("nats").containers[0]["args"][0] == f"--config=/etc/nats/{file}"
    (routes,) = [
        re.findall(r"nats://[^\"]+", each["data"]["routes.conf"])
        for each in rendered.of("ConfigMap")
        if "routes.conf" in each["data"]
    ]
    assert nats == 1 or routes == [f"nats://nats-{i}.nats-nodes:6222" for i in range(nats)]


def test_each_edge_is_named_after_its_pod(rendered: Rendered) -> None:
    _, values, _ = service(rendered, "edge")
    assert values["CLOUDMATCH_EDGE_NAME"].startswith("edge-")


def test_lasting_data_is_in_a_volume(rendered: Rendered) -> None:
    for name, variable in (("journal", "CLOUDMATCH_JOURNAL_FOLDER"), ("analytics", "CLOUDMATCH_RUN_DIR")):
        pod, values, _ = service(rendered, name)
        claims = {each["metadata"]["name"] for each in pod.owner["spec"]["volumeClaimTemplates"]}
        folders = [m["mountPath"] for m in pod.containers[0]["volumeMounts"] if m["name"] in claims]
        assert any(f"{values[variable]}/".startswith(f"{folder}/") for folder in folders)


def test_local_settings_are_set_nowhere(rendered: Rendered) -> None:
    local = [f"{LocalSettings.prefix}_{f.name.upper()}" for f in msgspec.structs.fields(LocalSettings)]
    indices = [f"{prefix(name)}_INDEX" for name in SERVICES]
    for name in itertools.chain(local, indices):
        assert name not in rendered.text
