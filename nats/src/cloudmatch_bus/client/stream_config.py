"""The configurations of streams and consumers, as nats-py's classes."""

from typing import Any

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from cloudmatch_bus.contract import streams, subjects

NOT_COMPARED = {"first_seq", "num_replicas"}  # the server may keep other values than were asked for


def events(replicas: int) -> StreamConfig:
    """The stream of facts: every fact once, in order, on disk."""
    return StreamConfig(
        name=streams.EVENTS,
        description="every fact: connected, matched, delivered, left",
        subjects=[subjects.every_ev()],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=streams.EVENTS_MAX_AGE,
        max_bytes=streams.EVENTS_MAX_BYTES,
        discard=DiscardPolicy.OLD,
        duplicate_window=streams.DUPLICATE_WINDOW,
        allow_direct=True,
    )


def bucket(replicas: int) -> StreamConfig:
    """The bucket of devices and pairs, in memory: if it is lost, edges register their devices again."""
    return StreamConfig(
        name=streams.BUCKET_STREAM,
        description="devices and pairs",
        subjects=[f"{streams.BUCKET_PREFIX}>"],
        storage=StorageType.MEMORY,
        num_replicas=replicas,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        duplicate_window=streams.DUPLICATE_WINDOW,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
        allow_msg_ttl=True,
        allow_atomic=True,
    )


def durable_consumer(name: str, *, new: bool = False) -> ConsumerConfig:
    """A consumer of EVENTS whose position the server keeps; with `new` it begins at the end of the stream."""
    return ConsumerConfig(
        durable_name=name,
        deliver_policy=DeliverPolicy.NEW if new else DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=streams.ACK_WAIT,
        max_ack_pending=streams.MAX_ACK_PENDING,
    )


def differences(asked: StreamConfig | ConsumerConfig, got: object) -> dict[str, tuple[Any, Any]]:
    """Return {field: (asked, got)} of each field that was asked for (not None) and differs on the server."""
    return {
        name: (want, have)
        for name, want in vars(asked).items()
        if want is not None
        and name not in NOT_COMPARED
        and (have := getattr(got, name, None)) != want
        and (want or have)  # the server leaves out what is empty or false
    }
