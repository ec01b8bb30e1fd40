"""What `up` starts, on which ports, and which URLs it prints: decided from the settings alone. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from cloudmatch_analytics.settings import KafkaSettings
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import permissions
from cloudmatch_bus.process.health import READINESS
from cloudmatch_bus.process.settings import AmqpSettings
from cloudmatch_local.settings import SERVICES, AllSettings, LocalSettings, prefix

PORT_STEP = 10  # between the ports of two edges, and of two workers
EXTERNAL = "(external)"  # in place of a process' name: a server that runs already
DEFAULT_PORTS = {"http": 80, "https": 443}
WILDCARD_HOSTS = ("0.0.0.0", "::", "")  # noqa: S104 # compared with, not listened on


class Listener(msgspec.Struct, frozen=True):
    """A port that one of our processes listens on."""

    process: str  # honcho's name: ``edge.1``
    port: int
    variable: str  # the setting that changes the port
    host: str = "127.0.0.1"
    scheme: str = ""  # ``http`` or ``https``; empty for other protocols
    legacy: bool = False  # a second port of the process, for clients of 2019

    @property
    def address(self) -> str:
        """Host and port at which a client on this machine reaches the process, as a browser writes them."""
        host = "127.0.0.1" if self.host in WILDCARD_HOSTS else self.host
        return (f"[{host}]" if ":" in host else host) + self.port_suffix

    @property
    def port_suffix(self) -> str:
        """The port with a colon before it; empty if the scheme implies the port."""
        return "" if DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"

    @property
    def probe(self) -> str:
        """URL that answers 200 once the process is ready; empty where an open port is enough."""
        return f"{self.scheme}://{self.address}{READINESS}" if self.scheme else ""


class Row(msgspec.Struct, frozen=True):
    """A line of the table: process, purpose, URL."""

    process: str
    purpose: str
    url: str


class Plan(msgspec.Struct, frozen=True):
    """What runs where."""

    counts: dict[str, int]  # Procfile name → number of processes; only what starts
    listeners: list[Listener]
    rows: list[Row]
    # the values of CLOUDMATCH_EDGE_SERVICES and CLOUDMATCH_HTTP_ORIGINS
    services: str
    origins: str
    names: dict[str, str] = {}  # process → by which it is known on our own bus; empty: everyone may use that

    def port_conflict(self) -> str | None:
        """Return a sentence that names two of our own ports that are the same, if there are any."""
        seen: dict[int, Listener] = {}
        for each in self.listeners:
            if (other := seen.setdefault(each.port, each)) is not each:
                who = (
                    f"{each.process} would listen twice"
                    if each.process == other.process
                    else f"{each.process} and {other.process} would both listen"
                )
                return f"{who} on port {each.port}: set {each.variable} or {other.variable} to another"
        return None


def make(settings: AllSettings, edges: int, workers: int) -> Plan:
    """Plan `edges` edges, `workers` workers, one of each other service, and the servers that have no URL."""
    listeners, rows = _servers(settings)
    counts = {each.process.partition(".")[0]: 1 for each in listeners}
    counts |= {service: {"edge": edges, "match-engine": workers}.get(service, 1) for service in SERVICES}
    services, origins = [], []
    for service in SERVICES:
        for listener in _listeners(settings, service, counts[service]):
            listeners.append(listener)
            rows += _rows(service, listener)
            if not listener.legacy:
                services.append(f"{service}={listener.scheme}://{listener.address}")
            if service == "edge":
                origins += [f"{listener.scheme}://{host}" for host in _host_names(listener)]
    return Plan(counts, listeners, rows, ",".join(services), ",".join(origins), _names(settings, counts))


PAGES = {
    "edge": [
        ("dev client", "http://{}/"),
        ("devices", "ws://{}/device/connect?id=a&lat=52.37&lon=4.89"),
    ],
    "match-engine": [("metrics", "http://{}/metrics")],
    "journal": [("REST", "http://{}/schema")],
    "bridge-rabbit": [("metrics", "http://{}/metrics")],
    "analytics": [("live chart", "http://{}/"), ("REST", "http://{}/schema")],
}


def _servers(settings: AllSettings) -> tuple[list[Listener], list[Row]]:
    """Plan NATS, RabbitMQ and Kafka: our own, or the ones that have a URL."""
    planned = (_nats(settings), _rabbitmq(settings[AmqpSettings]), _kafka(settings[KafkaSettings]))
    return [each for listeners, _ in planned for each in listeners], [
        row for _, rows in planned for row in rows
    ]


def _nats(settings: AllSettings) -> tuple[list[Listener], list[Row]]:
    nats, monitoring = settings[NatsSettings], settings[LocalSettings].nats_monitoring_port
    if nats.url:
        return [], [Row(EXTERNAL, "NATS", ",".join(map(_without_password, nats.servers)))]
    listeners = [
        Listener("nats.1", nats.port, "CLOUDMATCH_NATS_PORT"),
        Listener("nats.1", monitoring, "CLOUDMATCH_LOCAL_NATS_MONITORING_PORT"),
    ]
    rows = [
        Row("nats.1", "NATS", nats.servers[0]),
        Row("nats.1", "monitoring", f"http://127.0.0.1:{monitoring}/"),
    ]
    return listeners, rows


def _rabbitmq(amqp: AmqpSettings) -> tuple[list[Listener], list[Row]]:
    if amqp.url:
        return [], [Row(EXTERNAL, "RabbitMQ", _without_password(amqp.url))]
    listener = Listener("rabbitmq.1", amqp.port, "CLOUDMATCH_AMQP_PORT")
    return [listener], [Row("rabbitmq.1", "RabbitMQ", f"amqp://{listener.address}/")]


def _kafka(kafka: KafkaSettings) -> tuple[list[Listener], list[Row]]:
    if kafka.brokers:
        return [], [Row(EXTERNAL, "Kafka", kafka.bootstrap)]
    listener = Listener("kafka.1", kafka.port, "CLOUDMATCH_KAFKA_PORT")
    return [listener], [Row("kafka.1", "Kafka protocol", kafka.bootstrap)]


def _listeners(settings: AllSettings, service: str, count: int) -> Iterator[Listener]:
    """Yield the HTTP listeners of each process of a service; the settings are those of the first."""
    values = settings.own(service)
    scheme = "https" if getattr(values, "tls_cert_file", "") else "http"
    host = getattr(values, "host", "127.0.0.1")
    for index in range(count):
        port = values.port + PORT_STEP * index  # type: ignore[attr-defined]
        yield Listener(f"{service}.{index + 1}", port, f"{prefix(service)}_PORT", host, scheme)
    if legacy := getattr(values, "legacy_port", 0):
        variable = f"{prefix(service)}_LEGACY_PORT"
        yield Listener(f"{service}.1", legacy, variable, host, scheme, legacy=True)


def _names(settings: AllSettings, counts: Mapping[str, int]) -> dict[str, str]:
    """Name each process that is on the bus: an edge as it calls itself."""
    if "nats" not in counts or not settings[LocalSettings].keys:
        return {}
    own = getattr(settings.own("edge"), "name", "")
    return {
        f"{service}.{index + 1}": own if own and service == "edge" else f"{service}-{index}"
        for service in permissions.SERVICES
        for index in range(counts[service])
    }


def _rows(service: str, listener: Listener) -> Iterator[Row]:
    secure = listener.scheme.removeprefix("http")
    for purpose, url in PAGES[service]:
        shown = url.format(listener.address).replace(":", f"{secure}:", 1)
        yield Row(listener.process, f"{purpose} (2019)" if listener.legacy else purpose, shown)


def _host_names(listener: Listener) -> tuple[str, str]:
    return listener.address, f"localhost{listener.port_suffix}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:…@{parts.netloc.rpartition('@')[2]}").geturl()


def describe_waiting(listeners: Iterable[Listener], reasons: Mapping[str, str]) -> str:
    """Name each process that is not ready yet once, with the reason if one is known."""
    waiting = dict.fromkeys(each.process for each in listeners)
    return ", ".join(f"{name} ({reasons[name]})" if reasons.get(name) else name for name in waiting)
