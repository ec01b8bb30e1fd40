"""The cell of a pairing request: one worker at a time serves all requests of a cell."""

import h3

RESOLUTION = 1  # of the H3 grid: a cell is some 400 km from edge to edge


def cell(lat: float, lon: float) -> str:
    """Return the id of the H3 cell around a point (degrees)."""
    return str(h3.latlng_to_cell(lat, lon, RESOLUTION))
