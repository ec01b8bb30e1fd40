"""The bucket of devices and pairs: atomic writes, reads from the leader, and a watch of all changes.

A JetStream key-value bucket, readable with ``nats kv``. Writes are atomic batches, for which nats-py's KV
class has no call. The watch is a consumer of our own, which notices a dead server within `WATCH_TIMEOUT`.
"""

import asyncio
import base64
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import nats.errors
from nats.js.api import Header
from nats.js.errors import NotFoundError

from cloudmatch_bus.client.connection import Bus, Headers, Subscription
from cloudmatch_bus.contract import streams

log = logging.getLogger("bucket")

WRONG_LAST_SEQUENCE = (10071, 10164)  # JetStream's error codes of a conflict
WATCH_HEARTBEAT = 0.5  # s between heartbeats of the server to an idle watch
WATCH_TIMEOUT = 2.0  # s without a message, after which the watch restarts
WATCH_RETRY = 0.2  # s before another attempt to start it


class Write(NamedTuple):
    """Write a key if it is still at the revision `expected` (0: absent)."""

    key: str
    value: bytes | None  # None deletes
    expected: int
    tombstone: bytes = b""  # what a deleted key leaves behind for `streams.TOMBSTONE_TTL`


class Entry(NamedTuple):
    """A key's value and the revision at which it was written; value None when it is absent or deleted."""

    key: str
    value: bytes | None
    revision: int
    tombstone: bytes = b""  # of a deleted key
    # s since it was written, if a watch begins with it; by the server's clock, like the duplicate window
    age: float = 0.0


class ConflictError(Exception):
    """A key was not at its expected revision; nothing was written."""


class Bucket:
    """Reads and writes of the bucket. All raise `TimeoutError` if JetStream does not answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._batches = 0
        self._origin = f"{time.time_ns():x}-{id(self):x}"

    async def get(self, key: str) -> Entry:
        """Read the newest value of a key, from the leader."""
        payload = json.dumps({"last_by_subj": streams.BUCKET_PREFIX + key}).encode()
        answer = json.loads(
            await self._bus.request(f"$JS.API.STREAM.MSG.GET.{streams.BUCKET_STREAM}", payload)
        )
        if error := answer.get("error"):
            if error.get("code") == 404:
                return Entry(key, None, 0)
            raise TimeoutError(f"cannot read {key}: {error}")
        message = answer["message"]
        headers = base64.b64decode(message.get("hdrs", "")).decode(errors="replace")
        data, revision = base64.b64decode(message.get("data", "")), int(message["seq"])
        if "KV-Operation" in headers:
            return Entry(key, None, revision, data)
        return Entry(key, data, revision)

    async def commit(self, writes: Sequence[Write]) -> int:
        """Write all of these or none; return the revision of the last, which directly follows the others'.

        Raises:
            ConflictError: a key has changed since its expected revision.
            TimeoutError: no answer; whether it was written is unknown.
        """
        if len(writes) == 1:
            return await self._write_last(writes[0], self._headers(writes[0]))
        self._batches += 1
        batch = f"{self._origin}-{self._batches}"
        for number, write in enumerate(writes, 1):
            headers = self._headers(write)
            headers["Nats-Batch-Id"] = batch
            headers["Nats-Batch-Sequence"] = str(number)
            if number == len(writes):
                headers["Nats-Batch-Commit"] = "1"
                return await self._write_last(write, headers)
            self._bus.publish(streams.BUCKET_PREFIX + write.key, self._payload(write), headers=headers)
        raise ValueError("nothing to write")

    @staticmethod
    def _payload(write: Write) -> bytes:
        return write.tombstone if write.value is None else write.value

    def _headers(self, write: Write) -> dict[str, str]:
        headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(write.expected)}
        if write.value is None:
            headers["KV-Operation"] = "DEL"
            headers["Nats-TTL"] = str(streams.TOMBSTONE_TTL)
        return headers

    async def _write_last(self, write: Write, headers: dict[str, str]) -> int:
        answer = json.loads(
            await self._bus.request(streams.BUCKET_PREFIX + write.key, self._payload(write), headers=headers)
        )
        if refusal := answer.get("error"):
            if refusal.get("err_code") in WRONG_LAST_SEQUENCE:
                raise ConflictError(write.key)
            raise TimeoutError(f"cannot write {write.key}: {refusal}")
        return int(answer["seq"])


def _cancelled() -> bool:
    """Whether this task is to end: Python 3.11's `wait_for` swallows a cancellation that meets its result."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class BucketWatcher:
    """Calls `on_entry` for every key of the bucket, then for each change, in order.

    A gap, a silence or a reconnection restarts it: `on_restart` is called before all keys come (again) from
    the beginning, `on_ready` when the last key that existed has come.
    """

    def __init__(
        self,
        bus: Bus,
        on_entry: Callable[[Entry], None],
        on_restart: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._on_entry = on_entry
        self._on_restart = on_restart
        self._on_ready = on_ready
        self._subscription: Subscription | None = None
        self._next = 1  # consumer sequence expected next
        # s since 1970 by the server's clock: when it began to show all keys; None: it has not answered yet
        self._began: float | None = None
        self._early: list[tuple[str, str, bytes, Headers]] = []  # came before that answer
        self._received_at = 0.0
        self._broken = asyncio.Event()
        self.ready = False
        # set when all keys have come for the first time
        self.synced = asyncio.Event()
        bus.on_reconnect.append(self._reconnected)

    async def _reconnected(self) -> None:
        self._broken.set()

    def health(self) -> str | None:
        """Return why the mirror may be outdated, or None."""
        return None if self.ready else "the mirror of the bucket is incomplete"

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while not _cancelled():
                try:
                    await self._start()
                    await self._watch()
                except (nats.errors.Error, TimeoutError, NotFoundError) as error:
                    log.warning("cannot watch the bucket, retrying: %r", error)
                    await asyncio.sleep(WATCH_RETRY * random.uniform(0.5, 1.5))  # noqa: S311  # jitter
        finally:
            await self._stop()

    async def _start(self) -> None:
        await self._stop()
        self._broken.clear()
        self.ready = False
        self._next = 1
        self._began = None
        self._early.clear()
        self._on_restart()
        inbox = self._bus.client.new_inbox()
        self._subscription = await self._bus.subscribe(inbox, self._on_message)
        pending, self._began = await self._create_consumer(inbox)
        self._received_at = time.monotonic()
        early, self._early = self._early, []
        for message in early:
            self._on_message(*message)
        if pending == 0 and self._next == 1:
            self._complete()

    async def _create_consumer(self, inbox: str) -> tuple[int, float]:
        """Create a consumer of all keys, then all changes.

        Returns:
            How many messages it has to deliver; the server's time, s since 1970.
        """
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "max_deliver": 1,
            "idle_heartbeat": int(WATCH_HEARTBEAT * 1e9),
            "inactive_threshold": int(streams.INACTIVE_THRESHOLD * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
            "filter_subject": f"{streams.BUCKET_PREFIX}>",
        }
        payload = json.dumps({"stream_name": streams.BUCKET_STREAM, "config": config}).encode()
        answer = json.loads(
            await self._bus.request(f"$JS.API.CONSUMER.CREATE.{streams.BUCKET_STREAM}", payload)
        )
        if error := answer.get("error"):
            raise TimeoutError(f"cannot watch {streams.BUCKET_STREAM}: {error}")
        return int(answer["num_pending"]), datetime.fromisoformat(answer["ts"]).timestamp()

    async def _watch(self) -> None:
        """Return once a message was lost, or none has come for `WATCH_TIMEOUT`."""
        while time.monotonic() - self._received_at < WATCH_TIMEOUT and not _cancelled():
            try:
                await asyncio.wait_for(self._broken.wait(), WATCH_HEARTBEAT)
            except TimeoutError:
                continue
            break
        log.info("bucket watch restarting")

    async def _stop(self) -> None:
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            try:
                await self._bus.unsubscribe(subscription)
            except nats.errors.Error:
                log.debug("subscription of the bucket watch had ended already")

    def _complete(self) -> None:
        self.ready = True
        self.synced.set()
        self._on_ready()

    def _on_message(self, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        self._received_at = time.monotonic()
        if self._began is None:
            self._early.append((subject, reply, data, headers))
            return
        if headers is not None and headers.get("Status") == "100":  # a heartbeat with the last sequence sent
            if int(headers.get("Nats-Last-Consumer", "0")) >= self._next:
                self._broken.set()
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
        parts = reply.split(".")
        revision, number, at, pending = map(int, parts[-4:])
        if number != self._next:
            self._broken.set()
            return
        self._next += 1
        key = subject[len(streams.BUCKET_PREFIX) :]
        age = 0.0 if self.ready else max(0.0, self._began - at / 1e9)
        if headers is not None and "KV-Operation" in headers:
            self._on_entry(Entry(key, None, revision, data, age))
        else:
            self._on_entry(Entry(key, data, revision, age=age))
        if pending == 0 and not self.ready:
            self._complete()
