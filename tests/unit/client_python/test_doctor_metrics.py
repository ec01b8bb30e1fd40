"""What the doctor reads in the metrics of services."""

from collections.abc import Callable

import pytest

from cloudmatch.cli import doctor
from unit.client_python.test_cli import NOWHERE, answering


@pytest.mark.parametrize(
    ("check", "metric", "value", "words"),
    [
        (doctor.singles, doctor.SINGLES_LAG, "3.0", None),
        (doctor.singles, doctor.SINGLES_LAG, "312.4", "312 s behind"),
        (doctor.losses, doctor.LOSSES, "0.0", None),
        (doctor.losses, doctor.LOSSES, "2.0", "2 gaps"),
    ],
)
def test_the_doctor_warns_of_late_messages_per_payload_and_of_facts_that_the_journal_does_not_have(
    check: Callable[[str], list[doctor.Finding]], metric: str, value: str, words: str | None
) -> None:
    metrics = f"# HELP x\n{metric} {value}\nother 1.0\n".encode()
    with answering({"/metrics": (200, metrics)}) as (url, _):
        found = check(url)
    assert [each.state for each in found] == ([doctor.State.WARNING] if words else [])
    assert all(str(words) in each.found for each in found)


def test_a_bridge_that_does_not_say_how_far_it_lags_is_another_finding() -> None:
    assert doctor.singles(NOWHERE) == []
    with answering({}) as (url, _):
        assert doctor.singles(url) == []
    with answering({"/metrics": (200, b"other 1.0\n")}) as (url, _):
        assert doctor.singles(url) == []
