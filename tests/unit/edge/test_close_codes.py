"""The table of close codes, and whether the conversations of the SDKs do what it says."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from websockets.frames import EXTERNAL_CLOSE_CODES

from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.close_codes import ABNORMAL, CLOSE_CODES, CloseCode
from cloudmatch_edge.dialects.v1 import V1

CONVERSATIONS = json.loads((Path(__file__).parents[3] / "edge/conformance/conversations.json").read_text())


def test_every_code_and_every_name_is_in_the_table_once_in_ascending_order() -> None:
    assert all(one.code < other.code for one, other in pairwise(CLOSE_CODES))
    assert len({close_code.name for close_code in CLOSE_CODES}) == len(CLOSE_CODES)


@pytest.mark.parametrize("close_code", [c for c in CLOSE_CODES if c != ABNORMAL], ids=str)
def test_a_code_that_is_sent_may_be_sent(close_code: CloseCode) -> None:
    assert close_code.code in EXTERNAL_CLOSE_CODES or 4000 <= close_code.code <= 4999


@pytest.mark.parametrize("dialect", [Classic, V1])
def test_a_device_whose_edge_shuts_down_reconnects_at_once(dialect: type[Classic | V1]) -> None:
    reconnect = {close_code.code: close_code.reconnect for close_code in CLOSE_CODES}
    assert reconnect[dialect.going_away.code] == "at once"


def test_clients_reconnect_after_a_code_if_the_table_says_so() -> None:
    reconnect = {close_code.code: close_code.reconnect for close_code in CLOSE_CODES}
    drops = [
        (drop["drop"], any("connect" in step for step in after))
        for conversation in CONVERSATIONS
        for at, drop in enumerate(conversation["steps"])
        for after in [conversation["steps"][at + 1 :]]
        if drop.get("drop") and after and not any("leave" in str(step) for step in conversation["steps"])
    ]
    assert len(drops) > 8
    for code, reconnects in drops:
        assert reconnects == (reconnect.get(code) != "never"), code
