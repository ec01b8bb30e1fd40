"""The network policies allow the arrows of the architecture, and nothing else."""

from collections.abc import Iterator

import pytest

from deploy.rendered import NAME, Object, Pod, Rendered, render

ANYBODY = "anybody"
SCRAPED = ("edge", "match-engine", "journal", "bridge-rabbit", "analytics")
ARROWS = {
    (ANYBODY, "edge", 8080),  # devices
    (ANYBODY, "journal", 8081),  # REST
    (ANYBODY, "analytics", 8085),  # REST, the live chart
    ("edge", "nats", 4222),
    ("match-engine", "nats", 4222),
    ("journal", "nats", 4222),
    ("bridge-rabbit", "nats", 4222),
    ("bridge-rabbit", "rabbitmq", 5671),
    ("analytics", "rabbitmq", 5671),
    ("analytics", "kafka", 9092),
    # among the servers
    ("nats", "nats", 6222),
    ("rabbitmq", "rabbitmq", 4369),
    ("rabbitmq", "rabbitmq", 25672),
    ("kafka", "kafka", 9092),
    ("kafka", "kafka", 9093),
    # metrics
    *(("prometheus", name, port) for name, port in zip(SCRAPED, (8080, 8082, 8081, 8083, 8085), strict=True)),
    ("prometheus", "rabbitmq", 15692),
    ("prometheus", "nats", 7777),
}


def allowed(rendered: Rendered, direction: str, peers: str) -> Iterator[tuple[str, str, str | int]]:
    """Yield (owner of the policy, peer, port) for all that policies allow in one direction."""
    for policy in rendered.of("NetworkPolicy"):
        selector = policy["spec"]["podSelector"].get("matchLabels")
        if not selector:
            continue
        for rule in policy["spec"].get(direction, ()):
            for peer in rule.get(peers, [None]):
                if peer is not None:
                    assert set(peer) == {"podSelector"}, "only pods of this namespace are named"
                other = ANYBODY if peer is None else peer["podSelector"]["matchLabels"][NAME]
                for port in rule["ports"]:
                    yield selector[NAME], other, port["port"]


def number(pod: Pod, port: str | int) -> int:
    """Return the number of a port given by name or number."""
    return pod.ports[port] if isinstance(port, str) else port


@pytest.fixture
def pods(production: Rendered) -> dict[str, Pod]:
    return {pod.name: pod for pod in production.pods}


def test_incoming_traffic_is_allowed_exactly_as_in_the_architecture(
    production: Rendered, pods: dict[str, Pod]
) -> None:
    entries = {
        (other, own, number(pods[own], port)) for own, other, port in allowed(production, "ingress", "from")
    }
    # A port open to anybody needs no other peer.
    assert entries == {
        arrow for arrow in ARROWS if arrow[0] == ANYBODY or (ANYBODY, *arrow[1:]) not in ARROWS
    }


def test_outgoing_traffic_is_allowed_exactly_as_in_the_architecture(
    production: Rendered, pods: dict[str, Pod]
) -> None:
    exits = {
        (own, other, number(pods[other], port))
        for own, other, port in allowed(production, "egress", "to")
        if other != ANYBODY
    }
    assert exits == {arrow for arrow in ARROWS if arrow[0] != ANYBODY}


def test_only_prometheus_may_reach_anything_but_pods(production: Rendered) -> None:
    outside = {(own, port) for own, other, port in allowed(production, "egress", "to") if other == ANYBODY}
    assert outside == {("prometheus", 443), ("prometheus", 6443)}


@pytest.mark.parametrize("environment", ["overlays/local", "overlays/staging", "overlays/production"])
def test_all_other_traffic_but_dns_is_denied(environment: str) -> None:
    policies: dict[str, Object] = {
        each["metadata"]["name"]: each["spec"] for each in render(environment).of("NetworkPolicy")
    }
    assert policies.pop("nobody") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    names = policies.pop("names")
    assert names["podSelector"] == {}
    assert {port["port"] for rule in names["egress"] for port in rule["ports"]} == {53}
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in policies.values())
