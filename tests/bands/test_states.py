"""Solvers, symmetry, ordering, decomposition and density of states."""

import sys

import numpy as np
import pytest
import torch
from ase.io.cube import read_cube_data
from ase.io.xsf import read_xsf

from bands.materials import FCC, GAMMA, GENERAL, L, X, analytic, parameters, perovskite, zincblende
from figures import at_most
from fp_potential.bands import Crystal, Hamiltonian, PlaneWaves, Pseudopotential, Terms, ZeroForm, band_energies, solve
from fp_potential.bands.davidson import NotConverged, davidson
from fp_potential.bands.decomposition import decompose
from fp_potential.bands.density import charge_density, write_density
from fp_potential.bands.ordering import order_by_overlap, order_smoothly
from fp_potential.bands.symmetry import reduce_points, rotations
from fp_potential.bands.units import BOHR


def cdse(max_ke=4.0, kind="complete", **terms):
    crystal = zincblende()
    return Hamiltonian(crystal, PlaneWaves(crystal, max_ke, kind)), analytic(crystal, **terms)


def cspbi3(max_ke=1.5):
    crystal = perovskite()
    return Hamiltonian(crystal, PlaneWaves(crystal, max_ke)), analytic(crystal, spin_orbit=True, nonlocal_=True)


def silicon():
    crystal = Crystal(10.26121 * FCC, ("Si", "Si"), np.array([[0.125] * 3, [-0.125] * 3]))
    return Hamiltonian(crystal, PlaneWaves(crystal, 5.0)), analytic(crystal)


@pytest.mark.parametrize("material", [cdse, cspbi3, silicon])
def test_iterative_against_dense(material):
    """At points of high and of no symmetry, from scratch and from the states of another k."""
    hamiltonian, potential = material()
    k, n = torch.cat([GAMMA, L, GENERAL]), 26 if material is cspbi3 else 16
    dense, iterative = (solve(hamiltonian, potential, k, n, method) for method in ("dense", "iterative"))
    bands = [states.bands(potential).detach() for states in (dense, iterative)]
    at_most("bands, iterative against dense, Ha", (bands[0] - bands[1]).abs().max(), 1e-11)
    assert float(iterative.residuals[:, : iterative.n_listed].max()) < 1e-8
    again = solve(hamiltonian, potential, k, n, "iterative", start=iterative).bands(potential).detach()
    assert float((again - bands[0]).abs().max()) < 1e-11


def test_real_matrices():
    """Silicon about its centre of inversion is solved with real matrices, to the same bands."""
    hamiltonian, potential = silicon()
    assert not hamiltonian.fixed(potential).local.is_complex()
    shifted = Crystal(hamiltonian.crystal.cell, ("Si", "Si"), hamiltonian.crystal.positions + 0.07)
    other = Hamiltonian(shifted, hamiltonian.basis)
    assert other.fixed(potential).local.is_complex()
    bands = [band_energies(h, potential, GENERAL, 10).detach() for h in (hamiltonian, other)]
    assert float((bands[0] - bands[1]).abs().max()) < 1e-12


def test_hidden_state():
    """States of a symmetry that no first approximation has are found: the start is the next higher states alone."""
    hamiltonian, potential = silicon()
    at = hamiltonian.fixed(potential).at(GAMMA[0])
    energies, vectors = torch.linalg.eigh(at.dense())
    found, _, _ = davidson(at, 4, vectors[:, 1:9].to(torch.complex128))
    assert float((found[:4] - energies[:4]).abs().max()) < 1e-11


@pytest.mark.parametrize("n", [2, 20, 60, 100])
def test_small_bases(n):
    """Any part of the states of a small basis is found, from other vectors than its own, too."""
    hamiltonian, potential = cdse(2.0)
    k = torch.cat([L, X])
    dense, iterative = (solve(hamiltonian, potential, k, n, method) for method in ("dense", "iterative"))
    assert float((dense.bands() - iterative.bands()).detach().abs().max()) < 1e-11


def test_not_converged():
    hamiltonian, potential = silicon()
    at = hamiltonian.fixed(potential).at(GAMMA[0])
    with pytest.raises(NotConverged, match="take the method 'dense', or a larger tolerance"):
        davidson(at, 4, torch.eye(len(hamiltonian.basis), 8, dtype=torch.complex128), tolerance=1e-30)


def test_last_group_is_complete():
    """Whatever the number of bands, the last degenerate group is whole."""
    hamiltonian, potential = cdse()
    for method in ("dense", "iterative"):
        for n in range(3, 9):
            states = solve(hamiltonian, potential, GAMMA, n, method)
            last = states.group_of()[0][-1]
            assert last.start < states.n_listed <= last.stop
            assert last.stop - last.start == (3 if n > 2 else 1), (method, n)


def test_wrong_numbers():
    hamiltonian, potential = cdse(1.0)
    with pytest.raises(ValueError, match="take a number of bands from 1 to twice that of the waves"):
        solve(hamiltonian, potential, GAMMA, 1000)
    with pytest.raises(ValueError, match="begin with states of the same basis and spin"):
        solve(hamiltonian, potential, GAMMA, 4, "iterative", start=solve(*cdse(2.0), GAMMA, 4))
    with pytest.raises(ValueError, match=r"the pseudopotential knows the species \('Cd', 'Se'\), the crystal has"):
        band_energies(cspbi3()[0], potential, GAMMA, 4)
    with pytest.raises(ValueError, match="`max_ke` must be a positive energy"):
        PlaneWaves(zincblende(), -1.0)
    with pytest.raises(ValueError, match="a row for each of the species"):
        Crystal(FCC, ("Cd",), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="three independent vectors"):
        Crystal(np.zeros((3, 3)), ("Cd",), np.zeros((1, 3)))


def test_infinite_potential():
    """A potential with a pole has no energies, and no derivatives that could move it further."""
    hamiltonian, potential = cdse(1.0)
    with torch.no_grad():
        potential.parameters_by_species[0, :4] = torch.tensor([1.0, 2.0, 1.0, 0.5])
    bands = band_energies(hamiltonian, potential, GAMMA, 4)
    assert bands.shape == (1, 4) and bool(bands.isnan().all())


def test_switched_terms():
    """Terms of the Hamiltonian stand in the place of the pseudopotential's."""
    crystal = perovskite()
    basis = PlaneWaves(crystal, 1.5)
    whole = analytic(crystal, spin_orbit=True, nonlocal_=True)
    some = Hamiltonian(crystal, basis, Terms(analytic=True, nonlocal_=True))
    found, expected = band_energies(some, whole, GAMMA, 28), band_energies(*cspbi3(), GAMMA, 28)
    alone = band_energies(Hamiltonian(crystal, basis), analytic(crystal, nonlocal_=True), GAMMA, 28)
    assert torch.equal(found, alone) and float((found - expected).detach().abs().max()) > 1e-3


def test_charges_are_neutral():
    """The slaved charge makes every crystal neutral, whatever its composition."""
    kinds = ("Pb", "I", "Cs")
    values = parameters(kinds)
    values[:, 4] = torch.tensor([1.0, 0.3, 0.2])
    potential = Pseudopotential(kinds, ZeroForm(3), values, Terms(long_range=True), slaved="I")
    assert potential.charges(perovskite()).tolist() == pytest.approx([1.0, -0.4, 0.2])
    assert potential.charges().tolist() == pytest.approx([1.0, 0.3, 0.2])


MESH = torch.cartesian_prod(*[torch.linspace(-0.5, 0.5, 4, dtype=torch.float64)] * 3)


@pytest.mark.parametrize(
    "material, kind", [(zincblende, "complete"), (zincblende, "published"), (perovskite, "complete")]
)
def test_symmetry(material, kind):
    """Bands of a mesh from those of its inequivalent points, with spin-orbit coupling, and their gradient."""
    crystal = material()
    potential = analytic(crystal, spin_orbit=True, nonlocal_=True)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 1.5 if kind == "complete" else 2.5, kind))
    turns = rotations(hamiltonian.basis)
    reversal, both = reduce_points(MESH), reduce_points(MESH, turns)
    assert len(both.points) < len(reversal.points) == 32
    few = MESH if material is zincblende and kind == "complete" else MESH[::7]
    full = band_energies(hamiltonian, potential, few, 12)
    for reduced in (reduce_points(few), reduce_points(few, turns)):
        bands = band_energies(hamiltonian, potential, reduced.points, 12)[reduced.index]
        at_most("bands of equivalent k, Ha", (bands - full).detach().abs().max(), 1e-11)
    gradients = [torch.autograd.grad((e**2).sum(), list(potential.parameters()))[0] for e in (full, bands)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-9 * float(gradients[0].abs().max()))


def test_rotations():
    """24 rotations of k of zinc blende, 48 of a cubic perovskite; those that a basis does not have are left out."""
    assert len(rotations(PlaneWaves(zincblende(), 2.0))) == 24
    assert len(rotations(PlaneWaves(perovskite(), 2.0))) == 48
    published = PlaneWaves(zincblende(), 10.0, "published")
    assert published.missing and len(rotations(published)) < 24


def test_without_spglib(monkeypatch):
    monkeypatch.setitem(sys.modules, "spglib", None)
    with pytest.raises(ImportError, match=r"pip install 'fp-potential\[bands\]'"):
        rotations(PlaneWaves(zincblende(), 1.0))


def test_smooth_order():
    """Two crossing parabolas and a flat band, each twice, are told apart."""
    k = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
    bands = torch.stack([k**2 + 0.3 * k, k**2 - 0.3 * k + 0.013, 0 * k + 0.31], 1).repeat_interleave(2, 1)
    ordered, _ = bands.sort(1)
    order = order_smoothly(ordered)
    found = ordered.gather(1, order)
    first = bands[0].sort()[1]
    assert torch.allclose(found, bands[:, first], rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="come in an even number, not 5"):
        order_smoothly(bands[:, :5])


def test_order_by_overlap():
    """Free electrons keep their plane waves through crossings."""
    crystal = zincblende()
    potential = Pseudopotential(crystal.kinds, ZeroForm(2))
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 2.0))
    k = torch.tensor([[0.31, -0.17, 0.05]], dtype=torch.float64) * torch.linspace(0.2, 1.6, 15)[:, None]
    states = solve(hamiltonian, potential, k, 10)
    order = order_by_overlap(states)
    found = states.bands(potential).gather(1, order)
    first = states.vectors[0, :, :5].abs().argmax(0).repeat_interleave(2)
    vectors = hamiltonian.basis.vectors[first] + hamiltonian.cartesian(k)[:, None]
    kept = (0.5 * (vectors**2).sum(2) - found).abs().amax(0) < 1e-12
    assert bool(kept[:4].all()) and not torch.equal(order[-1], order[0])


def test_decomposition():
    """The terms add up to the bands; the kinetic one is the derivative by the mass, the others by their strength."""
    hamiltonian, potential = cspbi3()
    states = solve(hamiltonian, potential, torch.cat([L, GENERAL]), 26)
    terms, bands = decompose(states, potential), states.bands(potential)
    at_most("sum of the terms of a band, Ha", (terms.total - bands).detach().abs().max(), 1e-12)
    strength = potential.parameters_by_species
    (gradient,) = torch.autograd.grad(bands.sum(), strength)
    for part, slots in ((terms.spin_orbit, [5]), (terms.nonlocal_, [6, 7])):
        expected = float((gradient * strength)[:, slots].sum().detach())
        assert float(part.sum()) == pytest.approx(expected, rel=1e-10)


def test_charge_density(tmp_path):
    """The valence charge of CdSe: eight electrons, all symmetries, most of it near Se; read back from files."""
    hamiltonian, potential = cdse()
    k = torch.cat([GENERAL @ turn.to(torch.float64).T for turn in rotations(hamiltonian.basis)])
    density = charge_density(solve(hamiltonian, potential, k, 8), torch.ones(8))
    assert float(density.mean()) * hamiltonian.crystal.volume == pytest.approx(8.0, abs=1e-10)
    assert torch.allclose(density, density.permute(1, 2, 0), rtol=0, atol=1e-12)
    grid = charge_density(solve(hamiltonian, potential, GAMMA, 8), torch.ones(8), shape=(24, 24, 24))
    assert float(grid[21, 21, 21]) > 3.0 * float(grid[3, 3, 3]), "Se at -1/8, Cd at +1/8"
    for ending in (".cube", ".xsf"):
        write_density(tmp_path / f"rho{ending}", hamiltonian.crystal, density)
    data, atoms = read_cube_data(tmp_path / "rho.cube")
    assert data.mean() * atoms.get_volume() / BOHR**3 == pytest.approx(8.0, rel=1e-4)
    with open(tmp_path / "rho.xsf", encoding="utf-8") as file:
        data, _, spans, _ = read_xsf(file, read_data=True)
    assert np.allclose(spans, atoms.cell, atol=1e-5) and np.array_equal(data[-1], data[0])
    assert data[:-1, :-1, :-1].mean() * atoms.get_volume() == pytest.approx(8.0, rel=1e-4)
    with pytest.raises(ValueError, match=r"written as .cube or .xsf, not 'rho.txt'"):
        write_density(tmp_path / "rho.txt", hamiltonian.crystal, density)
    with pytest.raises(ValueError, match="does not hold the waves; take at least"):
        charge_density(solve(hamiltonian, potential, GAMMA, 8), torch.ones(8), shape=(5, 5, 5))


def test_crystal_of_ase():
    """To ASE and back; a strained crystal remembers the volume that it had."""
    crystal = perovskite()
    again = Crystal.from_ase(crystal.to_ase())
    assert torch.allclose(again.cell, crystal.cell) and again.species == crystal.species
    assert torch.allclose(again.positions, crystal.positions, atol=1e-14)
    strained = crystal.scaled(1.01).strained(np.diag([1.0, 1.0, 1.02]))
    assert strained.volume_ratio == pytest.approx(1.01**3 * 1.02) and crystal.volume_ratio == 1.0
    atoms = crystal.to_ase()
    atoms.pbc = (True, True, False)
    with pytest.raises(ValueError, match="periodic in three directions"):
        Crystal.from_ase(atoms)


def test_points_of_the_same_cell():
    """X and its image by a rotation have the same bands."""
    hamiltonian, _ = cdse()
    reduced = reduce_points(torch.cat([X, X[:, [1, 0, 2]], -X]), rotations(hamiltonian.basis))
    assert reduced.index.tolist() == [0, 0, 0]
