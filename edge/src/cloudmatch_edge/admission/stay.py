"""For how long a device may stay: until its token expires, unless it brings another one."""

import math
from collections.abc import Callable

from cloudmatch_edge.admission.denied import unauthorized
from cloudmatch_edge.admission.permit import OPEN, Permit
from cloudmatch_edge.dialects.parameters import Parameters

AHEAD = 60.0  # s before its token expires, in which a device is asked for another one


def _takes_none(_: str) -> Permit:
    raise unauthorized("unknown_key", "no tokens are taken here")


class Stay:
    """What a connected device may do, and until when. Its end is measured by the monotonic clock: a step of
    the wall clock ends no stay.

    Args:
        permit: with which it came in.
        verify: returns what a token permits, or raises `DeniedError`.
        leeway: s for which a token is good after its end.
        now: s, monotonic.
        clock: s since 1970.
    """

    def __init__(
        self,
        permit: Permit = OPEN,
        verify: Callable[[str], Permit] = _takes_none,
        leeway: float = 0.0,
        now: float = 0.0,
        clock: float = 0.0,
    ) -> None:
        self._verify = verify
        self._leeway = leeway
        self._begin(permit, now, clock)

    def _begin(self, permit: Permit, now: float, clock: float) -> None:
        self.permit = permit
        self._end = math.inf if permit.expires is None else now + permit.expires - clock
        self._asked = False

    def is_over(self, now: float) -> bool:
        """Whether the device has to go (`now`: s, monotonic)."""
        return now >= self._end + self._leeway

    def ask(self, now: float) -> int | None:
        """Return in how many seconds the token expires when that is soon, once; None otherwise."""
        left = self._end - now
        if self._asked or left > AHEAD:
            return None
        self._asked = True
        return max(0, math.ceil(left))

    def renew(self, token: str, who: Parameters, now: float, clock: float) -> Parameters:
        """Go on with another token, of the same device and app, which may allow less from the next search on.

        Args:
            now: s, monotonic.
            clock: s since 1970.

        Returns:
            What the device may have of what it asked for.

        Raises:
            DeniedError: it is not taken; the present one stays.
        """
        permit = self._verify(token)
        narrowed = permit.narrow(who)
        self._begin(permit, now, clock)
        return narrowed


FOREVER = Stay()  # at an edge that asks for no token
