"""The permissions of each user at the NATS server, as data.

A user is a service or a role of people: ``operator`` maintains streams, ``trace`` only subscribes. Everyone
else is refused. `configuration` renders the table as ``nats/permissions.conf``, one variable for each user;
``users.conf``, made by ``cloudmatch-keys``, assigns these variables to public keys.

Each user has reply inboxes of its own, which nobody else can read; ``_INBOX.>`` is that of the NATS command
line. Nobody has ``allow_responses``: the server would record the reply address of every payload for it. A
user that answers requests may publish to the inboxes of those that send them.
"""

from typing import NamedTuple

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.streams import BUCKET_PREFIX, BUCKET_STREAM, EVENTS, SINGLES

API = "$JS.API"
CLI_INBOX = "_INBOX.>"  # of the NATS command line
JOURNAL = ("journal", "journal-verify")  # names of the connections of the user journal
BRIDGE = "bridge-rabbit"
SYSTEM = "sys"  # the user of the system account: unrestricted there, without access to the bus


class Rights(NamedTuple):
    """The subjects of one user. In `subscribe`, ``<subject> <queue group>`` permits only that group."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny_publish: tuple[str, ...] = ()  # takes precedence over `publish`


def inbox(name: str) -> str:
    """Return the prefix of the inboxes of the connection `name`."""
    return f"_INBOX_{name}"


def _facts(*kinds: str) -> tuple[str, ...]:
    return tuple(map(subjects.every_ev_of, kinds))


def _in_queue_group(subject: str) -> str:
    return f"{subject} {subjects.QUEUE_GROUP}"


def _provisioning(stream: str) -> tuple[str, ...]:
    return tuple(f"{API}.STREAM.{what}.{stream}" for what in ("INFO", "CREATE", "UPDATE"))


_EVENTS_INFO = f"{API}.STREAM.INFO.{EVENTS}"
_CONSUMER_VERBS = ("CREATE", "INFO", "MSG.NEXT", "DELETE")
_MICRO = ("", ".match-engine", ".match-engine.*")  # addressed: all micro services, this one, one instance

USERS = {
    "edge": Rights(
        publish=(
            *map(subjects.all_of, ("up", "ack", "match")),
            *_facts("connected", "left", "deliveries", "claimed", "delivered"),
            subjects.every_heartbeat("edge"),
            f"{inbox('match-engine')}.>",  # answers to probes
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
            f"{inbox('edge')}.>",  # answers to pairing requests
            CLI_INBOX,  # answers to `explain` and `cluster`
            f"{BUCKET_PREFIX}>",
            f"{API}.STREAM.MSG.GET.{BUCKET_STREAM}",
            f"{API}.CONSUMER.CREATE.{BUCKET_STREAM}",
            # It provisions for all services.
            *_provisioning(EVENTS),
            *_provisioning(BUCKET_STREAM),
            *(f"{API}.CONSUMER.{what}.{EVENTS}.{BRIDGE}" for what in ("INFO", "DURABLE.CREATE")),
        ),
        subscribe=(
            *(_in_queue_group(subjects.all_of(kind)) for kind in ("up", "match")),
            *map(_in_queue_group, (subjects.explain(), subjects.cluster())),
            *(f"$SRV.{verb}{which}" for verb in ("PING", "INFO", "STATS") for which in _MICRO),
            *map(subjects.every_heartbeat, ("edge", "worker")),
            f"{inbox('match-engine')}.>",
        ),
    ),
    "journal": Rights(
        publish=(
            *_facts("reported", "deliveries", "lost", "forgotten"),
            _EVENTS_INFO,
            *(f"{API}.CONSUMER.{what}.{EVENTS}.*" for what in _CONSUMER_VERBS),
        ),
        subscribe=tuple(f"{inbox(name)}.>" for name in JOURNAL),
        deny_publish=tuple(
            f"{API}.CONSUMER.{what}.{EVENTS}.{durable}"
            for durable in (BRIDGE, SINGLES)
            for what in _CONSUMER_VERBS
        ),
    ),
    BRIDGE: Rights(
        publish=(
            _EVENTS_INFO,
            f"{API}.CONSUMER.DELETE.{EVENTS}.{SINGLES}",
            *(
                f"{API}.CONSUMER.{what}.{EVENTS}.{durable}"
                for durable in (BRIDGE, SINGLES)
                for what in ("INFO", "DURABLE.CREATE", "MSG.NEXT")
            ),
            *(f"$JS.ACK.{EVENTS}.{durable}.>" for durable in (BRIDGE, SINGLES)),
        ),
        subscribe=(f"{inbox(BRIDGE)}.>",),
    ),
    "trace": Rights(publish=(), subscribe=(subjects.EVERYTHING, f"{inbox('trace')}.>", CLI_INBOX)),
    "operator": Rights(
        publish=("$JS.>", "$KV.>", "$SRV.>", subjects.explain(), subjects.cluster()),
        subscribe=(subjects.EVERYTHING, "$KV.>", f"{inbox('operator')}.>", CLI_INBOX),
    ),
}
SERVICES = ("edge", "match-engine", "journal", BRIDGE)


def variable(user: str) -> str:
    """Return the name of the variable that holds a user's rights in the server's configuration."""
    return f"RIGHTS_{user.upper().replace('-', '_')}"


def _subjects(which: str, allowed: tuple[str, ...], denied: tuple[str, ...] = ()) -> list[str]:
    if not allowed:
        return [f'  {which}: {{ deny: ">" }}']
    lines = [f"  {which}: {{", "    allow: [", *(f'      "{subject}"' for subject in allowed), "    ]"]
    if denied:
        lines += ["    deny: [", *(f'      "{subject}"' for subject in denied), "    ]"]
    return [*lines, "  }"]


def configuration() -> str:
    """Render the rights of all users in the syntax of the server's configuration."""
    lines = [
        "# What each user of the bus may do. Rendered from cloudmatch_bus/permissions.py:",
        "# cloudmatch-keys rights >nats/permissions.conf",
    ]
    for user, rights in USERS.items():
        lines += ["", f"{variable(user)} = {{"]
        lines += _subjects("publish", rights.publish, rights.deny_publish)
        lines += [*_subjects("subscribe", rights.subscribe), "}"]
    return "\n".join(lines) + "\n"
