"""The reckoning: what is lost, heard twice, out of order or changed is counted, each where it was sent."""

from collections.abc import Iterable

from faults.tally import Count, Direction, Tally, by_name


def sent(direction: Direction, count: int) -> list[str]:
    return [direction.send(f"content {i} ö", now=i) for i in range(count)]


def heard(direction: Direction, payloads: Iterable[str], now: int = 1000) -> None:
    for payload in payloads:
        direction.hear(payload, now)


def total(tally: Tally) -> Count:
    out = Count()
    for span in tally.spans:
        out.add(span)
    return out


def test_all_heard_once_in_order_is_nothing_to_complain_about() -> None:
    tally = Tally()
    direction = Direction("a", tally)
    payloads = [*sent(direction, 5), direction.send("", 5), direction.send(" two  spaces ", 6)]
    heard(direction, payloads)
    direction.close()
    assert total(tally).broken == 0
    assert (direction.sent, direction.heard) == (7, 7)
    assert direction.bytes == sum(len(p.encode()) for p in payloads)


def test_what_is_never_heard_is_lost_in_the_span_in_which_it_was_sent() -> None:
    tally = Tally()
    direction = Direction("a", tally)
    first = sent(direction, 3)
    tally.begin()
    second = sent(direction, 3)
    heard(direction, [first[0], first[2], *second[:2]])
    direction.close()
    assert [span.lost for span in tally.spans] == [1, 1]
    assert [span.sent for span in tally.spans] == [3, 3]


def test_what_is_heard_again_is_counted_as_heard_twice() -> None:
    tally = Tally()
    direction = Direction("a", tally)
    payloads = sent(direction, 3)
    heard(direction, [*payloads, payloads[1], payloads[1]])
    direction.close()
    assert total(tally) == Count(sent=3, twice=2, stall=1e-6)
    assert direction.heard == 3


def test_what_is_heard_late_is_out_of_order_and_not_lost() -> None:
    tally = Tally()
    direction = Direction("a", tally)
    payloads = sent(direction, 4)
    heard(direction, [payloads[0], payloads[3], payloads[2], payloads[1]])
    direction.close()
    assert (total(tally).out_of_order, total(tally).lost) == (2, 0)


def test_a_changed_content_number_or_sender_is_corrupted() -> None:
    tally = Tally()
    direction = Direction("a", tally)
    payload = sent(direction, 2)[1]
    assert payload.startswith("a 1 ")
    heard(
        direction,
        [
            payload.replace("content", "content "),
            payload[:-1],
            payload.replace("a 1", "a 0", 1),
            payload.replace("a", "b", 1),
            Direction("b", tally).send("of another", 0),
            "",
            "nonsense of six words it is",
        ],
    )
    assert tally.spans[0].corrupted == 7
    assert direction.heard == 0


def test_the_stall_is_the_longest_of_the_span() -> None:
    tally = Tally()
    direction = Direction("a", tally)
    payloads = sent(direction, 2)
    direction.hear(payloads[0], 2_000_000_000)
    direction.hear(payloads[1], 1_000_000_001)
    assert tally.spans[0].stall == 2.0


def test_spans_of_one_name_are_added_up() -> None:
    spans = [("b", Count(1, 1, stall=3)), ("a", Count(5)), ("b", Count(2, 1, stall=2))]
    assert by_name(spans) == {"a": (1, Count(5)), "b": (2, Count(3, 2, stall=3))}
