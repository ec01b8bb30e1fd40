"""What each user of the bus may do, as data: its rights at the NATS server are these and no others.

A user is a service, or what a person does: ``operator`` cares for streams, ``trace`` only listens. Whoever
else connects is refused. `configuration` renders all of it as the file ``nats/permissions.conf``, in which
each user's rights are a variable that ``users.conf``, made by ``cloudmatch-keys``, gives to public keys.

Replies come to an inbox of the user's own, so that nobody hears another's; ``_INBOX.>`` is that of the NATS
tools. Nobody has the right to answer whatever it was asked (``allow_responses``): the server would note
every frame's reply address for it. Who answers may write to the inboxes of those who ask.
"""

from typing import NamedTuple

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.streams import BUCKET_PREFIX, BUCKET_STREAM, EVENTS

API = "$JS.API"
TOOLS = "_INBOX.>"  # inboxes of the NATS command line
FOLLOWERS = ("journal", "journal-verify")  # connections of one user
BRIDGE = "bridge-rabbit"
SYSTEM = "sys"  # the user of the system account, which has all rights there and none on the bus


class Rights(NamedTuple):
    """What a user may do. In `subscribe`, ``<subject> <queue group>`` is only that group."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny_publish: tuple[str, ...] = ()  # in spite of `publish`


def inbox(name: str) -> str:
    """Give the prefix of the inboxes of the connection `name`."""
    return f"_INBOX_{name}"


def _facts(*kinds: str) -> tuple[str, ...]:
    return tuple(map(subjects.every_ev_of, kinds))


def _only(subject: str) -> str:
    return f"{subject} {subjects.QUEUE_GROUP}"


def _made(stream: str) -> tuple[str, ...]:
    return tuple(f"{API}.STREAM.{what}.{stream}" for what in ("INFO", "CREATE", "UPDATE"))


_EVENTS_INFO = f"{API}.STREAM.INFO.{EVENTS}"
_ALL = ("CREATE", "MSG.NEXT", "DELETE")
_MICRO = ("", ".match-engine", ".match-engine.*")  # all micro services, those of this name, one of them

USERS = {
    "edge": Rights(
        publish=(
            *map(subjects.all_of, ("up", "ack", "match")),
            *_facts("connected", "left", "delivered"),
            subjects.every_heartbeat("edge"),
            f"{inbox('match-engine')}.>",  # asked whether it lives
            _EVENTS_INFO,
        ),
        subscribe=(
            *map(subjects.all_of, ("dn", "ack", "ctl")),
            subjects.every_probe(),
            subjects.every_heartbeat("edge"),
            f"{inbox('edge')}.>",
        ),
    ),
    "match-engine": Rights(
        publish=(
            *map(subjects.all_of, ("dn", "ctl")),
            *_facts("matched", "unmatched"),
            subjects.every_heartbeat("worker"),
            subjects.every_probe(),
            f"{inbox('edge')}.>",  # asked for a partner
            TOOLS,  # asked for an explanation
            f"{BUCKET_PREFIX}>",
            f"{API}.STREAM.MSG.GET.{BUCKET_STREAM}",
            f"{API}.CONSUMER.CREATE.{BUCKET_STREAM}",
            # It makes what all use.
            *_made(EVENTS),
            *_made(BUCKET_STREAM),
            f"{API}.CONSUMER.DURABLE.CREATE.{EVENTS}.{BRIDGE}",
        ),
        subscribe=(
            *(_only(subjects.all_of(word)) for word in ("up", "match")),
            _only(subjects.explain()),
            *(f"$SRV.{verb}{which}" for verb in ("PING", "INFO", "STATS") for which in _MICRO),
            *map(subjects.every_heartbeat, ("edge", "worker")),
            f"{inbox('match-engine')}.>",
        ),
    ),
    "journal": Rights(
        publish=(
            *_facts("reported"),
            _EVENTS_INFO,
            *(f"{API}.CONSUMER.{what}.{EVENTS}.*" for what in _ALL),
        ),
        subscribe=tuple(f"{inbox(name)}.>" for name in FOLLOWERS),
        deny_publish=tuple(f"{API}.CONSUMER.{what}.{EVENTS}.{BRIDGE}" for what in _ALL),
    ),
    BRIDGE: Rights(
        publish=(
            _EVENTS_INFO,
            f"{API}.CONSUMER.MSG.NEXT.{EVENTS}.{BRIDGE}",
            f"$JS.ACK.{EVENTS}.{BRIDGE}.>",
        ),
        subscribe=(f"{inbox(BRIDGE)}.>",),
    ),
    "trace": Rights(publish=(), subscribe=(subjects.EVERYTHING, f"{inbox('trace')}.>", TOOLS)),
    "operator": Rights(
        publish=("$JS.>", "$KV.>", "$SRV.>", subjects.explain()),
        subscribe=(subjects.EVERYTHING, "$KV.>", f"{inbox('operator')}.>", TOOLS),
    ),
}
SERVICES = ("edge", "match-engine", "journal", BRIDGE)


def variable(user: str) -> str:
    """Name the variable of the configuration that holds a user's rights."""
    return f"RIGHTS_{user.upper().replace('-', '_')}"


def _subjects(which: str, allowed: tuple[str, ...], denied: tuple[str, ...] = ()) -> list[str]:
    if not allowed:
        return [f'  {which}: {{ deny: ">" }}']
    lines = [f"  {which}: {{", "    allow: [", *(f'      "{subject}"' for subject in allowed), "    ]"]
    if denied:
        lines += ["    deny: [", *(f'      "{subject}"' for subject in denied), "    ]"]
    return [*lines, "  }"]


def configuration() -> str:
    """Render the rights of all users in the language of the server's configuration."""
    lines = [
        "# What each user of the bus may do. Rendered from cloudmatch_bus/permissions.py:",
        "# cloudmatch-keys rights >nats/permissions.conf",
    ]
    for user, rights in USERS.items():
        lines += ["", f"{variable(user)} = {{"]
        lines += _subjects("publish", rights.publish, rights.deny_publish)
        lines += [*_subjects("subscribe", rights.subscribe), "}"]
    return "\n".join(lines) + "\n"
