"""Neighbour lists and graphs of structures with any periodic axes."""

from itertools import product

import numpy as np
import pytest
import torch

from fp_potential.graph import Conditions, graph_from_arrays, neighbour_list

PATTERNS = list(product([True, False], repeat=3))
CELLS = {
    "orthogonal": np.diag([4.0, 5.0, 6.0]),
    "skewed": np.array([[4.0, 0.0, 0.0], [5.5, 4.0, 0.0], [-3.0, 6.0, 5.0]]),
    "left-handed": np.array([[0.5, 5.0, 0.3], [4.0, -1.0, 0.0], [1.0, 0.2, 6.0]]),
}
#: vectors of open axes: they have no images, so any do
OPEN = {"kept": 1.0, "short": 0.05, "zero": 0.0}


def brute_force(positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...], cutoff: float) -> set[tuple]:
    counts = [range(-9, 10) if axis else (0,) for axis in pbc]
    found = set()
    for shift in product(*counts):
        vectors = positions[None] + np.array(shift) @ cell - positions[:, None]
        near = np.linalg.norm(vectors, axis=2) < cutoff
        if shift == (0, 0, 0):
            np.fill_diagonal(near, False)
        found |= {(int(i), int(j), *shift) for i, j in np.argwhere(near)}
    return found


@pytest.mark.parametrize("pbc", PATTERNS, ids=lambda pbc: "".join("FT"[axis] for axis in pbc))
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("vectors", OPEN)
def test_neighbours_against_all_images(pbc: tuple[bool, ...], name: str, vectors: str) -> None:
    """The cutoff is longer than the cell, and atoms lie outside of it."""
    periodic = np.array(pbc)
    cell = np.where(periodic[:, None], CELLS[name], OPEN[vectors] * CELLS[name])
    positions = np.random.default_rng(3).uniform(-6, 9, (9, 3))
    pairs, shifts = neighbour_list(positions, cell, periodic, 4.5)
    found = {(int(i), int(j), *map(int, s)) for (i, j), s in zip(pairs.T, shifts, strict=True)}
    assert len(found) == pairs.shape[1] and (np.diff(pairs[0]) >= 0).all()
    assert found == brute_force(positions, cell, pbc, 4.5)


@pytest.mark.parametrize("pbc", PATTERNS, ids=lambda pbc: "".join("FT"[axis] for axis in pbc))
def test_edges_do_not_depend_on_open_vectors(pbc: tuple[bool, ...]) -> None:
    periodic = np.array(pbc)
    positions = np.random.default_rng(3).uniform(-3, 6, (5, 3))

    def vectors(scale: float) -> torch.Tensor:
        cell = np.where(periodic[:, None], CELLS["skewed"], scale * CELLS["skewed"])
        graph = graph_from_arrays(positions, np.ones(5, int), cell, periodic, [1], 4.5, torch.float64)
        edges = graph.positions[graph.edge_index[1]] + graph.edge_shifts - graph.positions[graph.edge_index[0]]
        assert torch.linalg.det(graph.cell).abs().item() > 1e-3
        return edges[edges[:, 0].argsort()]

    assert torch.equal(vectors(1.0), vectors(0.0)) and torch.equal(vectors(1.0), vectors(40.0))


def test_positions_are_relative_to_the_origin_of_the_field() -> None:
    positions = np.arange(6.0).reshape(2, 3)
    conditions = Conditions(field_origin=[0.5, 1.0, -1.0])
    graph = graph_from_arrays(positions, np.ones(2, int), np.eye(3), np.zeros(3), [1], 2.0, torch.float64, conditions)
    assert graph.positions.tolist() == [[-0.5, 0.0, 3.0], [2.5, 3.0, 6.0]]


def test_bad_input_is_named() -> None:
    two = np.array([True, False, True])

    def graph(cell: np.ndarray, field: tuple[float, float, float] = (0.0, 0.0, 0.0)):
        conditions = Conditions(external_field=field)
        return graph_from_arrays(np.zeros((1, 3)), np.ones(1, int), cell, two, [1], 3.0, torch.float64, conditions)

    with pytest.raises(ValueError, match="no area"):
        graph(np.array([[2.0, 0, 0], [0, 3, 0], [-4, 0, 0]]))
    with pytest.raises(ValueError, match="no area"):
        neighbour_list(np.zeros((1, 3)), np.zeros((3, 3)), two, 3.0)
    sheared = np.array([[5.0, 0, 0], [0, 0, 0], [0, 1.0, 5.0]])
    for field in ((0.1, 0.0, 0.0), (0.0, 0.1, 0.0)):
        with pytest.raises(ValueError, match="component along a periodic axis"):
            graph(sheared, field)
    assert graph(sheared, (0.0, 0.1, -0.02)).external_field.tolist() == [[0.0, 0.1, -0.02]]
