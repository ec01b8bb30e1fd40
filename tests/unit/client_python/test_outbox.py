"""The sending half of a match."""

from cloudmatch.core.outbox import MAX_BYTES, MAX_PAYLOADS, Outbox, Payload


def outbox(*texts: str) -> Outbox:
    """An outbox with these payloads; the reference of each is its text."""
    box = Outbox()
    for text in texts:
        box.append(Payload(text, len(text), True, text))
    return box


def sent(box: Outbox) -> list[str | bytes]:
    """Send all that fit in flight."""
    payloads = []
    while (payload := box.next_to_send()) is not None:
        payloads.append(payload.data)
    return payloads


def texts(payloads: list[Payload]) -> list[str | bytes]:
    return [payload.data for payload in payloads]


def test_payloads_are_sent_in_order_each_once() -> None:
    box = outbox("a", "b")
    assert sent(box) == ["a", "b"]
    assert sent(box) == []
    assert len(box) == 2


def test_all_payloads_kept_are_sent_again_after_a_resume() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    assert [payload.data for payload in box.resume(1)] == ["a"]
    assert sent(box) == ["b", "c"]


def test_after_a_resume_payloads_are_counted_as_the_server_counts() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    box.settle(2)
    assert box.resume(0) == []
    assert [payload.data for payload in box.settle(1)] == ["c"]


def test_only_so_many_payloads_are_in_flight() -> None:
    box = outbox(*(str(number) for number in range(MAX_PAYLOADS)))
    assert box.full
    box.append(Payload("one more", 8))
    assert len(sent(box)) == MAX_PAYLOADS
    box.settle(1)
    assert sent(box) == ["one more"]


def test_only_so_many_bytes_are_in_flight_but_a_large_payload_travels_alone() -> None:
    large = "x" * (MAX_BYTES + 1)
    box = outbox("a", large, "b")
    assert box.full
    assert sent(box) == ["a"]
    box.settle(1)
    assert sent(box) == [large]
    assert box.full
    box.settle(2)
    assert sent(box) == ["b"]
    assert not box.full


def test_payloads_are_settled_once_and_in_order() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    assert texts(box.settle(2)) == ["a", "b"]
    assert box.settle(1) == []
    assert texts(box.settle(9)) == ["c"]
    assert len(box) == 0


def test_a_receipt_settles_its_payload_and_all_before_it() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    assert texts(box.settle_to("b")) == ["a", "b"]
    assert box.settle_to("b") == []
    assert texts(box.settle(3)) == ["c"]


def test_a_refused_payload_is_removed_and_does_not_count() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    refused = box.refuse("b")
    assert refused is not None
    assert refused.data == "b"
    assert box.refuse("b") is None
    assert texts(box.settle(2)) == ["a", "c"]


def test_a_payload_refused_after_a_resume_is_not_sent_again() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    box.resume(0)
    box.next_to_send()
    box.refuse("b")
    assert sent(box) == ["c"]


def test_a_new_match_starts_empty_and_returns_what_was_left() -> None:
    box = outbox("a", "b", "c")
    sent(box)
    box.settle(1)
    assert texts(box.clear()) == ["b", "c"]
    assert not box.full
    box.append(Payload("d", 1))
    assert sent(box) == ["d"]
    assert texts(box.settle(1)) == ["d"]
