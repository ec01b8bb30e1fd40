"""The receiving end, alone and wired to a sender under a network that drops, repeats, delays and reorders."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudmatch_bus.contract.payloads import BATCH_PAYLOADS, Payload, split
from cloudmatch_edge.relay.receiver import ACK_EVERY, DEVICE_ACK_TIMEOUT, Receiver
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT, WINDOW_BYTES, WINDOW_PAYLOADS, Batch, Sender

payloads = st.builds(
    lambda text, data: (text, data.encode() if text else data.encode("utf-16")),
    st.booleans(),
    st.text(max_size=12),
)


class Network(RuleBasedStateMachine):
    """A sender and a receiver; between them two bags of messages that leave in any order, or never."""

    @initialize()
    def begin(self) -> None:
        self.sender, self.receiver = Sender(), Receiver()
        self.now = 0.0
        self.sent: list[Payload] = []
        self.delivered: list[Payload] = []
        self.down: list[tuple[int, str, bytes]] = []
        self.up: list[tuple[int, int]] = []

    def carry(self, batch: Batch | None) -> None:
        if batch is not None:
            self.down.append((batch.seq, batch.shape, batch.payload))

    def receive(self, message: tuple[int, str, bytes]) -> None:
        seq, shape, payload = message
        self.delivered += self.receiver.on_batch(seq, split(shape, payload))
        self.receiver.on_socket_took_all()
        if self.receiver.ack_now:
            self.up.append(self.receiver.ack())

    @precondition(lambda self: min(self.sender.credit) > 0)
    @rule(more=st.lists(payloads, min_size=1, max_size=BATCH_PAYLOADS + 6))
    def push(self, more: list[Payload]) -> None:
        more = more[: self.sender.credit[0]]
        self.sent += more
        for batch in self.sender.push(more, self.now):
            self.carry(batch)

    @precondition(lambda self: self.down)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.down) - 1))
        self.receive(self.down[at] if keep else self.down.pop(at))

    @precondition(lambda self: self.down)
    @rule(data=st.data())
    def lose_batch(self, data: st.DataObject) -> None:
        self.down.pop(data.draw(st.integers(0, len(self.down) - 1)))

    @precondition(lambda self: self.down)
    @rule(data=st.data())
    def reach_no_responder(self, data: st.DataObject) -> None:
        seq, _, _ = self.down.pop(data.draw(st.integers(0, len(self.down) - 1)))
        self.carry(self.sender.no_responders(seq, self.now))

    @precondition(lambda self: self.up)
    @rule(data=st.data(), keep=st.booleans())
    def acknowledge(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.up) - 1))
        for batch in self.sender.on_ack(*(self.up[at] if keep else self.up.pop(at)), self.now):
            self.carry(batch)

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def lose_ack(self, data: st.DataObject) -> None:
        self.up.pop(data.draw(st.integers(0, len(self.up) - 1)))

    @rule(seconds=st.sampled_from([0.0, 0.02, PROBE_TIMEOUT, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.receiver.ack_pending:
            self.up.append(self.receiver.ack())
        self.carry(self.sender.retransmit_due(self.now))

    @invariant()
    def what_is_delivered_is_a_prefix_of_what_was_sent(self) -> None:
        assert self.delivered == self.sent[: len(self.delivered)]

    @invariant()
    def the_window_is_bounded(self) -> None:
        assert self.sender.undelivered <= WINDOW_PAYLOADS

    @invariant()
    def nothing_is_acknowledged_that_was_not_delivered(self) -> None:
        assert len(self.sent) - self.sender.undelivered <= len(self.delivered)

    def teardown(self) -> None:
        """A network that works again delivers the rest, in a bounded number of rounds."""
        for _ in range(2 * WINDOW_PAYLOADS):
            if self.sender.idle:
                break
            self.now += 2.0
            self.carry(self.sender.retransmit_due(self.now))
            while self.down or self.up:
                while self.down:
                    self.receive(self.down.pop(0))
                if self.receiver.ack_pending:
                    self.up.append(self.receiver.ack())
                while self.up:
                    for batch in self.sender.on_ack(*self.up.pop(0), self.now):
                        self.carry(batch)
        assert self.sender.idle
        assert self.delivered == self.sent


TestNetwork = Network.TestCase
TestNetwork.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


def some(count: int, size: int = 1) -> list[Payload]:
    return [(True, bytes([65 + i % 26]) * size) for i in range(count)]


def test_an_ack_waits_for_more_payloads_but_not_for_too_many() -> None:
    receiver = Receiver()
    receiver.on_batch(0, some(ACK_EVERY - 1))
    assert receiver.ack_pending
    assert not receiver.ack_now
    receiver.on_batch(ACK_EVERY - 1, some(1))
    receiver.on_device_ack(ACK_EVERY, 0)
    assert receiver.ack_now
    assert receiver.ack() == (ACK_EVERY, ACK_EVERY)
    assert not receiver.ack_pending


def test_a_duplicate_is_not_delivered_and_acked_at_once() -> None:
    receiver = Receiver()
    receiver.on_batch(0, some(2))
    receiver.ack()
    assert receiver.on_batch(0, some(2)) == []
    assert receiver.ack_now
    assert receiver.ack() == (2, 0)


def test_early_batches_wait_and_a_batch_that_came_in_part_is_cut() -> None:
    receiver = Receiver()
    sent = some(6)
    assert receiver.on_batch(4, sent[4:]) == []
    assert receiver.on_batch(2, sent[2:4]) == []
    assert receiver.on_batch(0, sent[:3]) == sent
    assert receiver.ack_now
    assert receiver.ack() == (6, 0)


def test_batches_further_ahead_than_any_window_are_dropped() -> None:
    receiver = Receiver()
    receiver.on_batch(WINDOW_PAYLOADS + 1, some(1))
    assert receiver.on_batch(0, some(WINDOW_PAYLOADS + 1)) == some(WINDOW_PAYLOADS + 1)


def test_an_ack_is_overdue_at_the_second_check_after_a_payload_came() -> None:
    receiver = Receiver()
    receiver.on_batch(0, some(3))
    assert not receiver.ack_overdue(), "the device may still acknowledge them itself"
    assert receiver.ack_overdue()
    receiver.ack()
    receiver.on_batch(3, some(1))
    assert not receiver.ack_overdue()
    receiver.ack()
    assert not receiver.ack_overdue()


# -- acks of the device


def written(receiver: Receiver, count: int, size: int) -> None:
    """Receive payloads and write them, `size` bytes in all, to the device."""
    receiver.on_batch(receiver.next, some(count))
    receiver.on_written(count, size, 0)


def test_an_ack_of_the_device_counts_once() -> None:
    receiver = Receiver(10)
    written(receiver, 5, 50)
    assert receiver.on_device_ack(12, 0)
    assert not receiver.on_device_ack(12, 0)
    assert not receiver.all_delivered
    assert receiver.on_device_ack(15, 0)
    assert receiver.delivered == 15
    assert receiver.all_delivered


def yes() -> bool:
    """The device's host has taken all."""
    return True


def test_a_device_that_never_acks_is_assumed_to_have_what_was_written_once_half_a_window_waits() -> None:
    few, many, large = Receiver(), Receiver(), Receiver()
    written(few, WINDOW_PAYLOADS // 2 - 1, 1)
    written(many, WINDOW_PAYLOADS // 2, 1)
    written(large, 1, WINDOW_BYTES // 2)
    receivers = (few, many, large)
    assert not any(
        r.assume_delivered(DEVICE_ACK_TIMEOUT / 2, acks_readable=False, host_took_all=yes) for r in receivers
    )
    assumed = [
        r.assume_delivered(DEVICE_ACK_TIMEOUT, acks_readable=False, host_took_all=yes) for r in receivers
    ]
    assert assumed == [False, True, True]
    assert [r.delivered for r in receivers] == [0, WINDOW_PAYLOADS // 2, 1]


def test_what_the_host_of_a_device_has_not_taken_is_never_assumed() -> None:
    receiver = Receiver()
    written(receiver, WINDOW_PAYLOADS, WINDOW_BYTES)
    later = 10 * DEVICE_ACK_TIMEOUT
    assert not receiver.assume_delivered(later, acks_readable=False, host_took_all=lambda: False)
    assert receiver.delivered == 0
    assert receiver.assume_delivered(later, acks_readable=False, host_took_all=yes)


def test_a_device_whose_acks_can_be_read_is_waited_for() -> None:
    receiver = Receiver()
    written(receiver, WINDOW_PAYLOADS, WINDOW_BYTES)
    assert not receiver.assume_delivered(10 * DEVICE_ACK_TIMEOUT, acks_readable=True, host_took_all=yes)


def test_the_wait_for_an_ack_begins_with_the_first_payload_to_acknowledge() -> None:
    receiver = Receiver()
    written(receiver, 1, 1)
    receiver.on_device_ack(1, 0)
    receiver.on_batch(1, some(WINDOW_PAYLOADS))
    receiver.on_written(WINDOW_PAYLOADS, 1, 5.0)
    assert not receiver.assume_delivered(5.0 + DEVICE_ACK_TIMEOUT / 2, acks_readable=False, host_took_all=yes)
    assert receiver.assume_delivered(5.0 + DEVICE_ACK_TIMEOUT, acks_readable=False, host_took_all=yes)


def test_bytes_that_were_delivered_no_longer_count() -> None:
    receiver = Receiver()
    written(receiver, 1, WINDOW_BYTES // 2)
    written(receiver, 1, 1)
    assert receiver.on_device_ack(1, 0)
    assert not receiver.assume_delivered(DEVICE_ACK_TIMEOUT, acks_readable=False, host_took_all=yes)


def test_early_batches_take_no_more_than_a_window_and_one_batch() -> None:
    receiver, large = Receiver(), [(False, bytes(WINDOW_BYTES // 2))]
    for seq in range(1, 10):
        assert receiver.on_batch(seq, large) == []
    assert len(receiver.on_batch(0, some(1))) == 1 + 2
    assert receiver.next == 3


def test_a_gap_is_skipped_with_the_early_batches_inside_it_and_acked_at_once() -> None:
    receiver = Receiver()
    written(receiver, 3, 30)
    receiver.on_batch(5, some(1))
    receiver.on_batch(8, some(2))
    receiver.skip(7)
    assert receiver.all_delivered
    assert receiver.ack_now
    assert receiver.ack() == (7, 7)
    assert receiver.on_batch(7, some(1)) == [*some(1), *some(2)]
    receiver.on_written(3, 3, 0)
    assert receiver.on_device_ack(8, 0)
