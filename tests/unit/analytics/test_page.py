import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from cloudmatch_analytics.page import FILES

ROOM = Path(__file__).parents[3] / "analytics"


def test_the_wheel_has_all_files_of_the_page_and_the_licence_of_what_is_not_ours(tmp_path):
    (wheel,) = WheelBuilder(str(ROOM)).build(directory=str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    for name in FILES:
        assert f"cloudmatch_analytics/web/{name}" in names
    assert "cloudmatch_analytics/web/vendor/uPlot.LICENSE" in names


AXIS = {
    0: "0 B",
    0.5: "0.5 B",
    5: "5 B",
    999: "999 B",
    5000: "5 kB",
    1500: "1.5 kB",
    20_000: "20 kB",
    1e9: "1 GB",
}
FULL = {
    0: "0 B",
    4: "4 B",
    4.25: "4.25 B",
    999.4: "999 B",
    999.6: "1.00 kB",
    12_345: "12.3 kB",
    5e15: "5.00 PB",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_amounts_are_written_with_three_figures_and_a_unit():
    script = (ROOM / "src/cloudmatch_analytics/web/page.js").read_text(encoding="utf-8")
    words = script[script.index("const UNITS") : script.index("const plural")]
    asked = json.dumps([list(AXIS), list(FULL)])
    show = f"console.log(JSON.stringify([{asked}[0].map(round), {asked}[1].map(bytes)]))"
    done = subprocess.run(["node", "-e", words + show], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(AXIS.values()), list(FULL.values())]
