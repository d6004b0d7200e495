"""Bands against files and figures of other programs: the published code, and one written from the equations."""

import numpy as np
import pytest
import torch

from bands.materials import DATA, GAMMA, L, analytic, zincblende
from figures import at_most
from fp_potential.bands import HARTREE, Hamiltonian, PlaneWaves, band_energies

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published bundles are not beside this checkout")


def bands(crystal, k, n_bands, max_ke, kind="complete", **terms):
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, max_ke, kind))
    return HARTREE * band_energies(hamiltonian, analytic(crystal, **terms), k, n_bands).detach()


def test_local_form():
    """v(q) of Cd and Se at q = 0, 1, 2, 3, from the closed form."""
    v = analytic(zincblende()).local(torch.arange(4.0, dtype=torch.float64)).detach().T
    expected = [[-41.598315, -9.678651, 2.081434, 0.001545], [-102.643541, -32.415667, -0.756304, 1.657081]]
    assert float((v - torch.tensor(expected, dtype=torch.float64)).abs().max()) < 6e-7


def test_number_of_plane_waves():
    crystal = zincblende()
    assert [len(PlaneWaves(crystal, max_ke)) for max_ke in (5, 6, 8, 10)] == [181, 259, 411, 537]
    published = PlaneWaves(crystal, 10, "published")
    assert (len(published), published.missing) == (453, 84)


def test_cdse():
    """Gamma and L at cutoff 10."""
    gamma, ell = bands(zincblende(), torch.cat([GAMMA, L]), 10, 10.0)
    assert gamma[[0, 6, 8]].tolist() == pytest.approx([-20.18939, -6.31265, -4.42047], abs=6e-6)
    assert ell[[0, 2, 4, 8]].tolist() == pytest.approx([-19.95649, -9.00773, -6.65546, -2.24968], abs=6e-6)


@needs_data
def test_cdse_file():
    """Every fourth of the 61 k and all 16 bands of the shipped file, with the published basis."""
    reference = np.loadtxt(DATA / "zbCdSe/expBandStruct_0.par")[::4, 1:]
    k = torch.from_numpy(np.loadtxt(DATA / "zbCdSe/kpoints_0.par")[::4, :3])
    found = bands(zincblende(), k, 16, 10.0, "published").numpy()
    at_most("bands of CdSe against the published file, eV", np.abs(found - reference).max(), 1e-8)
