"""Lost, duplicated, reordered and corrupted payloads are counted in the span in which they were sent."""

from collections.abc import Iterable

from faults.checker import Checker, Count, Direction, sum_by_name


def send(direction: Direction, count: int) -> list[str]:
    return [direction.next_payload(f"content {i} ö", now=i) for i in range(count)]


def receive(direction: Direction, payloads: Iterable[str], now: int = 1000) -> None:
    for payload in payloads:
        direction.on_payload(payload, now)


def total(checker: Checker) -> Count:
    out = Count()
    for span in checker.spans:
        out.add(span)
    return out


def test_payloads_received_once_in_order_are_no_violation() -> None:
    checker = Checker()
    direction = Direction("a", checker)
    payloads = [
        *send(direction, 5),
        direction.next_payload("", 5),
        direction.next_payload(" two  spaces ", 6),
    ]
    receive(direction, payloads)
    direction.close()
    assert total(checker).violations == 0
    assert (direction.sent, direction.received) == (7, 7)
    assert direction.bytes == sum(len(p.encode()) for p in payloads)


def test_a_payload_never_received_is_lost_in_the_span_in_which_it_was_sent() -> None:
    checker = Checker()
    direction = Direction("a", checker)
    first = send(direction, 3)
    checker.start_span()
    second = send(direction, 3)
    receive(direction, [first[0], first[2], *second[:2]])
    direction.close()
    assert [span.lost for span in checker.spans] == [1, 1]
    assert [span.sent for span in checker.spans] == [3, 3]


def test_each_repetition_of_a_payload_counts_as_duplicated() -> None:
    checker = Checker()
    direction = Direction("a", checker)
    payloads = send(direction, 3)
    receive(direction, [*payloads, payloads[1], payloads[1]])
    direction.close()
    assert total(checker) == Count(sent=3, duplicated=2, stall=1e-6)
    assert direction.received == 3


def test_a_late_payload_is_out_of_order_and_not_lost() -> None:
    checker = Checker()
    direction = Direction("a", checker)
    payloads = send(direction, 4)
    receive(direction, [payloads[0], payloads[3], payloads[2], payloads[1]])
    direction.close()
    assert (total(checker).out_of_order, total(checker).lost) == (2, 0)


def test_a_payload_with_changed_content_number_or_sender_is_corrupted() -> None:
    checker = Checker()
    direction = Direction("a", checker)
    payload = send(direction, 2)[1]
    assert payload.startswith("a 1 ")
    receive(
        direction,
        [
            payload.replace("content", "content "),
            payload[:-1],
            payload.replace("a 1", "a 0", 1),
            payload.replace("a", "b", 1),
            Direction("b", checker).next_payload("of another", 0),
            "",
            "nonsense of six words it is",
        ],
    )
    assert checker.spans[0].corrupted == 7
    assert direction.received == 0


def test_the_stall_of_a_span_is_its_longest_delay() -> None:
    checker = Checker()
    direction = Direction("a", checker)
    payloads = send(direction, 2)
    direction.on_payload(payloads[0], 2_000_000_000)
    direction.on_payload(payloads[1], 1_000_000_001)
    assert checker.spans[0].stall == 2.0


def test_spans_of_one_name_are_summed() -> None:
    spans = [("b", Count(1, 1, stall=3)), ("a", Count(5)), ("b", Count(2, 1, stall=2))]
    assert sum_by_name(spans) == {"a": (1, Count(5)), "b": (2, Count(3, 2, stall=3))}
