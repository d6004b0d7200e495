"""Which atoms belong together, and structures made of them."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule

from fp_potential.conduction.fragments import fragments_of
from fp_potential.conduction.pieces import apart, chain, largest_kinds
from structures import salt_water_box, water_cluster


def test_molecules_are_fragments() -> None:
    found = fragments_of(water_cluster(4))
    assert found.of_atom.tolist() == np.repeat(range(4), 3).tolist() and found.formulas == ["H2O"] * 4
    assert fragments_of(molecule("H2")).number == 1
    values = np.arange(12.0)
    assert found.sums(values) == pytest.approx(values.reshape(4, 3).sum(1))


def test_ions_are_fragments_beside_water_and_alkali_metals_are_metals() -> None:
    water = molecule("H2O")
    water += Atoms("Na", [water.positions[0] + [0.0, 0.0, 2.3]])
    assert fragments_of(water).formulas == ["H2O", "Na"]
    assert fragments_of(Atoms("Na2", [[0, 0, 0], [0, 0, 3.7]])).formulas == ["Na2"]


def test_molecules_are_put_together_across_boundaries() -> None:
    """Against the box whose molecules were not cut, with every atom moved by a vector of the cell."""
    box = salt_water_box()
    shifts = np.random.default_rng(3).integers(-2, 3, (len(box), 3))
    cut = box.copy()
    cut.positions += shifts @ box.cell.array
    whole, found = fragments_of(box), fragments_of(cut)
    assert found.of_atom.tolist() == whole.of_atom.tolist()
    assert sorted(found.formulas) == sorted(["H2O"] * 6 + ["Na", "Cl"])
    for k in range(found.number):
        own = found.of_atom == k
        first, second = found.whole[own], whole.whole[own]
        assert first - first[0] == pytest.approx(second - second[0], abs=1e-12)
        assert np.ptp(first, axis=0).max() < 2.0


def test_long_molecules_are_put_together_across_boundaries() -> None:
    ethanol = molecule("CH3CH2OH", cell=[9.0, 8.0, 7.0], pbc=True)
    cut = ethanol.copy()
    cut.positions += np.random.default_rng(4).integers(-2, 3, (len(cut), 3)) @ cut.cell.array
    found = fragments_of(cut)
    assert found.formulas == ["C2H6O"]
    assert found.whole - found.whole[0] == pytest.approx(ethanol.positions - ethanol.positions[0], abs=1e-12)


def test_factor_and_array_decide() -> None:
    pair = water_cluster(2)
    assert fragments_of(pair, factor=3.0).formulas == ["H4O2"]
    pair.set_array("fragment", np.array([7, 7, 7, 7, 7, -2]))
    found = fragments_of(pair)
    assert found.of_atom.tolist() == [1, 1, 1, 1, 1, 0] and found.formulas == ["H", "H3O2"]
    pair.arrays["fragment"] = np.zeros(6)
    with pytest.raises(ValueError, match="'fragment' of the structure must hold an integer for each atom"):
        fragments_of(pair)


def test_chains_have_the_gap_along_the_smallest_extent() -> None:
    cluster = water_cluster(3)
    axis = int(np.ptp(cluster.positions, axis=0).argmin())
    made = chain(cluster, 4, 3.5)
    assert made.direction.tolist() == np.eye(3)[axis].tolist() and len(made.atoms) == 36
    for k in range(3):
        here, following = (made.atoms.positions[made.piece == j][:, axis] for j in (k, k + 1))
        assert following.min() - here.max() == pytest.approx(3.5)
    distances = made.atoms[made.piece == 2].get_all_distances()
    assert distances == pytest.approx(cluster.get_all_distances())


def test_pieces_far_apart() -> None:
    """Two of each kind, each as far as the gap from the next, a slab still periodic."""
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    slab += Atoms("OH2", molecule("H2O").positions + slab.positions.max(axis=0) + [0.0, 0.0, 3.0])
    slab += Atoms("OH2", molecule("H2O").positions + slab.positions.max(axis=0) + [1.0, 1.0, 3.0])
    slab.pbc = [True, True, False]
    found = fragments_of(slab)
    assert found.formulas == ["Cu8", "H2O", "H2O"] and largest_kinds(found, 1) == ["Cu8"]
    pieces = apart(slab, found, ["Cu8", "H2O"], 10.0)
    assert pieces.atoms.pbc.tolist() == [True, True, False] and pieces.direction.tolist() == [0.0, 0.0, 1.0]
    assert pieces.atoms.cell[:2] == pytest.approx(slab.cell[:2])
    ends = [(p[:, 2].min(), p[:, 2].max()) for p in (pieces.atoms.positions[pieces.piece == k] for k in range(4))]
    assert [round(b[0] - a[1], 9) for a, b in pairwise(ends)] == [10.0] * 3
    assert [str(pieces.atoms.symbols[pieces.piece == k]) for k in range(4)] == ["Cu8", "OH2", "Cu8", "OH2"]
