"""Who may come in: whoever has a token that allows what is asked for, or anybody."""

import logging
from collections.abc import Sequence

from prometheus_client import Counter

from cloudmatch_bus.process.clock import monotonic, now_ms
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.summary import Summary
from cloudmatch_edge.admission import bearer, tokens
from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.permit import OPEN, Admitted, Permit
from cloudmatch_edge.admission.stay import FOREVER, Stay
from cloudmatch_edge.admission.tokens import Rules
from cloudmatch_edge.dialects.parameters import parse
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets.keyring import Keyring

log = logging.getLogger("gate")

_denied = Counter(
    "cloudmatch_edge_devices_denied",
    "Devices denied, by what is wrong with their token, or what that does not allow",
    ["reason"],
)


class Gate:
    """What one edge asks of devices before they come in."""

    def __init__(self, settings: EdgeSettings, health: Health) -> None:
        self.keyring = Keyring(settings) if settings.auth == "jwt" else None  # None: anybody may come in
        self._rules = Rules(
            settings.auth_issuer,
            settings.auth_audience,
            settings.algorithms,
            settings.auth_leeway,
            settings.auth_longest,
        )
        self._denials = Summary(log, "devices denied")
        if self.keyring is not None:
            keyring = self.keyring
            health.set_check("keys", keyring.missing)
            health.set_warning("keys", lambda: keyring.problem)

    def admit(self, query: str, authorization: Sequence[str], offered: Sequence[str]) -> Admitted:
        """Return a device that may come in.

        Args:
            authorization: the headers of this name.
            offered: the subprotocols.

        Raises:
            BadParameterError: the query is no device's.
            DeniedError: it may not.
        """
        try:
            bearer.check_query(query)
            permit = self._permit(authorization, offered)
            who = parse(query, permit.device, permit.app or "default")
            return Admitted(who if permit is OPEN else permit.narrow(who), permit)
        except DeniedError as denied:
            reason = denied.reason or denied.parameter or denied.code
            _denied.labels(reason).inc()
            self._denials.add(reason)
            raise

    def _permit(self, authorization: Sequence[str], offered: Sequence[str]) -> Permit:
        if self.keyring is None:
            return OPEN
        if self.keyring.keys is None:
            raise DeniedError(503, "not_ready", "the keys of tokens are not known yet")
        return self.verify(bearer.find(authorization, offered))

    def stay(self, permit: Permit) -> Stay:
        """Return for how long a device may stay that comes in now."""
        if permit is OPEN:
            return FOREVER
        return Stay(permit, self.verify, self._rules.leeway, monotonic(), now_ms() / 1000)

    def verify(self, token: str) -> Permit:
        """Return what a token permits.

        Raises:
            DeniedError: it is not taken.
        """
        assert self.keyring is not None
        assert self.keyring.keys is not None
        try:
            return tokens.verify(token, self.keyring.keys, self._rules, now_ms() / 1000)
        except DeniedError as denied:
            if denied.reason == "unknown_key":
                self.keyring.ask()
            raise
