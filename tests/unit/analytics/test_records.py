from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.kafka_records import (
    BUCKETS,
    Batch,
    Sums,
    Tick,
    batches,
    bucket,
    decode_batch,
    decode_result,
    encode,
)
from cloudmatch_analytics.core.sizes import Size, key
from cloudmatch_analytics.core.windows import BASE

T = 1_700_000_000_000

sizes = st.builds(
    Size,
    st.none() | st.text(min_size=1),
    st.builds(key, st.text(min_size=1, max_size=5), st.text(max_size=5)),
    st.integers(0, 10**15),
    st.integers(T, T + 10 * BASE),
)


@given(st.lists(sizes, max_size=50))
def test_every_size_travels_once_with_those_of_its_bucket_and_window_in_their_order(sent):
    together = batches(sent)
    assert sorted(map(str, sent)) == sorted(str(size) for of in together.values() for size in of)
    for (number, start), of in together.items():
        assert 0 <= number < BUCKETS
        assert {(bucket(size.key), size.at // BASE * BASE) for size in of} == {(number, start)}
        assert of == [size for size in sent if size in of]


@given(st.lists(sizes, max_size=9))
def test_a_batch_is_read_as_it_was_written(sent):
    assert decode_batch(encode(Batch(T, sent))) == Batch(T, sent)


def test_results_are_read_as_they_were_written():
    for result in (Sums(T, {"demo.alice": (4, 1)}), Tick(3, T)):
        assert decode_result(encode(result)) == result


def test_a_device_stays_in_its_bucket_from_one_version_to_the_next():
    assert (bucket("demo.alice"), bucket("default.")) == (0, 16)
