"""The bridge's settings."""

import pytest

from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bus.process.settings import SettingsError, read

NAME = "CLOUDMATCH_BRIDGE_RABBIT_QUEUES"


def test_there_are_no_plain_queues_by_default_and_a_list_is_split() -> None:
    assert read(BridgeSettings, {}).plain_queues == []
    settings = read(BridgeSettings, {NAME: "testqueue,other"})
    settings.check()
    assert settings.plain_queues == ["testqueue", "other"]


def test_a_queue_that_cannot_be_used_is_refused_by_the_name_of_the_setting() -> None:
    with pytest.raises(SettingsError, match=f"{NAME}: 'amq.x' begins with 'amq.'"):
        read(BridgeSettings, {NAME: "amq.x"}).check()


def test_singles_are_on_by_default_and_plain_queues_need_them() -> None:
    singles = "CLOUDMATCH_BRIDGE_RABBIT_SINGLES"
    assert read(BridgeSettings, {}).singles
    read(BridgeSettings, {singles: "false"}).check()
    with pytest.raises(SettingsError, match=f"{NAME}: they get nothing while {singles} is off"):
        read(BridgeSettings, {singles: "false", NAME: "testqueue"}).check()
