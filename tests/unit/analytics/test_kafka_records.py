"""The records in Kafka."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.kafka_records import (
    BUCKETS,
    WATERMARK_KEY,
    Batch,
    Size,
    SliceSums,
    Watermark,
    batches,
    bucket,
    decode_batch,
    decode_result,
    encode,
    size,
)
from cloudmatch_analytics.core.windows import BASE, sender_series
from cloudmatch_bus.contract.amqp import SizeMessage

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
def test_every_size_is_batched_once_with_those_of_its_bucket_and_window_in_order(sent: list[Size]) -> None:
    groups = batches(sent)
    assert sorted(map(str, sent)) == sorted(str(each) for group in groups.values() for each in group)
    for (number, start), group in groups.items():
        assert 0 <= number < BUCKETS
        assert {(bucket(each.series), each.at // BASE * BASE) for each in group} == {(number, start)}
        assert group == [each for each in sent if each in group]


@given(st.lists(sizes, max_size=9))
def test_a_batch_is_decoded_as_it_was_encoded(sent: list[Size]) -> None:
    assert decode_batch(encode(Batch(T, sent))) == Batch(T, sent)


def test_results_are_decoded_as_they_were_encoded() -> None:
    for result in (SliceSums(T, {"demo.alice": (4, 1)}), Watermark(3, T)):
        assert decode_result(encode(result)) == result


def test_a_sender_stays_in_its_bucket_from_one_version_to_the_next() -> None:
    assert (bucket("demo.alice"), bucket("default.")) == (0, 16)


def test_records_are_the_same_bytes_from_one_version_to_the_next() -> None:
    batch = Batch(ARRIVAL, [Size(f"42.0/{T}", "demo.alice", 4, T), Size(None, "default.", 0, ARRIVAL)])
    assert encode(batch) == (
        b'{"told":1700000000500,"sizes":[["42.0/1700000000000","demo.alice",4,1700000000000],'
        b'[null,"default.",0,1700000000500]]}'
    )
    sums = SliceSums(T, {"demo.alice": (4, 1)})
    assert encode(sums) == b'{"type":"sums","start":1700000000000,"sums":{"demo.alice":[4,1]}}'
    assert encode(Watermark(3, T)) == b'{"type":"tick","partition":3,"at":1700000000000}'
    assert WATERMARK_KEY == "tick"
