"""What JetStream keeps for CloudMatch, as data. `provision` makes the server agree."""

from typing import Any

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)

from cloudmatch_bus.contract import subjects

EVENTS = "EVENTS"
BUCKET = "match"  # the bucket of devices and pairs
ACK_WAIT = 5.0  # s; what a reader of EVENTS neither acknowledged nor said to hold comes again, to any
TOMBSTONE_TTL = 60  # s; how long a deleted key is remembered

DAY = 24 * 3600.0
GIB = 1024**3

# Fields of which the server need not give back what was asked.
NOT_COMPARED = {"first_seq", "num_replicas"}


def events(replicas: int) -> StreamConfig:
    """Every fact, once, in order, on disk."""
    return StreamConfig(
        name=EVENTS,
        description="every fact: connected, matched, delivered, left",
        subjects=[subjects.every_ev()],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=7 * DAY,
        max_bytes=4 * GIB,
        discard=DiscardPolicy.OLD,
        duplicate_window=120.0,
        allow_direct=True,
    )


def bucket(replicas: int) -> StreamConfig:
    """Who waits and who is paired: a key-value bucket in memory. The edges announce their devices anew
    when it is lost."""
    return StreamConfig(
        name=f"KV_{BUCKET}",
        description="devices and pairs",
        subjects=[f"$KV.{BUCKET}.>"],
        storage=StorageType.MEMORY,
        num_replicas=replicas,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        duplicate_window=120.0,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
        allow_msg_ttl=True,
        allow_atomic=True,
    )


def consumer(durable: str) -> ConsumerConfig:
    """A reader of EVENTS that goes on where it stopped; named like its service."""
    return ConsumerConfig(
        durable_name=durable,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        max_ack_pending=1000,
    )


DURABLE_CONSUMERS = ("bridge-rabbit",)


def follower(name: str, after: int) -> ConsumerConfig:
    """A reader of EVENTS that keeps its place itself, beside what it writes: nothing to acknowledge, so
    nothing comes late or twice. The server forgets it soon after its process."""
    return ConsumerConfig(
        name=name,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=30.0,
        mem_storage=True,
        num_replicas=1,
    )


def risk(kept: StreamInfo) -> str | None:
    """Say what is risked where a cluster keeps one copy of a stream; None where that is no risk of ours."""
    cluster = kept.cluster.name if kept.cluster else None
    if not cluster or (kept.config.num_replicas or 1) > 1:
        return None
    return (
        f"NATS cluster {cluster!r} keeps each stream on one of its servers: while that one is away, "
        "nobody is paired, or no fact kept"
    )


def differences(asked: object, got: object) -> dict[str, tuple[Any, Any]]:
    """Give {field: (asked, got)} for what was asked (not None) and is not so on the server."""
    return {
        name: (want, have)
        for name, want in vars(asked).items()
        if want is not None
        and name not in NOT_COMPARED
        and (have := getattr(got, name, None)) != want
        and (want or have)  # the server leaves out what is empty or false
    }
