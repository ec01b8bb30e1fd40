"""Pairing requests belong to coarse H3 cells, on which edges of different versions must agree."""

from cloudmatch_bus.contract.cells import cell


def test_cells_never_change() -> None:
    assert cell(45.46, 9.19) == "811fbffffffffff"


def test_neighbours_share_a_cell_and_places_an_ocean_apart_do_not() -> None:
    assert cell(45.46, 9.19) == cell(45.47, 9.20)
    assert cell(45.46, 9.19) != cell(40.71, -74.0)
