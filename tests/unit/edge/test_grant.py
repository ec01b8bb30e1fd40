"""What a device may do."""

from cloudmatch_edge.admission.grant import OPEN, Admitted, Grant
from cloudmatch_edge.dialects.parameters import Parameters


def test_an_edge_that_asks_for_no_token_grants_anything() -> None:
    assert Admitted(Parameters("a", 0, 0)).grant == OPEN == Grant()
