"""How files are shared out among workers."""

from types import SimpleNamespace

import pytest

from harness.workers import FileScheduling, heavy


class Worker:
    """Like pytest-xdist's, it starts a test once it knows the next one."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[int] = []
        self.ran: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_go_on(self) -> bool:
        return len(self.given) > (0 if self.shutting_down else 1)

    def step(self, scheduling: FileScheduling) -> bool:
        """Run the next test; return whether there was one."""
        if not self.can_go_on:
            return False
        self.ran.append(self.given.pop(0))
        scheduling.mark_test_complete(self, self.ran[-1])
        return True


def named(light: tuple[int, ...], heavies: tuple[int, ...]) -> list[str]:
    """Names of that many tests of each file."""
    tests = [f"tests/faults/test_{i}.py::t{j}" for i, size in enumerate(heavies) for j in range(size)]
    return tests + [f"tests/unit/test_{i}.py::t{j}" for i, size in enumerate(light) for j in range(size)]


def shared_out(tests: list[str], pace: int = 1) -> list[str]:
    """Run tests on two workers, the first of which runs `pace` for each of the other; give whose each was."""
    config = SimpleNamespace(getvalue=lambda _: ["2*popen"], option=SimpleNamespace(loadscopereorder=True))
    scheduling = FileScheduling(config)
    workers = [Worker("gw0"), Worker("gw1")]
    for worker in workers:
        scheduling.add_node(worker)
    for worker in workers:
        scheduling.add_node_collection(worker, tests)
    scheduling.schedule()
    of: dict[int, str] = {}
    left = list(workers)
    while left:
        moved = False
        for worker, times in zip(workers, (pace, 1), strict=True):
            for _ in range(times):
                if worker in left and worker.step(scheduling):
                    moved = True
                    of[worker.ran[-1]] = worker.gateway.id
            if worker in left and worker.shutting_down and not worker.given:
                left.remove(worker)
                if worker in scheduling.nodes:
                    scheduling.remove_node(worker)
                moved = True
        assert moved, "no worker can run a test"
    assert scheduling.tests_finished
    return [of[i] for i in range(len(tests))]


SIZES = [(), (1,), (1, 1), (3, 3), (1, 9, 2), (7, 1, 1, 1, 4), (2, 2, 2, 2, 2, 2)]


@pytest.mark.parametrize("pace", [1, 2, 5, 50])
@pytest.mark.parametrize("heavies", SIZES)
@pytest.mark.parametrize("light", SIZES[1:])
def test_every_file_stays_together_and_all_that_is_heavy_runs_one_by_one(light, heavies, pace):
    tests = named(light, heavies)
    workers = shared_out(tests, pace)
    files = [test.partition("::")[0] for test in tests]
    assert len(set(zip(files, workers, strict=True))) == len(set(files))
    assert len({worker for test, worker in zip(tests, workers, strict=True) if heavy(test)}) <= 1


@pytest.mark.parametrize("heavies", [(), (4,), (4, 1, 2)])
def test_both_workers_have_something_to_do(heavies):
    assert set(shared_out(named((3,) * 9, heavies))) == {"gw0", "gw1"}


def test_what_is_heavy_alone_runs_on_one_worker():
    assert len(set(shared_out(named((), (2, 3, 1))))) == 1
