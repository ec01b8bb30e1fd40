"""Claims in the ledger: what may not be counted yet, and what nobody can count any more."""

import pytest

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_journal.core.ledger import Ledger
from unit.journal.test_ledger import APP, claims, counted, device, folded


def test_a_claim_is_pending_until_all_of_it_is_counted() -> None:
    last = span("a", "b", 7, 3, [4, 5])
    ledger = folded(counted(span("a", "b", 7, 0, [1])), claims(Claim("a", "b", 7, 5, last)))
    (pending,) = ledger.claims
    assert (pending.position, pending.app, pending.claim.span, len(ledger.claims)) == (2, APP, last, 1)
    assert ledger.uncounted(pending) == [(3, 5)]
    ledger.fold(3, counted(span("a", "b", 7, 4, [5])))
    assert ledger.uncounted(pending) == [(3, 4)]
    ledger.fold(4, counted(span("a", "b", 7, 1, [2, 3, 4])))
    assert (list(ledger.claims), len(ledger.claims)) == ([], 0)
    ledger.fold(5, claims(Claim("a", "b", 7, 5, last), Claim("a", "b", 7, 4)))
    assert len(ledger.claims) == 0


def test_pending_claims_cost_nothing_while_what_they_await_does_not_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = folded(*(claims(Claim("a", "b", 7, number)) for number in range(2, 1000)))
    looked: list[int] = []
    monkeypatch.setattr("cloudmatch_journal.core.claims.bisect_right", lambda *_, **__: looked.append(1))
    for number in range(1, 1000):
        ledger.fold(1000 + number, counted(span("a", "b", 7, number, [1])))
    assert looked == []
    monkeypatch.undo()
    ledger.fold(2000, counted(span("a", "b", 7, 0, [1])))
    assert len(ledger.claims) == 0


def test_a_snapshot_of_this_version_is_decoded_and_encoded_the_same() -> None:
    saved = (
        b'{"version":3,"position":4,"devices":[{"app":"demo","device":"a","session":5,"connected":true,'
        b'"connections_reported":0,"bytes_sent":10,"bytes_received":3,"messages_sent":2,"messages_received":1,'
        b'"matches":1,"last_seen":150}],"matches":[{"match":7,"app":"demo","devices":["a","b"],"distance":12.5,'
        b'"made_at":100,"ended_at":200,"ended_by":"b","reason":"left","position":4,"ways":[{"sender":"a",'
        b'"receiver":"b","payloads":2,"bytes":10,"counted":[0,1,3,4],"unnumbered":false,"settled":3,'
        b'"unaccounted":2,"awaited":4},{"sender":"b","receiver":"a","payloads":1,"bytes":3,"counted":[],'
        b'"unnumbered":true,"settled":0,"unaccounted":0,"awaited":0}]}],"claims":[{"position":4,"app":"demo","at":9,"claim":'
        b'["a","b",7,4,["a","b",7,2,2,9,"4,5"]]}],"repeated":1,"unaccounted":2,"reports":{"5.j":[1,3]},'
        b'"losses":[{"low":3,"high":9,"missing":null,"reason":"created"}]}'
    )
    ledger = Ledger.decode(saved)
    erasures = b',"erasures":[{"app":"demo","device":"c","position":4}]}'
    for each in (saved[:-1] + b',"erasures":[]}', saved[:-1] + erasures):
        assert Ledger.decode(each).encode() == each
    assert len(ledger.claims) == 1


def test_payloads_that_are_counted_again_do_not_count() -> None:
    first = counted(span("a", "b", 7, 0, [1, 2, 3]))
    ledger = folded(
        *(first, first, counted(span("a", "b", 7, 2, [3, 4]))),
        counted(span("b", "a", 7, 0, [9])),
    )
    assert (device(ledger).bytes_sent, device(ledger).messages_sent) == (10, 4)
    assert (device(ledger, "b").bytes_received, device(ledger, "b").messages_received) == (10, 4)
    assert ledger.repeated == 4
    match = ledger.match(7)
    assert match is not None
    assert [(d.payloads, d.bytes, d.counted) for d in match.directions] == [(4, 10, [0, 4]), (1, 9, [0, 1])]
