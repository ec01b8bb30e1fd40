"""The settings of analytics."""

import pytest

from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_bus.process.settings import SettingsError, read

NAME = "CLOUDMATCH_ANALYTICS_INPUT_QUEUES"


def test_there_are_no_input_queues_by_default_and_a_list_is_split() -> None:
    assert read(AnalyticsSettings, {}).plain_queues == []
    settings = read(AnalyticsSettings, {NAME: "testqueue,other"})
    settings.check()
    assert settings.plain_queues == ["testqueue", "other"]


def test_a_queue_that_cannot_be_used_is_refused_by_the_name_of_the_setting() -> None:
    with pytest.raises(SettingsError, match=f"{NAME}: 'amq.x' begins with 'amq.'"):
        read(AnalyticsSettings, {NAME: "amq.x"}).check()
