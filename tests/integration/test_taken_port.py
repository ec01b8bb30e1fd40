"""A process whose port is in use ends like one with an invalid setting."""

from pathlib import Path

import pytest

from cloudmatch_bus.process.listen import listen
from harness import BIN, Process


@pytest.mark.parametrize(
    ("program", "setting"),
    [
        ("edge", "CLOUDMATCH_EDGE_PORT"),
        ("match-engine", "CLOUDMATCH_MATCH_ENGINE_PORT"),
        ("journal", "CLOUDMATCH_JOURNAL_PORT"),
        ("bridge-rabbit", "CLOUDMATCH_BRIDGE_RABBIT_PORT"),
        ("analytics", "CLOUDMATCH_ANALYTICS_PORT"),
        ("edge", "CLOUDMATCH_EDGE_LEGACY_PORT"),
        ("journal", "CLOUDMATCH_JOURNAL_LEGACY_PORT"),
        ("analytics", "CLOUDMATCH_ANALYTICS_LEGACY_PORT"),
        ("analytics-broker", "CLOUDMATCH_KAFKA_PORT"),
    ],
)
def test_a_port_in_use_ends_a_process_with_one_line_that_names_its_setting(
    program: str, setting: str, tmp_path: Path
) -> None:
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        first = {setting.replace("_LEGACY", ""): "0"}
        settings = {**first, setting: str(port), "CLOUDMATCH_RUN_DIR": str(tmp_path / "run")}
        process = Process(program, [BIN / program], settings, tmp_path)
        assert process.wait(20) == 2, process.tail()
    assert process.log == (
        f"cannot listen on 127.0.0.1:{port} (Address already in use): "
        f"change {setting}, or stop the process that is listening there\n"
    )
