"""The settings of an edge."""

import pytest

from cloudmatch_bus.process.settings import SettingsError
from cloudmatch_edge.settings import EdgeSettings


def test_a_name_that_makes_subjects_too_long_is_refused() -> None:
    EdgeSettings(name="é" * 42).check()
    with pytest.raises(SettingsError, match=r"CLOUDMATCH_EDGE_NAME=.* has more than 255 bytes"):
        EdgeSettings(name="é" * 43).check()
