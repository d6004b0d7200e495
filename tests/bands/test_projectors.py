"""Spin-orbit and non-local terms against the integrals of their definition."""

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn

from bands.materials import GENERAL, L, analytic, perovskite
from figures import at_most
from fp_potential.bands import HARTREE, Hamiltonian, PlaneWaves, band_energies
from fp_potential.bands.projectors import bessel_over_power, radial_functions

WIDTHS = [lambda r: np.exp(-((r / 0.7) ** 2)), lambda r: np.exp(-(r**2)), lambda r: np.exp(-((r - 1.5) ** 2))]


def radial_integrals(k):
    """I_c(K, K') by 400 points up to 9 Bohr and SciPy's Bessel functions, ``(3, n, n)``."""
    x, w = np.polynomial.legendre.leggauss(400)
    r, w = 4.5 * (x + 1.0), 4.5 * w
    j = spherical_jn(1, np.multiply.outer(k, r))
    return np.stack([(j * (w * r**2 * width(r))) @ j.T for width in WIDTHS])


@pytest.mark.parametrize("order", range(5))
def test_bessel_functions(order):
    """Against SciPy's, whose recurrence loses digits at small arguments of higher orders."""
    x = torch.tensor([1e-3, 0.2, 1.4999, 1.5001, 4.0, 40.0], dtype=torch.float64)
    expected = spherical_jn(order, x.numpy()) / x.numpy() ** order
    assert np.abs(bessel_over_power(order, x).numpy() / expected - 1.0).max() < (2e-9 if order > 1 else 1e-12)


def test_radial_functions():
    """Few functions give the integrals to rounding."""
    radial, k = radial_functions(6), torch.linspace(0.0, 6.0, 37, dtype=torch.float64)
    functions = radial(k) * k.unsqueeze(1)
    found = torch.einsum("km,cmn,ln->ckl", functions, radial.weights, functions).numpy()
    at_most("radial integrals", np.abs(found - radial_integrals(k.numpy())), 1e-13)
    assert len(radial) < 30


def test_derivatives_of_radial_functions():
    """First and second derivatives by K² against differences."""
    radial, x, h = radial_functions(6), torch.linspace(0.5, 30.0, 20, dtype=torch.float64), 1e-3
    for order in (1, 2):
        up, down = radial((x + h).sqrt(), order - 1), radial((x - h).sqrt(), order - 1)
        assert float(((up - down) / (2.0 * h) - radial(x.sqrt(), order)).abs().max()) < 1e-6


def test_matrix():
    """H of CsPbI3 against a sum over pairs of waves, element by element: sizes, signs and Hermiticity."""
    crystal, potential = perovskite(), analytic(perovskite(), spin_orbit=True, nonlocal_=True)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 1.0))
    found = hamiltonian.matrix(GENERAL, potential)[0].detach()
    at_most("Hermiticity of H with spin-orbit", float((found - found.conj().T).abs().max()), 1e-14)
    g = hamiltonian.basis.vectors.numpy()
    k = g + hamiltonian.cartesian(GENERAL[0]).numpy()
    n, size, q = len(g), np.linalg.norm(k, axis=1), g[:, None] - g[None]
    v = potential.local(torch.from_numpy(np.linalg.norm(q, axis=2).reshape(-1))).detach().numpy().reshape(n, n, -1)
    sizes, index = np.unique(size.round(12), return_inverse=True)
    integrals = radial_integrals(sizes)[:, index][:, :, index] * 12.0 * np.pi / np.outer(size, size)
    sigma = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    cross = np.cross(k[:, None], k[None])
    expected = np.einsum("gh,st->gsht", np.diag(0.5 * size**2), np.eye(2)).astype(complex)
    for kind, tau in zip(crystal.species, crystal.positions.numpy() @ crystal.cell.numpy()):
        row = potential.species.index(kind)
        _, _, _, _, _, a5, a6, a7, _ = potential.parameters_by_species.detach()[row].numpy()
        phase = np.exp(1j * q @ tau) / crystal.volume
        scalar = v[:, :, row] + k @ k.T * (a6 * integrals[1] + a7 * integrals[2])
        expected += np.einsum("gh,gh,st->gsht", phase, scalar, np.eye(2))
        expected += np.einsum("gh,ghi,ist->gsht", phase * a5 * integrals[0], -0.5j * cross, sigma)
    at_most("H of CsPbI3, element by element", np.abs(found.numpy() - expected.reshape(2 * n, 2 * n)), 1e-13)


@pytest.mark.parametrize("max_ke, gap, gap_without", [(2.0, 2.07909, 3.21458), (3.0, 1.80082, 3.15411)])
def test_gap_of_perovskite(max_ke, gap, gap_without):
    """The gap of CsPbI3 at R with and without spin-orbit coupling, from an independent program, eV."""
    crystal = perovskite()
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, max_ke))
    for spin_orbit, expected in ((True, gap), (False, gap_without)):
        potential = analytic(crystal, spin_orbit=spin_orbit, nonlocal_=True)
        energies = HARTREE * band_energies(hamiltonian, potential, L, 28).detach()[0]
        assert float(energies[26] - energies[25]) == pytest.approx(expected, abs=6e-6)


def test_cache():
    """Projectors of the k-points seen are kept, and give the same bands."""
    crystal = perovskite()
    potential = analytic(crystal, spin_orbit=True, nonlocal_=True)
    basis = PlaneWaves(crystal, 1.0)
    kept, made = Hamiltonian(crystal, basis, cache=True), Hamiltonian(crystal, basis)
    k = torch.cat([L, GENERAL])
    first, again = (band_energies(kept, potential, k, 8) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(first, band_energies(made, potential, k, 8))
    assert len(kept._cached) == 2 and not made._cached


def test_distant_point():
    """k beyond the range of the radial functions is refused; corners of the first zone, and twice those, are in it."""
    crystal = perovskite()
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 1.0))
    potential = analytic(crystal, spin_orbit=True)
    band_energies(hamiltonian, potential, torch.cat([-L, 2 * L]), 4)
    with pytest.raises(ValueError, match="take the point of the first zone"):
        band_energies(hamiltonian, potential, L + 5.0, 4)
