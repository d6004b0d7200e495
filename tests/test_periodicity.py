"""Cells of every pattern of periodic axes: what is refused, completed and derived."""

from itertools import product

import numpy as np
import pytest

from fp_potential.periodicity import (
    cell_of_graph,
    check_cell,
    completed_cell,
    field_origin,
    has_volume,
    is_along_periodic_axes,
    open_axes,
)

PATTERNS = [np.array(pattern) for pattern in product([True, False], repeat=3)]
SKEWED = np.array([[4.0, 0.0, 0.0], [3.1, 5.0, 0.0], [-1.5, 4.0, 6.0]])
TTF = np.array([True, True, False])


@pytest.mark.parametrize("pbc", PATTERNS)
def test_only_periodic_vectors_are_checked(pbc):
    """Vectors of open axes may be zero or parallel to others."""
    for anything in (np.zeros(3), SKEWED[np.argmax(pbc)]):
        cell = np.where(pbc[:, None], SKEWED, anything)
        check_cell(cell, pbc)
        complete = completed_cell(cell, pbc)
        assert np.array_equal(complete[pbc], SKEWED[pbc]) and np.isfinite(complete).all()
        assert complete[~pbc] @ complete[~pbc].T == pytest.approx(np.eye((~pbc).sum()), abs=1e-14)
        assert complete[~pbc] @ SKEWED[pbc].T == pytest.approx(0.0, abs=1e-14)
        gram = SKEWED[pbc] @ SKEWED[pbc].T
        assert abs(np.linalg.det(complete)) == pytest.approx(np.sqrt(np.linalg.det(gram)) if pbc.any() else 1.0)


@pytest.mark.parametrize(
    ("pbc", "rows", "words"),
    [
        ("TTT", [[1, 0, 0], [0, 2, 0], [1, 2, 0]], "has no volume: its periodic vectors"),
        ("TTT", [[1, 0, 0], [0, 2, 0], [0, 0, 0]], "has no volume"),
        ("TTF", [[1, 2, 0], [-2, -4, 0], [0, 0, 9]], r"has no area: its periodic vectors \(pbc = T T F\)"),
        ("FTT", [[1, 0, 0], [0, 2, 0], [0, 0, 0]], "has no area.*set 2 independent vectors"),
        ("FTF", [[1, 0, 0], [0, 0, 0], [0, 0, 5]], "has no length: its periodic vector "),
        ("FFT", [[1, 0, 0], [0, np.nan, 0], [0, 0, 5]], "is not finite"),
    ],
)
def test_vectors_that_span_nothing(pbc, rows, words):
    with pytest.raises(ValueError, match=words):
        check_cell(np.array(rows, dtype=float), np.array([letter == "T" for letter in pbc]))


def test_small_and_large_cells_are_no_errors():
    for scale in (0.5, 5000.0):
        check_cell(scale * SKEWED, np.array([True] * 3))
    assert has_volume(SKEWED) and not has_volume(np.diag([1.0, 1.0, 0.0]))


def test_cell_of_graph():
    """The given vectors where they have a volume: stresses are divided by it."""
    assert np.array_equal(cell_of_graph(SKEWED, TTF), SKEWED)
    flat = SKEWED * np.array([[1], [1], [0]])
    assert np.array_equal(cell_of_graph(flat, TTF), completed_cell(flat, TTF))
    assert np.array_equal(cell_of_graph(SKEWED, np.array([False] * 3)), np.eye(3))


def test_open_cartesian_axes():
    xy = np.diag([3.0, 4.0, 0.0])
    assert open_axes(xy, TTF).tolist() == [False, False, True]
    assert open_axes(xy, np.array([True, False, False])).tolist() == [False, True, True]
    assert open_axes(xy, np.array([False] * 3)).tolist() == [True] * 3
    assert open_axes(np.array([[1.0, 1.0, 0.0], [0, 0, 0], [0, 0, 0]]), np.array([True, False, False])).tolist() == [
        False,
        False,
        True,
    ]


def test_fields_along_periodic_vectors():
    """An axis is a vector of the cell, not a Cartesian one."""
    slab = np.array([[4.0, 0.0, 0.0], [0.0, 3.0, 4.0], [0.0, 0.0, 9.0]])
    assert is_along_periodic_axes(np.array([0.0, 0.0, 0.1]), slab, TTF)
    assert not is_along_periodic_axes(0.01 * np.array([0.0, 4.0, -3.0]), slab, TTF)
    assert not is_along_periodic_axes(np.array([1.0, 2.0, 3.0]), slab, np.array([False] * 3))
    assert not is_along_periodic_axes(np.zeros(3), slab, TTF)


def test_origin_of_the_field():
    assert field_origin(SKEWED, TTF).tolist() == [-0.75, 2.0, 3.0]
    assert field_origin(SKEWED, np.array([True] * 3)).tolist() == [0.0] * 3
    assert field_origin(np.diag([4.0, 0.0, 6.0]), np.array([False] * 3)).tolist() == [2.0, 0.0, 3.0]
