"""What JetStream keeps for CloudMatch: names, limits and times that several rooms rely on.

`client.stream_config` makes nats-py's configurations of them, `client.provision` makes the server agree.
"""

EVENTS = "EVENTS"  # the stream of facts
BUCKET = "match"  # the key-value bucket of devices and pairs
BUCKET_STREAM = f"KV_{BUCKET}"
BUCKET_PREFIX = f"$KV.{BUCKET}."  # of the subject of each key
DURABLE_CONSUMERS = ("bridge-rabbit",)  # of EVENTS, named like their services
# The durable consumer of bridge-rabbit for one message per payload: made and deleted by the service itself,
# as its setting says, and beginning at the end of the stream.
SINGLES = "bridge-rabbit-singles"

DAY = 24 * 3600.0
GIB = 1024**3

EVENTS_MAX_AGE = 7 * DAY
EVENTS_MAX_BYTES = 4 * GIB
EVENTS_MIN_BYTES = GIB // 64  # of a server that has room for no more
DUPLICATE_WINDOW = 120.0  # s within which a message id is kept once
ACK_WAIT = 5.0  # s after which a fact that was neither acknowledged nor reported in progress is redelivered
MAX_ACK_PENDING = 1000  # facts delivered by a durable consumer and not acknowledged
INACTIVE_THRESHOLD = 30.0  # s without a request after which the server deletes a watch of the bucket
TOMBSTONE_TTL = 60  # s for which a deleted key leaves its tombstone


def single_replica_warning(cluster: str | None, replicas: int) -> str | None:
    """Warn where a server of a cluster holds the only copy of a stream; None elsewhere."""
    if not cluster or replicas > 1:
        return None
    return (
        f"single-replica streams in NATS cluster {cluster!r}: "
        "while the server that holds one is down, devices are not matched or facts not stored"
    )
