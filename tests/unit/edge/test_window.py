"""The two ends of a direction, wired together under a network that drops, repeats, delays and reorders."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudmatch_bus.contract.payloads import BATCH_PAYLOADS, Payload, split
from cloudmatch_edge.relay.paths import AROUND, FALLBACK, MAIN
from cloudmatch_edge.relay.window import (
    ACK_EVERY,
    PROBE,
    RTO,
    RTO_MAX,
    WINDOW_BYTES,
    WINDOW_FRAMES,
    Batch,
    Receiver,
    Sender,
)

frames = st.builds(
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
        self.heard: list[Payload] = []
        self.down: list[tuple[int, str, bytes]] = []
        self.up: list[tuple[int, int]] = []

    def carry(self, batch: Batch | None) -> None:
        if batch is not None:
            self.down.append((batch.seq, batch.shape, batch.payload))

    def arrive(self, message: tuple[int, str, bytes]) -> None:
        seq, shape, payload = message
        self.heard += self.receiver.take(seq, split(shape, payload))
        self.receiver.taken = self.receiver.next
        if self.receiver.owes_ack_now:
            self.up.append(self.receiver.ack())

    @precondition(lambda self: min(self.sender.room) > 0)
    @rule(more=st.lists(frames, min_size=1, max_size=BATCH_PAYLOADS + 6))
    def push(self, more: list[Payload]) -> None:
        more = more[: self.sender.room[0]]
        self.sent += more
        for batch in self.sender.push(more, self.now):
            self.carry(batch)

    @precondition(lambda self: self.down)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.down) - 1))
        self.arrive(self.down[at] if keep else self.down.pop(at))

    @precondition(lambda self: self.down)
    @rule(data=st.data())
    def lose_frames(self, data: st.DataObject) -> None:
        self.down.pop(data.draw(st.integers(0, len(self.down) - 1)))

    @precondition(lambda self: self.down)
    @rule(data=st.data())
    def nobody_listened(self, data: st.DataObject) -> None:
        seq, _, _ = self.down.pop(data.draw(st.integers(0, len(self.down) - 1)))
        self.carry(self.sender.refused(seq, self.now))

    @precondition(lambda self: self.up)
    @rule(data=st.data(), keep=st.booleans())
    def acknowledge(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.up) - 1))
        for batch in self.sender.acked(*(self.up[at] if keep else self.up.pop(at)), self.now):
            self.carry(batch)

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def lose_ack(self, data: st.DataObject) -> None:
        self.up.pop(data.draw(st.integers(0, len(self.up) - 1)))

    @rule(seconds=st.sampled_from([0.0, 0.02, RTO, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.receiver.owes_ack:
            self.up.append(self.receiver.ack())
        self.carry(self.sender.due(self.now))

    @invariant()
    def what_is_heard_is_a_beginning_of_what_was_sent(self) -> None:
        assert self.heard == self.sent[: len(self.heard)]

    @invariant()
    def the_window_is_bounded(self) -> None:
        assert self.sender.unacked <= WINDOW_FRAMES

    @invariant()
    def nothing_is_acknowledged_that_was_not_heard(self) -> None:
        assert len(self.sent) - self.sender.unacked <= len(self.heard)

    def teardown(self) -> None:
        """A network that works again delivers the rest, in a bounded number of rounds."""
        for _ in range(2 * WINDOW_FRAMES):
            if self.sender.idle:
                break
            self.now += 2.0
            self.carry(self.sender.due(self.now))
            while self.down or self.up:
                while self.down:
                    self.arrive(self.down.pop(0))
                if self.receiver.owes_ack:
                    self.up.append(self.receiver.ack())
                while self.up:
                    for batch in self.sender.acked(*self.up.pop(0), self.now):
                        self.carry(batch)
        assert self.sender.idle
        assert self.heard == self.sent


TestNetwork = Network.TestCase
TestNetwork.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


def some(count: int, size: int = 1) -> list[Payload]:
    return [(True, bytes([65 + i % 26]) * size) for i in range(count)]


def test_frames_of_one_turn_travel_in_one_batch_up_to_its_limits() -> None:
    sender = Sender()
    assert [b.end - b.seq for b in sender.push(some(130), 0)] == [64, 64, 2]
    assert sender.seq == sender.unacked == 130


def test_the_window_closes_at_its_frames_and_at_its_bytes_and_opens_with_acks() -> None:
    sender = Sender()
    sender.push(some(WINDOW_FRAMES), 0)
    assert sender.room == (0, WINDOW_BYTES - WINDOW_FRAMES)
    sender.acked(64, 64, 0)
    assert sender.room == (64, WINDOW_BYTES - WINDOW_FRAMES + 64)
    large = Sender()
    large.push(some(1, WINDOW_BYTES + 1), 0)
    assert large.room == (WINDOW_FRAMES - 1, -1), "one larger payload is let through alone"
    large.acked(1, 1, 0)
    assert large.room == (WINDOW_FRAMES, WINDOW_BYTES)


def test_a_timeout_probes_with_the_oldest_batch_only_and_by_another_path() -> None:
    sender = Sender()
    first, second = sender.push(some(BATCH_PAYLOADS), 0)[0], sender.push(some(1), 0)[0]
    assert sender.due(RTO / 2) is None
    assert sender.due(RTO) is first
    assert first.path != MAIN
    assert second.path == MAIN
    assert sender.due(RTO) is None, "the probe was just sent"


def test_probes_try_all_paths_before_they_back_off() -> None:
    sender = Sender()
    batch = sender.push(some(1), 0)[0]
    paths = []
    for i in range(1, 1 + len(AROUND)):
        assert sender.due(RTO + (i - 1) * PROBE) is batch
        paths.append(batch.path)
    assert sorted(paths) == sorted(AROUND)


def test_once_the_probe_is_acked_all_that_went_by_the_silent_path_goes_at_once_by_the_other() -> None:
    sender = Sender()
    sender.push(some(1), 0)
    late = sender.push(some(1), RTO - 0.01)
    probe = sender.due(RTO)
    assert probe is not None
    sender.push(some(1), RTO)  # this one goes by the other path already
    assert sender.acked(probe.end, probe.end, RTO + 0.01) == late
    assert late[0].path == probe.path


def test_once_the_probe_is_acked_all_that_is_overdue_goes_at_once() -> None:
    sender = Sender()
    for _ in range(5):
        sender.push(some(1), 0)
    probe = sender.due(RTO)
    assert probe is not None
    assert [b.seq for b in sender.acked(probe.end, probe.end, RTO)] == [1, 2, 3, 4]
    assert sender.acked(2, 2, RTO) == [], "and only once"


def test_probes_back_off_to_one_second_and_an_ack_resets_them() -> None:
    sender = Sender()
    sender.push(some(2), 0)
    now, gaps = 0.0, []
    for _ in range(len(AROUND) + 4):
        start = now
        while sender.due(now) is None:
            now += 0.125
        gaps.append(now - start)
    assert gaps == [RTO, *[PROBE] * (len(AROUND) - 1), 0.25, 0.5, 1.0, 1.0]
    sender.acked(2, 2, now)
    sender.push(some(1), now)
    assert sender.due(now + RTO) is not None


def test_a_refusal_takes_the_fallback_at_once_and_for_half_a_second() -> None:
    sender = Sender()
    batch = sender.push(some(1), 0)[0]
    assert sender.refused(batch.seq, 0.01) is batch
    assert batch.path == FALLBACK
    assert sender.push(some(1), 0.4)[0].path == FALLBACK
    assert sender.push(some(1), 0.6)[0].path == MAIN
    assert sender.refused(batch.seq, 0.02) is None, "refused there too: wait for the timer"
    assert sender.refused(99, 0.02) is None, "acked meanwhile"


def test_progress_is_when_the_window_last_moved() -> None:
    sender = Sender()
    sender.push(some(1), 5.0)
    sender.push(some(1), 8.0)
    assert sender.progress == 5.0
    sender.acked(1, 1, 9.0)
    assert sender.progress == 9.0


def test_an_ack_waits_for_more_frames_but_not_for_too_many() -> None:
    receiver = Receiver()
    receiver.take(0, some(ACK_EVERY - 1))
    assert receiver.owes_ack
    assert not receiver.owes_ack_now
    receiver.take(ACK_EVERY - 1, some(1))
    receiver.taken = ACK_EVERY
    assert receiver.owes_ack_now
    assert receiver.ack() == (ACK_EVERY, ACK_EVERY)
    assert not receiver.owes_ack


def test_a_repeat_is_not_delivered_and_acked_at_once() -> None:
    receiver = Receiver()
    receiver.take(0, some(2))
    receiver.ack()
    assert receiver.take(0, some(2)) == []
    assert receiver.owes_ack_now
    assert receiver.ack() == (2, 0)


def test_what_comes_early_waits_and_what_partly_came_is_cut() -> None:
    receiver = Receiver()
    sent = some(6)
    assert receiver.take(4, sent[4:]) == []
    assert receiver.take(2, sent[2:4]) == []
    assert receiver.take(0, sent[:3]) == sent
    assert receiver.owes_ack_now
    assert receiver.ack() == (6, 0)


def test_frames_further_ahead_than_any_window_are_not_held() -> None:
    receiver = Receiver()
    receiver.take(WINDOW_FRAMES + 1, some(1))
    assert receiver.take(0, some(WINDOW_FRAMES + 1)) == some(WINDOW_FRAMES + 1)


def test_what_has_arrived_is_not_sent_again_but_kept_until_it_is_taken() -> None:
    sender = Sender()
    sender.push(some(2), 0)
    assert sender.acked(2, 0, 0.1) == []
    assert (sender.unacked, sender.idle) == (2, False)
    assert sender.due(RTO + 0.1) is None
    sender.acked(2, 2, 0.2)
    assert sender.idle


def test_a_word_that_it_was_taken_which_never_comes_is_asked_for() -> None:
    sender = Sender()
    batch = sender.push(some(1), 0)[0]
    sender.acked(1, 0, 0.1)
    assert sender.due(RTO_MAX) is batch


def test_a_peer_that_moved_gets_again_what_its_new_edge_does_not_have() -> None:
    sender = Sender()
    batches = [sender.push(some(3), 0)[0] for _ in range(3)]
    sender.acked(9, 4, 0.1)
    assert sender.restart(5, 5, 0.2) == batches[1:]
    assert (sender.taken, sender.unacked) == (5, 4)
    assert sender.acked(9, 9, 0.3) == []
    assert sender.idle


def test_sizes_are_told_once_when_frames_are_taken_even_a_part_of_a_batch() -> None:
    sender = Sender()
    sender.push([(True, b"x" * n) for n in range(1, 6)], 0)
    sender.acked(5, 2, 0)
    assert sender.told() == [1, 2]
    sender.acked(2, 4, 0)
    sender.acked(2, 3, 0)
    assert sender.told() == [3, 4]
    sender.restart(5, 5, 0)
    assert sender.told() == [5]
    assert sender.told() == []


def test_a_sender_goes_on_where_another_stopped() -> None:
    sender = Sender(7)
    assert [b.seq for b in sender.push(some(2), 0)] == [7]
    sender.acked(99, 99, 0)
    assert (sender.taken, sender.idle) == (9, True)


def test_what_has_arrived_is_to_be_acknowledged_at_the_second_look_unless_it_was() -> None:
    receiver = Receiver()
    receiver.take(0, some(3))
    assert not receiver.look(), "the device may still say that it has them"
    assert receiver.look()
    receiver.ack()
    receiver.take(3, some(1))
    assert not receiver.look()
    receiver.ack()
    assert not receiver.look()
