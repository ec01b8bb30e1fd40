"""Short strings of AMQP fit whatever they are made of."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.amqp_names import MARK, MAX_APP, MAX_SHORT, app_key, device_key, fitted
from cloudmatch_bus.contract.subjects import token, untoken
from harness.ids import ids, longest


@given(ids, ids)
def test_a_key_of_any_app_and_device_fits_and_has_one_word_for_each(app: str, device: str) -> None:
    key = device_key(app, device)
    assert len(key.encode()) <= MAX_SHORT
    assert key.split(".")[0] == app_key(app)
    assert key.count(".") == 1
    if len(token(app)) <= MAX_APP and len(token(app)) + 1 + len(token(device)) <= MAX_SHORT:
        assert key == f"{token(app)}.{token(device)}"


@given(longest, st.integers(60, 200))
def test_what_is_too_long_keeps_a_readable_head(text: str, most: int) -> None:
    short = fitted(token(text), most)
    head, _, tail = short.partition(MARK)
    assert most - 3 < len(short) + 1 <= most + 1
    assert untoken(head[: len(head) - len(head) % 12]) == text[: len(head) // 12]
    assert token(text).startswith(head)
    assert len(tail) == 20


def test_names_that_differ_beyond_the_head_have_different_keys() -> None:
    sensor = "温度传感器-北京市朝阳区建国门外大街一号国贸大厦三层东南角"
    keys = {device_key("default", sensor + end) for end in ("", "1", "2")}
    assert len(keys) == 3
    assert all(key.startswith("default.=E6=B8=A9=E5=BA=A6") for key in keys)


def test_what_fits_stays_as_it_is() -> None:
    assert fitted("x" * MAX_SHORT) == "x" * MAX_SHORT
    assert (app_key("é."), device_key("default", "a")) == ("=C3=A9=2E", "default.a")
