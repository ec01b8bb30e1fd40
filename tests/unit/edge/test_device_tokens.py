"""A device and its token: what that allows, its end, and another one."""

from cloudmatch_edge.admission.denied import forbidden, unauthorized
from cloudmatch_edge.admission.permit import Permit, Place
from cloudmatch_edge.admission.stay import Stay
from cloudmatch_edge.dialects.close_codes import TOKEN_EXPIRED
from cloudmatch_edge.relay.device import COMMANDS
from unit.edge.fakes import v1
from unit.edge.lone import Lone


def test_a_device_moves_within_the_place_that_its_token_allows() -> None:
    lone = Lone(v1(), stay=Stay(Permit(place=Place(0, 0, 112_000))))
    lone.command('{"type":"locate","lat":2,"lon":0}')
    assert (lone.device.who.lat, lone.types(), lone.engine.calls) == (0, ["error"], [])
    lone.command('{"type":"locate","lat":1,"lon":0}')
    assert (lone.device.who.lat, lone.types(), lone.engine.calls) == (1, [], ["seek"])


def test_a_device_whose_token_expires_is_asked_for_another_and_closed_without() -> None:
    lone = Lone(v1(), stay=Stay(Permit(expires=100.0), leeway=30))
    lone.device.check_token(39.9)
    assert lone.types() == []
    lone.device.check_token(40.0)
    lone.device.check_token(41.0)
    assert lone.types() == ["token_expires"]
    lone.device.check_token(129.9)
    assert lone.socket.closed is None
    lone.device.check_token(130.0)
    assert lone.socket.closed == TOKEN_EXPIRED


def test_another_token_is_confirmed_or_refused_and_not_too_often() -> None:
    verdicts = [unauthorized("signature", "forged"), forbidden("id", "of another")]

    def verify(_: str) -> Permit:
        if verdicts:
            raise verdicts.pop(0)
        return Permit(expires=1e12, radius=50)

    lone = Lone(v1(), stay=Stay(Permit(expires=100.0), verify))
    for _ in range(len(verdicts)):
        lone.command('{"type":"token","token":"x"}')
    refused, other = lone.messages()
    assert (refused["code"], other["code"]) == ("unauthorized", "forbidden")
    assert (lone.device.who.radius, lone.device.stay.is_over(1e6)) == (None, True)
    lone.command('{"type":"token","token":"x"}')
    assert lone.messages() == [{"type": "token", "expires": 10**15}]
    assert (lone.device.who.radius, lone.device.stay.is_over(1e6)) == (50, False)
    for _ in range(int(COMMANDS[1])):
        lone.command('{"type":"token","token":"x"}')
    assert lone.messages()[-1]["code"] == "rate_limited"
