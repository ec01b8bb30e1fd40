"""The records in Kafka."""

import contextlib
from itertools import count, pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.kafka_records import (
    BATCHES_KEY,
    BUCKETS,
    MAX_GROUP,
    MAX_NAME,
    MAX_RECORD,
    WATERMARK_KEY,
    Added,
    Batches,
    BatchSums,
    Forget,
    Singles,
    Size,
    SliceSums,
    Watermark,
    batch_sums,
    bucket,
    decode_batches,
    decode_forget,
    decode_result,
    decode_singles,
    encode,
    forget,
    group_encoded,
    partition_of,
    singles,
    size,
)
from cloudmatch_analytics.core.windows import BASE, MAX_SUM, sender_series
from cloudmatch_bus.contract import amqp_batches, amqp_forgotten
from cloudmatch_bus.contract.amqp import MAX_TIME, SizeMessage, UnreadableError
from cloudmatch_bus.contract.amqp_batches import SizesBatch
from cloudmatch_bus.contract.deliveries import MAX_BYTES, Span, span
from cloudmatch_bus.contract.messages import DeliveriesCounted
from cloudmatch_bus.contract.unreadable import UNREADABLE
from harness.ids import ids

MAX_MESSAGE = 1_000_000  # bytes that Kafka takes, by default
T = 1_700_000_000_000
ARRIVAL = T + 500
MESSAGE = SizeMessage(64, "demo", "alice", "bob", 7, T, "12.3")

sizes = st.builds(
    Size,
    st.none() | st.text(min_size=1),
    st.builds(sender_series, st.text(min_size=1, max_size=5), st.text(max_size=5)),
    st.integers(0, 10**15),
    st.integers(T, T + 10 * BASE),
)


def test_a_size_has_the_series_of_its_sender_and_the_time_of_its_message() -> None:
    assert size(MESSAGE, ARRIVAL) == Size(f"12.3/{T}", "demo.alice", 64, T)


def test_a_message_of_2019_counts_for_an_unknown_sender_at_its_arrival() -> None:
    assert size(SizeMessage.decode(b"4", {}), ARRIVAL) == Size(None, "default.", 4, ARRIVAL)


def test_a_time_in_the_future_becomes_the_arrival() -> None:
    assert size(MESSAGE._replace(at=ARRIVAL + 60_000), ARRIVAL).at == ARRIVAL


def test_a_redelivery_has_the_same_id_even_if_its_clock_was_ahead() -> None:
    ahead = MESSAGE._replace(at=ARRIVAL + 60_000)
    assert size(ahead, ARRIVAL).id == size(ahead, ARRIVAL + 99).id


def test_equal_message_ids_at_different_times_are_different_sizes() -> None:
    assert size(MESSAGE, ARRIVAL).id != size(MESSAGE._replace(at=T + 400), ARRIVAL).id


@given(st.lists(sizes, max_size=50))
def test_every_single_size_is_grouped_once_by_bucket_and_slice_in_order(
    sent: list[Size],
) -> None:
    groups = list(singles(sent))
    assert sorted(map(str, sent)) == sorted(str(each) for _, group in groups for each in group)
    for number, group in groups:
        assert 0 <= number < BUCKETS
        assert {bucket(each.series) for each in group} == {number}
        assert len({each.at // BASE for each in group}) == 1
        assert group == [each for each in sent if each in group]


def test_single_sizes_with_the_longest_names_are_spread_over_records_that_kafka_takes() -> None:
    name, message_id = MAX_NAME * "\N{SPEAKER}", "\x00" * 255
    message = SizeMessage(10**15 - 1, name, name, "b", 7, T, message_id)
    sent = [size(message, ARRIVAL)] * 1000
    groups = list(singles(sent))
    assert sum(len(group) for _, group in groups) == 1000
    assert max(len(encode(Singles(ARRIVAL, group))) for _, group in groups) < MAX_MESSAGE
    short = [size(MESSAGE, ARRIVAL)] * 1000
    assert len(list(singles(short))) == 1


@pytest.mark.parametrize("names", [("demo", "a" * 501), ("a" * 501, "alice")])
def test_names_that_no_device_has_are_unreadable(names: tuple[str, str]) -> None:
    app, device = names
    with pytest.raises(UnreadableError, match="more than 500 characters"):
        size(MESSAGE._replace(app=app, sender=device), ARRIVAL)
    with pytest.raises(UnreadableError, match="more than 500 characters"):
        forget(amqp_forgotten.Forgotten(app=app, at=T, device=device), ARRIVAL)
    with pytest.raises(UnreadableError, match="more than 500 characters"):
        list(batch_sums("1", batch(span(device, "b", 7, 0, [1]), app=app)))


@given(st.lists(sizes, min_size=1, max_size=9))
def test_single_sizes_are_decoded_as_they_were_encoded(sent: list[Size]) -> None:
    assert decode_singles(encode(Singles(T, sent))) == Singles(T, sent)


def test_results_are_decoded_as_they_were_encoded() -> None:
    sums = {"demo.alice": (4, 1)}
    for result in (Added("here", 3, 12, T, sums), SliceSums(T, sums), Watermark(3, T)):
        assert decode_result(encode(result)) == result


def test_a_sender_stays_in_its_bucket_from_one_version_to_the_next() -> None:
    assert (bucket("demo.alice"), bucket("default.")) == (0, 16)


def test_records_are_the_same_bytes_from_one_version_to_the_next() -> None:
    sizes = Singles(ARRIVAL, [Size(f"42.0/{T}", "demo.alice", 4, T), Size(None, "default.", 0, ARRIVAL)])
    assert encode(sizes) == (
        b'{"told":1700000000500,"sizes":[["42.0/1700000000000","demo.alice",4,1700000000000],'
        b'[null,"default.",0,1700000000500]]}'
    )
    sums = SliceSums(T, {"demo.alice": (4, 1)})
    assert encode(sums) == b'{"type":"sums","start":1700000000000,"sums":{"demo.alice":[4,1]}}'
    assert encode(Watermark(3, T)) == b'{"type":"tick","partition":3,"at":1700000000000}'
    added = Added("here", 3, 12, T, {"demo.alice": (4, 1)})
    assert encode(added) == (
        b'{"type":"added","log":"here","partition":3,"offset":12,"start":1700000000000,'
        b'"sums":{"demo.alice":[4,1]}}'
    )
    ((_, _, batches),) = group_encoded(ARRIVAL, [(0, T, BatchSums(f"42/{T}", T, {"demo.alice": (4, 1)}))])
    assert batches == (
        b'{"produced_at":1700000000500,"start":1700000000000,'
        b'"batches":[["42/1700000000000",1700000000000,{"demo.alice":[4,1]}]]}'
    )
    assert (WATERMARK_KEY, BATCHES_KEY) == ("tick", "batches")


def batch(*spans: Span, app: str = "demo") -> SizesBatch:
    """Return a batch as analytics reads it."""
    fact = DeliveriesCounted(app=app, at=T, source="edge-0", incarnation=1, number=1, spans=list(spans))
    return amqp_batches.decode(encode(fact))


def test_a_batch_is_added_up_by_sender() -> None:
    sent = batch(
        span("alice", "bob", 7, 0, [4, 5]), span("bob", "alice", 7, 3, [1]), span("alice", "carol", 8, 0, [6])
    )
    assert list(batch_sums("12", sent)) == [
        BatchSums(f"12/{T}", T, {"demo.alice": (15, 3), "demo.bob": (1, 1)})
    ]


def test_a_batch_without_an_id_has_none_and_one_without_an_app_counts_in_the_default_app() -> None:
    (sums,) = batch_sums(None, batch(span("alice", "bob", 7, 0, [4]), app=""))
    assert sums == BatchSums(None, T, {"default.alice": (4, 1)})


@pytest.mark.parametrize("message_id", ["12", None])
def test_a_batch_too_long_for_a_record_has_parts_with_ids_of_their_own(message_id: str | None) -> None:
    sent = batch(*(span(f"device-{number}", "bob", number, 0, [number]) for number in range(10_000)))
    parts = list(batch_sums(message_id, sent))
    assert len(parts) > 2
    assert max(len(encode(part)) for part in parts) <= MAX_RECORD
    merged = {series: sums for part in parts for series, sums in part.sums.items()}
    assert merged == {f"demo.device-{number}": (number, 1) for number in range(10_000)}
    if message_id:
        assert [part.id for part in parts[:3]] == [f"12/{T}", f"12/{T}#1", f"12/{T}#2"]
        assert list(batch_sums(message_id, sent)) == parts
    else:
        assert {part.id for part in parts} == {None}


@given(st.lists(ids, min_size=1, max_size=40), ids, st.integers(1, 30))
def test_records_of_the_longest_ids_stay_below_what_kafka_takes(
    senders: list[str], app: str, times: int
) -> None:
    message = batch(*(span(sender, "b", 7, 0, [1]) for sender in senders * times), app=app)
    sums = [(0, 0, each) for number in range(times) for each in batch_sums(f"e.1.{number}", message)]
    assert all(len(record) < MAX_MESSAGE for _, _, record in group_encoded(0, sums))


def test_a_batch_is_always_in_the_same_partition_and_many_are_spread_over_all() -> None:
    for message_id in ("12", "not a position", None):
        assert partition_of(message_id, 4) == partition_of(message_id, 4)
        assert 0 <= partition_of(message_id, 4) < 4
    numbers = [partition_of(str(position), 4) for position in range(8 * MAX_GROUP)]
    assert {numbers.count(partition) for partition in range(4)} == {2 * MAX_GROUP}


def test_a_batch_stays_in_its_partition_from_one_version_to_the_next() -> None:
    assert [partition_of(message_id, 32) for message_id in ("64", "4096", "x")] == [1, 0, 26]


def test_successive_numbers_of_one_source_are_neighbours() -> None:
    numbers = [partition_of(f"edge-0.5.{number}", 4) for number in range(8 * MAX_GROUP)]
    assert {numbers.count(partition) for partition in range(4)} == {2 * MAX_GROUP}
    assert sum(one != other for one, other in pairwise(numbers)) == 8


times = st.integers(0, MAX_TIME - 1)
sums = st.builds(BatchSums, st.none() | st.text(), times, st.just({"demo.alice": (4, 1)}))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([T, T + BASE]), sums)))
def test_every_batch_is_in_a_record_of_its_partition_and_slice(
    sent: list[tuple[int, int, BatchSums]],
) -> None:
    held = [
        (partition, start, each)
        for partition, start, value in group_encoded(ARRIVAL, sent)
        for each in decode_batches(value).batches
    ]
    assert sorted(held, key=str) == sorted(sent, key=str)


def test_a_record_of_batches_is_never_much_longer_than_its_limit() -> None:
    numbers = count()
    long = {f"demo.device-{next(numbers)}": (4, 1) for _ in range(2_000)}
    sent = [(0, T, BatchSums(str(number), T, long)) for number in range(20)]
    records = list(group_encoded(ARRIVAL, sent))
    assert max(len(value) for _, _, value in records) <= MAX_RECORD + 100
    assert [decode_batches(value).start for _, _, value in records] == [T] * len(records)
    ids = [each.id for _, _, value in records for each in decode_batches(value).batches]
    assert ids == [str(number) for number in range(20)]
    assert decode_batches(records[-1][2]) == Batches(ARRIVAL, T, [sent[18][2], sent[19][2]])


def test_a_batch_that_adds_up_to_more_than_64_bits_adds_the_largest_sum() -> None:
    spans = [Span("alice", "bob", 7, 0, 1, MAX_BYTES - 1, "1")] * 9_300 + [
        Span("eve", "bob", 7, 0, 1, 4, "4")
    ]
    fact = DeliveriesCounted(app="demo", at=T, source="edge-0", incarnation=1, number=1, spans=spans)
    (found,) = batch_sums("1", amqp_batches.decode(encode(fact)))
    assert found.sums == {"demo.alice": (MAX_SUM, 9_300), "demo.eve": (4, 1)}
    (record,) = group_encoded(ARRIVAL, [(0, T, found)])
    assert decode_batches(record[2]).batches == [found]


WRONG = ["-1", str(2**63), "1" + "0" * 400, "NaN", "1e400", "1.5", "true", "null", '"4"']


@pytest.mark.parametrize("number", WRONG)
def test_numbers_that_nothing_has_make_a_record_unreadable(number: str) -> None:
    added = '{"type":"added","log":"x","partition":%s,"offset":%s,"start":%s,"sums":{"a.b":[%s,%s]}}'
    for at in range(5):
        with pytest.raises(UNREADABLE):
            decode_result((added % tuple(number if at == each else "0" for each in range(5))).encode())
    for record, decode in (
        ('{"type":"sums","start":0,"sums":{"a.b":[%s,1]}}', decode_result),
        ('{"type":"tick","partition":0,"at":%s}', decode_result),
        ('{"told":1,"sizes":[[null,"a.b",%s,1]]}', decode_singles),
        ('{"told":1,"sizes":[[null,"a.b",1,%s]]}', decode_singles),
        ('{"produced_at":1,"start":0,"batches":[[null,1,{"a.b":[1,%s]}]]}', decode_batches),
        ('{"produced_at":1,"start":0,"batches":[[null,%s,{"a.b":[1,1]}]]}', decode_batches),
        ('{"produced_at":1,"start":%s,"batches":[]}', decode_batches),
    ):
        decode((record % "4").encode())
        with pytest.raises(UNREADABLE):
            decode((record % number).encode())


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_are_a_record_or_unreadable(data: bytes, at: int) -> None:
    added = b'{"type":"added","log":"x","partition":0,"offset":0,"start":0,"sums":{"a.b":[1,1]}}'
    batches = b'{"produced_at":1,"start":0,"batches":[[null,1,{"a.b":[1,1]}]]}'
    single = b'{"told":1,"sizes":[[null,"a.b",1,1]]}'
    for decode, sample in ((decode_result, added), (decode_batches, batches), (decode_singles, single)):
        for each in (data, sample[:at] + data + sample[at:]):
            with contextlib.suppress(UNREADABLE):
                decode(each)


def test_a_sender_to_forget_is_forgotten_up_to_now_at_most() -> None:
    message = amqp_forgotten.Forgotten(app="", at=T, device="a.b")
    assert forget(message, ARRIVAL) == Forget("default.a=2Eb", T)
    found = forget(msgspec.structs.replace(message, at=ARRIVAL + 1), ARRIVAL)
    assert found == Forget("default.a=2Eb", ARRIVAL)
    assert decode_forget(encode(found)) == decode_result(encode(found)) == found


@pytest.mark.parametrize("series", ["", "demo", "demo.", ".a", "a.b.c"])
def test_whatever_names_no_sender_is_not_forgotten(series: str) -> None:
    with pytest.raises(UNREADABLE):
        decode_forget(encode({"type": "forget", "series": series, "at": 1}))
