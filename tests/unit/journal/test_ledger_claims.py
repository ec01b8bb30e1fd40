"""Claims in the ledger: what may not be counted yet, and what nobody can count any more."""

import pytest

from cloudmatch_bus.contract.deliveries import Claim, span
from unit.journal.test_ledger import APP, claims, counted, device, folded, made, settle_all


def test_a_claim_is_pending_until_all_of_it_is_counted() -> None:
    last = span("a", "b", 7, 3, [4, 5])
    ledger = folded(counted(span("a", "b", 7, 0, [1])), claims(Claim("a", "b", 7, 5, last)))
    (pending,) = ledger.claims
    assert (pending.position, pending.app, pending.claim.span, ledger.pending) == (2, APP, last, 1)
    assert ledger.uncounted(pending) == [(3, 5)]
    ledger.fold(3, counted(span("a", "b", 7, 4, [5])))
    assert ledger.uncounted(pending) == [(3, 4)]
    ledger.fold(4, counted(span("a", "b", 7, 1, [2, 3, 4])))
    assert (list(ledger.claims), ledger.pending) == ([], 0)
    ledger.fold(5, claims(Claim("a", "b", 7, 5, last), Claim("a", "b", 7, 4)))
    assert ledger.pending == 0


def test_what_a_settled_claim_leaves_uncounted_is_unaccounted_until_a_late_count() -> None:
    ledger = folded(
        made(), counted(span("a", "b", 7, 0, [1])), claims(Claim("a", "b", 7, 5), Claim("a", "b", 7, 3))
    )
    settle_all(ledger)
    assert (ledger.pending, ledger.unaccounted) == (0, 4)
    ledger.fold(4, counted(span("a", "b", 7, 1, [2, 3])))
    assert ledger.unaccounted == 2
    ledger.fold(5, counted(span("a", "b", 7, 3, [4, 5, 6])))
    assert ledger.unaccounted == 0
    assert device(ledger).bytes_sent == 21


def test_pending_claims_cost_nothing_while_what_they_await_does_not_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = folded(*(claims(Claim("a", "b", 7, number)) for number in range(2, 1000)))
    looked: list[int] = []
    monkeypatch.setattr("cloudmatch_journal.core.ledger._end", lambda claim: looked.append(1) or 0)
    for number in range(1, 1000):
        ledger.fold(1000 + number, counted(span("a", "b", 7, number, [1])))
    assert looked == []
    monkeypatch.undo()
    ledger.fold(2000, counted(span("a", "b", 7, 0, [1])))
    assert ledger.pending == 0
