"""Who may say and hear what; and the keys by which the server tells who is who."""

import stat
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import permissions, subjects
from cloudmatch_bus.contract.permissions import USERS
from cloudmatch_bus.process.settings import SettingsError
from cloudmatch_bus.tools import nkeys_cli

ROOT = Path(__file__).parents[3]


def may(patterns: tuple[str, ...], subject: str) -> bool:
    """Tell whether NATS takes a subject for one of these patterns, without a queue group."""

    def covers(pattern: list[str], tokens: list[str]) -> bool:
        for p, t in zip(pattern, tokens, strict=False):
            if p == ">":
                return True
            if p not in ("*", t):
                return False
        return len(pattern) == len(tokens)

    return any(covers(p.split("."), subject.split(".")) for p in patterns)


def test_the_servers_file_is_what_the_table_says() -> None:
    assert (ROOT / "nats/permissions.conf").read_text() == permissions.configuration()


@pytest.mark.parametrize(
    ("subject", "says", "hears"),
    [
        (subjects.up("demo", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.up_fallback("demo", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.match("demo", "cell", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.dn("demo", "edge-0", "a"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.ctl("demo", "edge-0", "a"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.ack_prefix("demo", "edge-0", "a", 7) + "3.a", {"edge"}, {"edge", "trace", "operator"}),
        (subjects.ev("demo", "delivered", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.ev("demo", "matched", "a"), {"match-engine"}, {"trace", "operator"}),
        (subjects.ev("demo", "reported", "a"), {"journal"}, {"trace", "operator"}),
        (subjects.explain(), {"operator"}, {"trace", "operator"}),
        ("$KV.match.dev.demo.a", {"match-engine", "operator"}, {"operator"}),
        ("$JS.API.STREAM.DELETE.EVENTS", {"operator"}, set()),
        ("$JS.ACK.EVENTS.bridge-rabbit.1.2.3.4.5", {"bridge-rabbit", "operator"}, set()),
    ],
)
def test_each_subject_is_said_and_heard_by_whom_it_concerns(
    subject: str, says: set[str], hears: set[str]
) -> None:
    assert {name for name, rights in USERS.items() if may(rights.publish, subject)} == says
    assert {name for name, rights in USERS.items() if may(rights.subscribe, subject)} == hears


def test_a_worker_hears_frames_and_requests_in_its_queue_group_only() -> None:
    hears = USERS["match-engine"].subscribe
    assert {f"{subjects.all_of(word)} {subjects.QUEUE_GROUP}" for word in ("up", "match")} < set(hears)
    grouped = tuple(h.removesuffix(f" {subjects.QUEUE_GROUP}") for h in hears)
    for subject in (subjects.up("demo", "a"), subjects.match("demo", "cell", "a"), subjects.explain()):
        assert may(grouped, subject)
        assert not may(hears, subject)


def test_nobody_hears_the_replies_to_another() -> None:
    for name in USERS:
        inbox = f"{permissions.inbox(name)}.x"
        assert {n for n, rights in USERS.items() if may(rights.subscribe, inbox)} <= {name}


def test_the_journal_leaves_the_bridges_place_alone() -> None:
    for what in ("CREATE", "MSG.NEXT", "DELETE"):
        assert f"$JS.API.CONSUMER.{what}.EVENTS.bridge-rabbit" in USERS["journal"].deny_publish


def test_keys_are_made_for_every_user_and_kept_from_others(tmp_path: Path) -> None:
    nkeys_cli.make(folder := tmp_path / "keys")
    accepted = (folder / "users.conf").read_text()
    for user in (*USERS, "sys"):
        file = nkeys_cli.seed_path(folder, user)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert f"nkey: {nkeys_cli.public(file.read_text().strip())}" in accepted
        assert file.read_text().strip() not in accepted
        assert NatsSettings(nkey_file=str(file)).seed() == file.read_text().strip()
    assert {f.name for f in folder.iterdir()} == {*permissions.SERVICES, "users.conf", "people"}
    with pytest.raises(SystemExit):
        nkeys_cli.make(folder)


def test_while_keys_change_the_server_knows_both(tmp_path: Path) -> None:
    nkeys_cli.make(old := tmp_path / "old")
    nkeys_cli.make(new := tmp_path / "new")
    both = nkeys_cli.users(old, new)
    for folder in (old, new):
        key = nkeys_cli.public((folder / "edge").read_text().strip())
        assert f"{{ nkey: {key}, permissions: $RIGHTS_EDGE }}" in both


def test_a_seed_is_one_of_a_user(tmp_path: Path) -> None:
    seed = nkeys_cli.make_seed()
    assert seed.startswith("SU")
    pair = nkeys.from_seed(bytearray(seed.encode()))
    assert pair.verify(b"nonce", pair.sign(b"nonce"))


def test_a_file_that_holds_no_seed_is_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    file.write_text("SUNOSEED")
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_NKEY_FILE contains no nkey seed") as refused:
        NatsSettings(nkey_file=str(file)).check()
    assert "SUNOSEED" not in str(refused.value)
    seed = nkeys_cli.make_seed()
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_NKEY_FILE") as refused:
        NatsSettings(nkey_file=seed).check()
    assert seed not in str(refused.value)


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CA_FILE='/nowhere' contains no certificates"):
        NatsSettings(ca_file="/nowhere").check()
    (file := tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CA_FILE"):
        NatsSettings(ca_file=str(file)).check()
