"""Deformation potentials and effective masses against differences of bands, and figures of an independent program."""

import pytest
import torch

from bands.materials import GAMMA, GENERAL, L, X, analytic, perovskite, zincblende
from bands.test_gradients import network, values
from figures import at_most
from fp_potential.bands import HARTREE, Hamiltonian, PlaneWaves, Pseudopotential, Terms, solve
from fp_potential.bands.derivatives import (
    deformation_potential,
    deformation_potentials,
    inverse_mass_tensor,
    inverse_masses,
    strain_derivative,
)

ALL = Terms(analytic=True, long_range=True, spin_orbit=True, nonlocal_=True, strain=True)


def everything(max_ke=2.5):
    """A crystal, already strained, with every term."""
    crystal = zincblende().scaled(1.03)
    potential = Pseudopotential(crystal.kinds, network(), values(2), ALL, slaved="Se")
    return Hamiltonian(crystal, PlaneWaves(crystal, max_ke)), potential


@pytest.mark.parametrize("ratio, vbm, cbm", [(1.0001, 5.4200, 1.2741), (1.01, 5.2886, 1.2070), (0.99, 5.5563, 1.3533)])
def test_published_form(ratio, vbm, cbm):
    """Deformation potentials of CdSe at Gamma, eV, from an independent program; its first ratio is nearly the limit."""
    hamiltonian, potential = Hamiltonian(zincblende(), PlaneWaves(zincblende(), 10.0)), analytic(zincblende())
    states = solve(hamiltonian, potential, GAMMA, 10)
    scaled = solve(hamiltonian.scaled(ratio), potential, GAMMA, 10)
    found = HARTREE * deformation_potential(states.energies, scaled.energies, ratio)[0].detach()
    assert found[[3, 4]].tolist() == pytest.approx([vbm, cbm], abs=6e-5)
    limit = HARTREE * deformation_potentials(states, potential)[0]
    assert limit[[7, 8]].tolist() == pytest.approx([5.4213, 1.2748], abs=2e-3)


def test_ratio_of_published_form():
    with pytest.raises(ValueError, match="other than 1, not 1"):
        deformation_potential(torch.ones(1), torch.ones(1), 1.0)


STRAINS = {
    "hydrostatic": torch.eye(3) / 3,
    "uniaxial": torch.diag(torch.tensor([0.0, 0.0, 1.0])),
    "shear": torch.tensor([[0.0, 0.4, 0.1], [0.4, 0.0, -0.3], [0.1, -0.3, 0.0]]),
    "general": torch.tensor([[0.3, 0.5, 0.1], [-0.2, -0.7, 0.2], [0.4, 0.0, 0.6]]),
}


def without_spin():
    """CdSe, with its threefold valence edge."""
    return Hamiltonian(zincblende(), PlaneWaves(zincblende(), 2.5)), analytic(zincblende())


@pytest.mark.parametrize("name", STRAINS)
@pytest.mark.parametrize("material, k", [(everything, GAMMA), (everything, GENERAL), (without_spin, GAMMA)])
def test_strain_derivatives(material, k, name):
    """Every term, at degenerate and other points, against differences (of the branches, where strain splits bands)."""
    hamiltonian, potential = material()
    strain = STRAINS[name].to(torch.float64)
    states = solve(hamiltonian, potential, k, 8)
    found = strain_derivative(states, potential, strain)[0]
    found = found if hamiltonian.terms_of(potential).spin_orbit else found[::2]
    one, step = torch.eye(3, dtype=torch.float64), 2e-5
    up, down = (
        solve(hamiltonian.on(hamiltonian.crystal.strained(one + sign * step * strain)), potential, k, 8).energies[0]
        for sign in (1, -1)
    )
    for group in states.group_of()[0]:
        # branches that rise with strain come in the other order below zero
        expected = (up[group] - down[group].flip(0)) / (2.0 * step)
        at_most("strain derivative of bands, Ha", (found[group] - expected).abs().max(), 1e-7)


def test_effective_masses():
    """d²E/dk² with spin-orbit and non-local terms at a general point against differences, along a general direction."""
    hamiltonian, potential = everything()
    direction = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    direction /= direction.norm()
    states = solve(hamiltonian, potential, GENERAL, 6)
    found = inverse_masses(states, potential, direction)[0]
    fractions = direction @ hamiltonian.crystal.cell.T / (2.0 * torch.pi)
    points = torch.cat([GENERAL + n * 0.003 * fractions for n in (-2, -1, 0, 1, 2)])
    e = solve(hamiltonian, potential, points, 6).energies[:, :6]
    expected = (16.0 * (e[1] + e[3]) - e[0] - e[4] - 30.0 * e[2]) / (12.0 * 0.003**2)
    at_most("1/m by k·p, relative", (found - expected).abs().max() / expected.abs().max(), 1e-6)
    tensor = inverse_mass_tensor(states, potential)[0]
    along = torch.einsum("nij,i,j->n", tensor, direction, direction)
    at_most("1/m, tensor along a direction", (along - found).abs().max() / expected.abs().max(), 1e-8)


def test_masses_of_a_degenerate_edge():
    """The three valence bands of CdSe at Gamma: heavy (twice) and light, along an axis, against differences."""
    hamiltonian, potential = Hamiltonian(zincblende(), PlaneWaves(zincblende(), 5.0)), analytic(zincblende())
    axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    fractions = axis @ hamiltonian.crystal.cell.T / (2.0 * torch.pi)
    found = inverse_masses(solve(hamiltonian, potential, GAMMA, 12), potential, axis)[0, 2:9:2]
    e = solve(hamiltonian, potential, torch.cat([GAMMA, 0.01 * fractions[None], 0.005 * fractions[None]]), 12).energies
    far, near = 2.0 * (e[1, 1:5] - e[0, 1:5]) / 1e-4, 2.0 * (e[2, 1:5] - e[0, 1:5]) / 0.25e-4
    expected = ((4.0 * near - far) / 3.0).detach()
    at_most("1/m at Gamma of CdSe", (found - expected).abs().max() / expected.abs().max(), 1e-4)
    assert float(found[3]) > 1.0 and float(found[0]) < 0.0, "an electron and holes"


def test_masses_from_iterative_states():
    """The same masses from states of the iterative solver, which knows fewer of them."""
    crystal = perovskite()
    hamiltonian, potential = (
        Hamiltonian(crystal, PlaneWaves(crystal, 1.5)),
        analytic(crystal, spin_orbit=True, nonlocal_=True),
    )
    axis = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    both = [
        inverse_masses(solve(hamiltonian, potential, L, 28, method, tolerance=1e-9), potential, axis)[0, 22:]
        for method in ("dense", "iterative")
    ]
    at_most("1/m from iterative states, relative", (both[0] - both[1]).abs().max() / both[0].abs().max(), 1e-6)


def test_conduction_edge_of_an_indirect_band():
    """At X of CdSe the conduction band has two masses, along and across."""
    hamiltonian, potential = Hamiltonian(zincblende(), PlaneWaves(zincblende(), 5.0)), analytic(zincblende())
    tensor = inverse_mass_tensor(solve(hamiltonian, potential, X, 10), potential)[0, 8]
    values = torch.linalg.eigvalsh(tensor)
    assert min(float(values[1] - values[0]), float(values[2] - values[1])) < 1e-6 < float(values[2] - values[0])
