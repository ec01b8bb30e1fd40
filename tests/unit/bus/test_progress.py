"""A reader without progress is told from one without work."""

from cloudmatch_bus.client.progress import PATIENCE, Progress


def test_it_is_stalled_after_a_while_with_work_and_without_progress() -> None:
    progress = Progress()
    progress.observe(5, 10, 100.0)
    progress.observe(6, 10, 105.0)
    assert progress.stalled(100.0 + PATIENCE) is None
    assert progress.stalled(101.0 + PATIENCE) == 1.0 + PATIENCE
    progress.observe(6, 11, 120.0)
    assert progress.stalled(120.0 + PATIENCE) is None


def test_it_is_not_stalled_without_work_and_then_has_time_to_begin() -> None:
    progress = Progress()
    assert progress.stalled(10**9) is None
    progress.observe(0, 10, 0.0)
    assert progress.stalled(1000.0) is None
    progress.observe(0, 10, 1000.0)
    progress.observe(1, 10, 1001.0)
    assert progress.stalled(1001.0) is None
    assert progress.stalled(1001.0 + PATIENCE) is not None
