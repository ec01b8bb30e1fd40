"""The settings of all processes are read and checked before any process starts."""

import pytest

from cloudmatch_bus.process.settings import SettingsError
from cloudmatch_local.settings import SERVICES, AllSettings, groups, prefix


def test_a_wrong_value_of_any_process_is_rejected_by_name():
    with pytest.raises(SettingsError, match="CLOUDMATCH_ANALYTICS_PORT='x'"):
        AllSettings(groups(), {"CLOUDMATCH_ANALYTICS_PORT": "x"})


def test_an_unknown_variable_is_warned_about_with_the_nearest_name():
    environ = {"CLOUDMATCH_EDGE_PRT": "1", "CLOUDMATCH_WHAT_IS_THIS": "2", "CLOUDMATCH_EDGE_PORT": "3"}
    assert AllSettings(groups(), environ).warnings() == [
        "unknown setting: CLOUDMATCH_EDGE_PRT; did you mean CLOUDMATCH_EDGE_PORT?",
        "unknown setting: CLOUDMATCH_WHAT_IS_THIS",
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_settings_of_its_own_with_a_port(service):
    settings = AllSettings(groups(), {f"{prefix(service)}_PORT": "4711"})
    assert settings.own(service).port == 4711
