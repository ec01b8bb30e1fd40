"""What `up` starts, on which ports, and what a person opens: decided from the settings alone. Pure."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.health import READINESS
from cloudmatch_bus.process.settings import AmqpSettings
from cloudmatch_local.settings import Everything, LocalSettings, prefix

STEP = 10  # between the ports of two edges, and of two workers
ANY = ("0.0.0.0", "::", "")  # noqa: S104 # compared with, not listened on


class Listener(msgspec.Struct, frozen=True):
    """A port that a process of ours is to take."""

    process: str  # as honcho names it: ``edge.1``
    port: int
    variable: str  # the setting that moves it
    host: str = "127.0.0.1"
    probe: str = ""  # URL that answers 200 once the process is ready; without one, the open port is enough


class Row(msgspec.Struct, frozen=True):
    """A line of the table: what runs, what for, where."""

    process: str
    purpose: str
    url: str


class Plan(msgspec.Struct, frozen=True):
    """What runs where."""

    counts: dict[str, int]  # processes by their name in the Procfile, only those that start
    listeners: list[Listener]
    rows: list[Row]
    # what an edge's page is told: where services are, and from which origins it comes itself
    services: str
    origins: str

    def clash(self) -> str | None:
        """Say which two of our own ports are the same, if any are."""
        seen: dict[int, Listener] = {}
        for each in self.listeners:
            if (other := seen.setdefault(each.port, each)) is not each:
                return (
                    f"{each.process} and {other.process} would both listen on port {each.port}: "
                    f"set {each.variable} or {other.variable} to another"
                )
        return None


def make(settings: Everything, edges: int, workers: int) -> Plan:
    """Plan `edges` edges, `workers` workers, one of each other service, and the servers that lack."""
    listeners, rows = _servers(settings)
    services, origins = [], []
    counts = {each.process.partition(".")[0]: 1 for each in listeners}
    for service, (host, first, tls) in settings.places.items():
        secure = "s" if tls else ""
        counts[service] = {"edge": edges, "match-engine": workers}.get(service, 1)
        for index in range(counts[service]):
            name, port = f"{service}.{index + 1}", first + STEP * index
            place = f"{_reachable(host)}:{port}"
            probe = f"http{secure}://{place}{READINESS}"
            listeners.append(Listener(name, port, f"{prefix(service)}_PORT", host, probe))
            services.append(f"{service}=http{secure}://{place}")
            if service == "edge":
                origins += [f"http{secure}://{place}", f"http{secure}://localhost:{port}"]
            for purpose, url in PAGES[service]:
                rows.append(Row(name, purpose, url.format(place).replace(":", f"{secure}:", 1)))
    return Plan(counts, listeners, rows, ",".join(services), ",".join(origins))


PAGES = {
    "edge": [
        ("a page to try devices", "http://{}/"),
        ("devices", "ws://{}/device/connect?id=a&lat=52.37&lon=4.89"),
    ],
    "match-engine": [("metrics", "http://{}/metrics")],
    "journal": [("REST", "http://{}/schema")],
    "bridge-rabbit": [("metrics", "http://{}/metrics")],
    "analytics": [("live chart", "http://{}/"), ("REST", "http://{}/schema")],
}


def _servers(settings: Everything) -> tuple[list[Listener], list[Row]]:
    nats, amqp, kafka = settings[NatsSettings], settings[AmqpSettings], settings[KafkaSettings]
    listeners, rows = [], []
    if nats.url:
        rows.append(Row("(yours)", "NATS", ",".join(map(_without_password, nats.servers))))
    else:
        monitoring = settings[LocalSettings].nats_monitoring_port
        listeners.append(Listener("nats.1", nats.port, "CLOUDMATCH_NATS_PORT"))
        listeners.append(Listener("nats.1", monitoring, "CLOUDMATCH_LOCAL_NATS_MONITORING_PORT"))
        rows.append(Row("nats.1", "NATS", nats.servers[0]))
        rows.append(Row("nats.1", "monitoring", f"http://127.0.0.1:{monitoring}/"))
    if amqp.url:
        rows.append(Row("(yours)", "RabbitMQ", _without_password(amqp.url)))
    else:
        listeners.append(Listener("rabbitmq.1", amqp.port, "CLOUDMATCH_AMQP_PORT"))
        rows.append(Row("rabbitmq.1", "RabbitMQ", amqp.address))
    if kafka.brokers:
        rows.append(Row("(yours)", "Kafka", kafka.bootstrap))
    else:
        listeners.append(Listener("kafka.1", kafka.port, "CLOUDMATCH_KAFKA_PORT"))
        rows.append(Row("kafka.1", "Kafka protocol", kafka.bootstrap))
    return listeners, rows


def _reachable(host: str) -> str:
    """Where a client on this machine finds what listens on `host`."""
    host = "127.0.0.1" if host in ANY else host
    return f"[{host}]" if ":" in host else host


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:…@{parts.netloc.rpartition('@')[2]}").geturl()


def waits_for(listeners: Iterable[Listener], reasons: Mapping[str, str]) -> str:
    """Say in one line what is not ready yet, and why as far as it is known."""
    waiting = dict.fromkeys(each.process for each in listeners)
    return ", ".join(f"{name} ({reasons[name]})" if reasons.get(name) else name for name in waiting)
