"""The permissions of each role at the NATS server, as data.

A role is that of a service or of people: ``operator`` maintains streams, ``trace`` only subscribes. Everyone
else is refused. `template` renders the rights of a role as NATS takes them with the role's signing key; in
them the server puts the name that a process' credentials say in place of `NAME`, so that one edge hears and
says nothing of another.

Each role, and each process of it, has reply inboxes of its own, which nobody else can read; ``_INBOX.>`` is
that of the NATS command line. Nobody has ``allow_responses``: the server would record the reply address of
every payload for it. A role that answers requests may publish to the inboxes of those that send them.
"""

from typing import NamedTuple

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.streams import BUCKET_PREFIX, BUCKET_STREAM, EVENTS, SINGLES

API = "$JS.API"
CLI_INBOX = "_INBOX.>"  # of the NATS command line
JOURNAL = "journal"  # the source of its facts
BRIDGE = "bridge-rabbit"
SYSTEM = "sys"  # the role of the system account: unrestricted there, without access to the bus
NAME = "{{name()}}"  # in a subject: the token of the process' name
PROBES = "probe"  # in an inbox: for the answers of edges, which may publish to no other of a worker


class Rights(NamedTuple):
    """The subjects of one role. In `subscribe`, ``<subject> <queue group>`` permits only that group."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox(role: str, name: str) -> str:
    """Return the prefix of the inboxes of a process; `name` is a token."""
    return f"_INBOX_{role}.{name}"


def _own(subject: str) -> str:
    """Return a subject with an escaped `NAME` as the server expects it."""
    return subject.replace(subjects.token(NAME), NAME)


def _own_inbox(role: str) -> str:
    return f"{inbox(role, NAME)}.>"


def _facts(*kinds: str) -> tuple[str, ...]:
    return tuple(map(subjects.every_ev_of, kinds))


def _in_queue_group(subject: str) -> str:
    return f"{subject} {subjects.QUEUE_GROUP}"


def _provisioning(stream: str) -> tuple[str, ...]:
    return tuple(f"{API}.STREAM.{what}.{stream}" for what in ("INFO", "CREATE", "UPDATE"))


_EVENTS_INFO = f"{API}.STREAM.INFO.{EVENTS}"
_QUESTIONS = (subjects.explain(), subjects.cluster(), subjects.devices(), subjects.device())
_MICRO = ("", ".match-engine", ".match-engine.*")  # addressed: all micro services, this one, one instance

ROLES = {
    "edge": Rights(
        publish=(
            _own(subjects.every_up_from(NAME)),
            subjects.all_of("ack"),
            _own(subjects.every_match_batch_from(NAME)),
            *_facts("connected", "left", "delivered"),
            *(_own(subjects.every_ev_from(kind, NAME)) for kind in ("deliveries", "claimed")),
            _own(subjects.heartbeat("edge", NAME)),
            f"{inbox('match-engine', '*')}.{PROBES}.*",
            _EVENTS_INFO,
        ),
        subscribe=(
            *(_own(every(NAME)) for every in (subjects.every_dn, subjects.every_ack, subjects.every_ctl)),
            _own(subjects.probe(NAME)),
            _own(subjects.heartbeat("edge", NAME)),  # its own, as an echo
            _own_inbox("edge"),
        ),
    ),
    "match-engine": Rights(
        publish=(
            *map(subjects.all_of, ("dn", "ctl")),
            *_facts("matched", "unmatched"),
            _own(subjects.heartbeat("worker", NAME)),
            subjects.every_probe(),
            f"{inbox('edge', '*')}.>",  # answers to pairing requests
            CLI_INBOX,  # answers to questions
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
            *map(_in_queue_group, _QUESTIONS),
            *(f"$SRV.{verb}{which}" for verb in ("PING", "INFO", "STATS") for which in _MICRO),
            *map(subjects.every_heartbeat, ("edge", "worker")),
            # Of all workers, which know the same: in a list with `NAME`, NATS ignores what has a queue group.
            f"{inbox('match-engine', '*')}.>",
        ),
    ),
    "journal": Rights(
        publish=(
            *_facts("reported", "forgotten"),
            *(subjects.every_ev_from(kind, JOURNAL) for kind in ("deliveries", "lost")),
            _EVENTS_INFO,
            f"{API}.DIRECT.GET.{EVENTS}",  # it makes no consumer, which could deliver to any subject
        ),
        subscribe=(_own_inbox("journal"),),
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
        subscribe=(_own_inbox(BRIDGE),),
    ),
    "trace": Rights(publish=(), subscribe=(subjects.EVERYTHING, _own_inbox("trace"), CLI_INBOX)),
    "operator": Rights(
        publish=("$JS.>", "$KV.>", "$SRV.>", *_QUESTIONS),
        subscribe=(subjects.EVERYTHING, "$KV.>", _own_inbox("operator"), CLI_INBOX),
    ),
}
# What processes of the previous version say, and none of this one: allowed while they are replaced.
EARLIER = {"edge": (subjects.all_of("up"),)}
SERVICES = ("edge", "match-engine", "journal", BRIDGE)


def may_provision(role: str) -> bool:
    """Whether a role may create streams."""
    return any(".STREAM.CREATE." in subject for subject in ROLES[role].publish)


def template(role: str, *, rolling: bool = False) -> dict[str, object]:
    """Render the rights of a role as the claims of its signing key have them.

    Args:
        rolling: with those of `EARLIER`.
    """
    rights = ROLES[role]
    allowed = rights.publish + (EARLIER.get(role, ()) if rolling else ())
    publish = {"allow": allowed} if allowed else {"deny": [">"]}
    return {"pub": publish, "sub": {"allow": rights.subscribe}, "subs": -1, "data": -1, "payload": -1}
