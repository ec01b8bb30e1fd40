"""What a fact counts, as spans; and their sizes, whatever their text says."""

from cloudmatch_bus.contract.deliveries import Span, decode_runs, even_sizes, span
from cloudmatch_bus.contract.messages import AmountReported, AnyFact, DeliveriesCounted, PayloadsDelivered


def spans(fact: AnyFact) -> list[Span]:
    """Return what a fact counts; most kinds count nothing."""
    match fact:
        case DeliveriesCounted():
            return fact.spans
        case PayloadsDelivered() if fact.sizes:
            return [span(fact.sender, fact.receiver, fact.match, 0, fact.sizes)]
        case AmountReported(event_type="bytesSent"):
            return [span(fact.device, "", 0, 0, [fact.amount])]
        case _:
            return []


def payloads(fact: AnyFact) -> int:
    """Return how many payloads a fact counts."""
    return sum([each.payloads for each in spans(fact)])


def runs(counted: Span) -> tuple[list[tuple[int, int]], bool]:
    """Return runs of equal sizes as (size, count), and whether they are the span's own.

    Sizes that do not add up to the span's totals are replaced by equal ones that do.
    """
    try:
        own = list(decode_runs(counted.sizes))
    except ValueError:
        own = []
    number = sum([count for _, count in own])
    total = sum([size * count for size, count in own])
    if (number, total) == (counted.payloads, counted.bytes) and all(size >= 0 < count for size, count in own):
        return own, True
    return list(decode_runs(even_sizes(counted.payloads, counted.bytes))), False
