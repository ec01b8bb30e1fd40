"""The conversation of the Python client about its token."""

import json

from cloudmatch.core.conversation import Conversation
from cloudmatch.core.events import TokenExpires
from unit.client_python.test_conversation import WELCOME


def test_a_token_is_renewed_on_a_connection_that_was_welcomed_only() -> None:
    device = Conversation(52.37, 4.89)
    device.connect(0)
    device.renew("early")
    assert device.frames() == []
    device.receive(json.dumps(WELCOME), 0)
    device.receive('{"type":"token_expires","in":60}', 0)
    assert device.events() == [TokenExpires(60)]
    device.renew("t2")
    device.receive('{"type":"token","expires":1796000000000}', 0)
    assert device.frames() == ['{"type":"token","token":"t2"}']
    assert device.events() == []
    device.lost(4003, 1)
    device.renew("late")
    assert device.frames() == []
