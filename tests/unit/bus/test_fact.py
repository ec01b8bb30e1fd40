"""What all facts have in common."""

import pytest

from cloudmatch_bus.contract.fact import DeviceForgotten, Fact, FactsLost


class Named(Fact, frozen=True, kw_only=True, tag="named"):
    """A fact about one device."""

    device: str

    @property
    def primary_device(self) -> str:
        return self.device


def test_a_fact_is_about_its_device_unless_it_says_more() -> None:
    fact = Named(app="demo", at=1, device="a")
    assert (fact.kind, fact.primary_device, fact.devices) == ("named", "a", ("a",))


def test_a_fact_must_name_a_device() -> None:
    with pytest.raises(NotImplementedError):
        Fact(app="demo", at=1).devices  # noqa: B018  # it raises


def test_lost_facts_are_about_no_device() -> None:
    lost = FactsLost(app="demo", at=1, low=2, high=9, missing=6, reason="expired")
    assert (lost.kind, lost.primary_device, lost.devices) == ("lost", "journal", ())


def test_a_forgotten_device_is_named() -> None:
    forgotten = DeviceForgotten(app="demo", at=1, device="a")
    assert (forgotten.kind, forgotten.primary_device, forgotten.devices) == ("forgotten", "a", ("a",))
