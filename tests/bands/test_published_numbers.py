"""Bands against files and figures of other programs: the published code, and one written from the equations."""

import numpy as np
import pytest
import torch

from bands.materials import DATA, FCC, GAMMA, L, analytic, perovskite, zincblende
from figures import at_most
from fp_potential.bands import (
    HARTREE,
    Crystal,
    Hamiltonian,
    PlaneWaves,
    band_energies,
)

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
    """All 61 k and 16 bands of the shipped file, with the published basis."""
    reference = np.loadtxt(DATA / "zbCdSe/expBandStruct_0.par")[:, 1:]
    k = torch.from_numpy(np.loadtxt(DATA / "zbCdSe/kpoints_0.par")[:, :3])
    found = bands(zincblende(), k, 16, 10.0, "published").numpy()
    at_most("bands of CdSe against the published file, eV", np.abs(found - reference).max(), 1e-8)


#: sums of squared errors over 61 k and 16 bands, eV², of the shipped start parameters
COSTS = {
    "published": (29.98375, 43.48196, 22.63933, 50.18619),
    "complete": (30.083, 43.236, 22.484, 50.015),
}


@needs_data
@pytest.mark.parametrize("kind", COSTS)
def test_iii_v(kind):
    """Bands of the start parameters that the published code printed, and their cost, for both bases."""
    for system, cost in enumerate(COSTS[kind]):
        crystal, k = read_system(DATA / "III-V", system)
        found = bands(crystal, k, 16, 6.0, kind).numpy()
        reference = np.loadtxt(DATA / f"III-V/expBandStruct_{system}.par")[:, 1:]
        assert float(((found - reference) ** 2).sum()) == pytest.approx(cost, abs=6e-4)
        if kind == "published":
            printed = np.loadtxt(DATA / f"III-V/published_output/oldFunc_BS_sys{system}.dat")[:, 1:]
            at_most("III-V bands against the published code's, eV", np.abs(found - printed).max(), 1e-5)


def read_system(folder, number):
    """Crystal and k-points of a bundle of zinc blende crystals."""
    lines = [line.split() for line in (folder / f"system_{number}.par").read_text().splitlines() if line.strip()]
    scale, kinds = float(lines[0][2]), (lines[-2][0], lines[-1][0])
    k = torch.from_numpy(np.loadtxt(folder / f"kpoints_{number}.par")[:, :3])
    return Crystal(scale * FCC, kinds, np.array([[0.125] * 3, [-0.125] * 3])), k


PEROVSKITE_AT_R = [-17.29593, -17.28607, -17.28599, -12.59049, -9.45248, -9.45241, -8.51006, -8.44535]
PEROVSKITE_AT_R += [-8.42598, -8.42582, -7.62677, -7.62671, -6.21432, -4.28552, -2.71141, -2.71116]


@pytest.mark.slow
def test_perovskite():
    """CsPbI3 at R, cutoff 10, with spin-orbit and non-local terms: 32 bands against an independent C program, eV."""
    found = bands(perovskite(), L, 32, 10.0, spin_orbit=True, nonlocal_=True)[0]
    expected = torch.tensor(PEROVSKITE_AT_R, dtype=torch.float64).repeat_interleave(2)
    at_most("CsPbI3 at R against a C program, eV", float((found - expected).abs().max()), 1e-5)


@needs_data
@pytest.mark.slow
def test_perovskite_file():
    """All eight k of the shipped file."""
    reference = torch.from_numpy(np.loadtxt(DATA / "CsPbI3_soc/bandStruct_0.dat")[:, 1:])
    k = torch.from_numpy(np.loadtxt(DATA / "CsPbI3_soc/kpoints_0.par")[:, :3])
    found = bands(perovskite(), k, 32, 10.0, spin_orbit=True, nonlocal_=True)
    at_most("CsPbI3 along Gamma-R against a C program, eV", float((found - reference).abs().max()), 1e-5)
