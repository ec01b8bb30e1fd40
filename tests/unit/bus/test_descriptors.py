"""File descriptors: how many are in use, when they run short, and the limit that is raised."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_bus.process.descriptors import Descriptors, raise_limit


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """The limits of this process, restored afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("used", "limit", "plenty", "short", "last"),
    [
        (59, 120, True, False, False),
        (60, 120, False, False, False),
        (89, 120, False, False, False),
        (90, 120, False, True, False),
        (105, 120, False, True, True),
        (20_000, 20_128, False, False, False),
        (20_064, 20_128, False, True, False),
        (20_096, 20_128, False, True, True),
    ],
)
def test_a_part_of_the_limit_is_kept_and_half_of_it_for_the_process_itself(
    used: int, limit: int, plenty: bool, short: bool, last: bool
) -> None:
    descriptors = Descriptors(lambda: limit, lambda: used)
    assert (descriptors.plenty, descriptors.short is not None, descriptors.last) == (plenty, short, last)


def test_a_process_without_any_left_says_so() -> None:
    def none() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    assert Descriptors(lambda: 120, none).short == "120 of 120 file descriptors are in use"


def test_those_of_this_process_are_counted(limits: tuple[int, int]) -> None:
    most = 40 + max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    descriptors = Descriptors()
    assert descriptors.short is None
    taken: list[int] = []

    def take_all() -> None:
        while True:
            taken.append(os.dup(0))

    with pytest.raises(OSError, match="Too many open files"):
        take_all()
    assert descriptors.short == f"{most} of {most} file descriptors are in use"
    assert descriptors.last
    for each in taken:
        os.close(each)
    assert descriptors.short is None


def test_without_a_limit_there_are_always_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert Descriptors().plenty


def test_the_soft_limit_is_raised_to_the_hard_one(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_limit()
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_limit_that_cannot_be_raised_stays(
    limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int, __: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard)
