"""Check every part of a running CloudMatch: ``cloudmatch doctor``."""

import asyncio
import contextlib
import email.utils
import enum
import http.client
import json
import platform
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable
from dataclasses import dataclass, field
from importlib.metadata import version
from urllib.parse import urlsplit

import cloudmatch
from cloudmatch.cli.cluster import ask_cluster
from cloudmatch.cli.rest import AnswerError
from cloudmatch.cli.words import count

TIMEOUT = 5.0  # s for each part to answer
SKEW = 2.0  # s of clock skew worth a warning; a Date header has whole seconds
AMQP = b"AMQP\x00\x00\x09\x01"  # protocol header
START = "start everything with `make up`"
IDLE_TIMEOUT = "cloudmatch_edge_suspected_idle_timeout_seconds"
SINGLES_LAG = "cloudmatch_bridge_rabbit_singles_lag_seconds"
LAG = 30.0  # s worth a warning
SERIOUS = {"isolated", "conflict", "edges"}  # problems of the cluster that are no mere warnings
# The checks of an edge that accepts no more devices, and what to raise
FULL = {"devices": "CLOUDMATCH_EDGE_MAX_CONNECTIONS", "descriptors": "its limit of open files (ulimit -n)"}
ADVICE = {"facts": "see to the disk of NATS: make room, then restart the server; the relay goes on meanwhile"}
ROOM = "start another edge, or raise {}; its own devices are served"


class State(enum.StrEnum):
    """Result of a check."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """Result of checking one part, with advice if it failed."""

    part: str
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Endpoints:
    """Where to find the parts."""

    edges: list[str]  # URLs
    services: dict[str, str]  # URL by name
    nats: str  # comma-separated
    amqp: str
    token: str | None = field(default=None, repr=False)


async def examine(endpoints: Endpoints) -> list[Finding]:
    """Check all parts concurrently."""
    services = [*(("edge", url) for url in endpoints.edges), *endpoints.services.items()]
    checks: list[Awaitable[list[Finding]]] = [asyncio.to_thread(service, name, url) for name, url in services]
    checks += [nats(url.strip()) for url in endpoints.nats.split(",")]
    checks += [asyncio.to_thread(cluster, endpoints.services["match-engine"])]
    checks += [asyncio.to_thread(idle_timeout, url) for url in endpoints.edges]
    checks += [asyncio.to_thread(singles, endpoints.services["bridge-rabbit"])]
    checks += [rabbitmq(endpoints.amqp), devices(endpoints.edges, endpoints.token)]
    return [versions(), *(finding for found in await asyncio.gather(*checks) for finding in found)]


def versions() -> Finding:
    """Return the versions on this side."""
    found = f"cloudmatch {version('cloudmatch')}, websockets {version('websockets')}"
    return Finding("this client", State.GOOD, f"{found}, Python {platform.python_version()}")


def service(name: str, url: str) -> list[Finding]:
    """Check a service's readiness and clock."""
    probe = f"{url.rstrip('/')}/system/readiness"
    began = time.time()
    try:
        with urllib.request.urlopen(probe, timeout=TIMEOUT) as answer:  # noqa: S310 # the user's own URL
            findings = [Finding(name, State.GOOD, f"ready at {url}"), *warnings(name, answer.read())]
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:
        findings, date = [unready(name, url, error.code, error.read())], error.headers["Date"]
    except (OSError, ValueError) as error:
        why = str(getattr(error, "reason", error))
        return [
            Finding(name, State.BAD, f"{url} does not answer: {why}", f"{START}, or pass the URL of {name}")
        ]
    skewed = skew(name, date, (began + time.time()) / 2)
    return [*findings, skewed] if skewed else findings


def warnings(name: str, body: bytes) -> list[Finding]:
    """Return what a service that is ready says is wrong."""
    try:
        said = json.loads(body)["warnings"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [Finding(name, State.WARNING, str(text), ADVICE.get(part, "check its log")) for part, text in said]


def unready(name: str, url: str, status: int, body: bytes) -> Finding:
    """Return why a service is not ready."""
    try:
        failed = json.loads(body)["reasons"]
        reasons = "; ".join(f"{part}: {reason}" for part, reason in failed.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return Finding(
            name, State.BAD, f"{url} answered {status}", f"is that {name}? Check its URL and its log"
        )
    if failed and failed.keys() <= FULL.keys():
        advice = ROOM.format(" and ".join(FULL[check] for check in failed))
        return Finding(name, State.WARNING, f"{'; '.join(failed.values())} at {url}", advice)
    return Finding(name, State.BAD, f"not ready: {reasons}", f"fix what it names, then check {name}'s log")


def metric(url: str, name: str) -> float:
    """Return a metric of a service; 0 if it does not say."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/metrics", timeout=TIMEOUT) as answer:  # noqa: S310 # the user's own URL
            metrics = answer.read().decode()
    except (OSError, http.client.HTTPException, ValueError):
        return 0.0
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def idle_timeout(edge: str) -> list[Finding]:
    """Report connections of an edge that end after the same silence each time."""
    silence = metric(edge, IDLE_TIMEOUT)
    if not silence:
        return []
    found = f"connections to {edge} end after {silence:.1f} s of silence each time, as by its idle time-out"
    return [Finding("proxy", State.WARNING, found, "raise that, or set CLOUDMATCH_EDGE_HEARTBEAT below it")]


def singles(bridge: str) -> list[Finding]:
    """Report one message per payload when it lags; nothing when it does not, or the bridge does not say."""
    lag = metric(bridge, SINGLES_LAG)
    if lag < LAG:
        return []
    found = f"one message per payload is {lag:.0f} s behind in RabbitMQ; windows are not affected"
    advice = "see to the consumers of cloudmatch.bytes, or set CLOUDMATCH_BRIDGE_RABBIT_SINGLES=false"
    return [Finding("singles", State.WARNING, found, advice)]


def skew(name: str, date: str | None, now: float) -> Finding | None:
    """Compare a service's clock (its ``Date`` header) with ours, s since 1970."""
    with contextlib.suppress(TypeError, ValueError):
        ahead = email.utils.parsedate_to_datetime(date or "").timestamp() + 0.5 - now
        if abs(ahead) > SKEW:
            found = f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this one"
            return Finding(f"clock of {name}", State.WARNING, found, "synchronize both machines by NTP")
    return None


def cluster(match_engine: str) -> list[Finding]:
    """List edges and workers, and what is wrong with them; nothing if match-engine does not say.

    Whether it answers at all is the finding of `service`.
    """
    try:
        status = ask_cluster(match_engine)
    except AnswerError:
        return []
    numbers = [
        count(sum(process["state"] not in ("dead", "silent", "left") for process in status[kind]), kind[:-1])
        for kind in ("edges", "workers")
    ]
    problems = [
        Finding(
            "cluster",
            State.BAD if problem["kind"] in SERIOUS else State.WARNING,
            problem["sentence"],
            problem["advice"],
        )
        for problem in status["problems"]
    ]
    return [Finding("cluster", State.GOOD, " and ".join(numbers) + " alive"), *problems]


async def nats(url: str) -> list[Finding]:
    """Check a NATS server by its INFO line."""
    host, port = host_and_port(url, 4222)
    advice = f"{START}, or set CLOUDMATCH_NATS_URL to the running servers"
    try:
        async with asyncio.timeout(TIMEOUT):
            greeting = await first_bytes(host, port, b"", b"\r\n")
        info = json.loads(greeting.decode().removeprefix("INFO "))
        jetstream = bool(info.get("jetstream"))
        found = f"NATS {info['version']} at {host}:{port}"
    except (OSError, TimeoutError) as error:
        return [Finding("NATS", State.BAD, f"{host}:{port} does not answer: {error}", advice)]
    except (ValueError, KeyError, TypeError, AttributeError, EOFError):
        return [Finding("NATS", State.BAD, f"{host}:{port} is not a NATS server", advice)]
    if not jetstream:
        return [Finding("NATS", State.BAD, f"{found} has no JetStream", "start it with nats/server.conf")]
    return [Finding("NATS", State.GOOD, f"{found}, with JetStream")]


async def rabbitmq(url: str) -> list[Finding]:
    """Check RabbitMQ by its first frame."""
    host, port = host_and_port(url, 5672)
    advice = f"{START}, or set CLOUDMATCH_AMQP_URL to the running server"
    try:
        async with asyncio.timeout(TIMEOUT):
            greeting = await first_bytes(host, port, AMQP, b"\xce")  # the end of its first frame
    except (OSError, TimeoutError, EOFError) as error:
        return [Finding("RabbitMQ", State.BAD, f"{host}:{port} does not answer: {error}", advice)]
    known = re.search(rb"\x07versionS...(.)", greeting, re.DOTALL)
    if not greeting.startswith(b"\x01\x00\x00"):
        return [Finding("RabbitMQ", State.BAD, f"{host}:{port} is not a RabbitMQ server", advice)]
    name = greeting[known.end() : known.end() + known[1][0]].decode() if known else "of an unknown version"
    return [Finding("RabbitMQ", State.GOOD, f"RabbitMQ {name} at {host}:{port}")]


async def first_bytes(host: str, port: int, ours: bytes, until: bytes) -> bytes:
    """Connect, send `ours`, and return the first bytes of the answer."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(ours)
        return await reader.readuntil(until)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise EOFError("it closed the connection") from None
        return bytes(error.partial)
    except asyncio.LimitOverrunError:
        return b""
    finally:
        writer.close()


async def devices(urls: list[str], token: str | None) -> list[Finding]:
    """Match two devices of our own and send a payload from one to the other."""
    app = f"doctor-{secrets.token_hex(4)}"
    part = "two devices"
    try:
        async with asyncio.timeout(2 * TIMEOUT):
            first, second = (
                cloudmatch.connect(urls, id=name, lat=0, lon=0, app=app, token=token, timeout=TIMEOUT)
                for name in ("a", "b")
            )
            async with first, second:
                await asyncio.gather(first.matched(), second.matched())
                began = time.perf_counter()
                _, received = await asyncio.gather(first.send("ciao", receipt=True), second.receive())
                took = (time.perf_counter() - began) * 1000
                if received != "ciao":
                    return [Finding(part, State.BAD, "the payload was altered on its way", "report this")]
    except TimeoutError:
        advice = "is a match-engine running, and connected to the same NATS? `cloudmatch trace` shows the bus"
        return [Finding(part, State.BAD, "connected, but no payload was delivered", advice)]
    except cloudmatch.RefusedError as error:
        advice = "give a token with --token" if error.status in (401, 403) else "fix what it names"
        return [Finding(part, State.BAD, f"the edge refused a device: {error}", advice)]
    except (cloudmatch.CloudMatchError, ValueError) as error:
        refused = error.__cause__
        if isinstance(refused, cloudmatch.RefusedError) and refused.status == 429:
            return [Finding(part, State.WARNING, str(error), "wait, or raise the quota: deploy/SETTINGS.md")]
        if isinstance(refused, cloudmatch.RefusedError) and refused.code == "edge_full":
            return [Finding(part, State.WARNING, str(error), ROOM.format("what limits it"))]
        return [Finding(part, State.BAD, str(error), f"{START}, or pass the URL of an edge with --url")]
    return [Finding(part, State.GOOD, f"matched; a payload and its receipt took {took:.1f} ms")]


def host_and_port(url: str, port: int) -> tuple[str, int]:
    """Return host and port of a URL; `port` is the default."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    return parts.hostname or "127.0.0.1", parts.port or port
