"""The cell that a pairing request belongs to: one worker serves all requests of a cell, in turn."""

import h3

RESOLUTION = 1  # of the H3 grid: a cell is some 400 km from edge to edge


def cell(lat: float, lon: float) -> str:
    """Name the H3 cell around a point (degrees)."""
    return str(h3.latlng_to_cell(lat, lon, RESOLUTION))
