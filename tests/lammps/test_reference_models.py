"""Known models in LAMMPS against their exact solutions, at every step of a simulation on several ranks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms

from fp_potential.export import export_model
from fp_potential.reference import ReferenceModel, SplitCharges, exact_solution
from fp_potential.units import CARTESIAN_FROM_STORED
from matrices import partly_slow
from reference.systems import make
from structures import to_graph

BAR = 1.6021765e6  # LAMMPS' eV/Å³ in bar (nktv2p of units metal)
TIGHT = "scf_tolerance 1e-12"
KINDS = ["charges", "dipoles", "both", "split charges", "mixture"]
SCRIPT = """
units metal
atom_style charge
read_data system.data
pair_style fixedpoint charge 0
pair_coeff * * model.pt O Na H Cl
timestep 0.0005
velocity all create 600 7
fix move all nve
variable total equal etotal
variable potential equal pe
fix report all print 10 "ENERGY ${total} ${potential}" screen yes
run 200
"""


@pytest.fixture(scope="module", params=partly_slow(KINDS, lambda kind: kind in ("both", "split charges")))
def known(request) -> ReferenceModel:
    # bonds long enough for the distances of `salt_and_water`
    return make(request.param, bond_stretch=4.0)


@pytest.fixture(scope="module")
def model_file(known, tmp_path_factory):
    """In place of the learned model's archive."""
    path = tmp_path_factory.mktemp("known") / "model.pt"
    export_model(known, path)
    return path


def salt_and_water() -> Atoms:
    """Ions and atoms of water near the sites of a triclinic grid."""
    rng = np.random.default_rng(8)
    cell = np.array([[14.0, 0, 0], [1.9, 7.1, 0], [-2.1, 1.3, 7.4]])
    sites = np.stack(np.meshgrid(range(5), range(3), range(3), indexing="ij"), -1).reshape(-1, 3) / [5, 3, 3]
    positions = sites @ cell + rng.normal(0, 0.1, sites.shape) + 0.5
    symbols = ["Na", "Cl"] * 6 + ["O"] * 11 + ["H"] * 22
    return Atoms(rng.permutation(symbols), positions=positions, cell=cell, pbc=True)


def compare(frame, known: ReferenceModel, constant_charge: bool, **inputs: float) -> None:
    """One frame against the exact solution of its structure."""
    atoms = frame.atoms()
    exact = exact_solution(known, to_graph(atoms, known, **inputs), constant_charge)
    assert frame.thermo["PotEng"] == pytest.approx(exact.energy.item(), rel=1e-9)
    np.testing.assert_allclose(frame.forces, exact.forces.numpy(), rtol=0, atol=1e-8)
    np.testing.assert_allclose(frame.charges, exact.density[:, 0].numpy(), rtol=0, atol=1e-9)
    dipoles = exact.density[:, 1:][:, list(CARTESIAN_FROM_STORED)].numpy()
    np.testing.assert_allclose(frame.table[:, 10:13], dipoles, rtol=0, atol=1e-9)
    stress = exact.strain_gradient.numpy() / atoms.get_volume()
    expected = -BAR * stress[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    np.testing.assert_allclose(frame.pressure, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    # where no charge answers to a level there is none
    conducts = bool((known.stiffness[:, 0] > 0).any())
    level = exact.fermi_level.item() if conducts or not constant_charge else np.nan
    assert frame.global_value(5) == pytest.approx(level, abs=1e-8, nan_ok=True)
    assert frame.global_value(6) == pytest.approx(exact.total_charge.item(), abs=1e-9)


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_dynamics_follows_the_exact_solution(simulation, known: ReferenceModel, ranks: int) -> None:
    simulation.write_structure(salt_and_water())
    frames, _ = simulation.frames(ranks, f"charge 1 {TIGHT}", steps=10, temperature=2000)
    for frame in frames:
        compare(frame, known, True, total_charge=1.0)


def test_constant_fermi_level(simulation, known: ReferenceModel) -> None:
    if isinstance(known, SplitCharges) and not known.options.metallic:
        pytest.skip("no level to hold")
    simulation.write_structure(salt_and_water())
    frames, _ = simulation.frames(2, f"fermi -5.5 {TIGHT}", steps=3)
    for frame in frames:
        compare(frame, known, False, fermi_level=-5.5)


def test_energy_is_conserved(simulation, known: ReferenceModel) -> None:
    """Two hundred steps of half a femtosecond from the local guess, at the tolerance of users."""
    simulation.write_structure(salt_and_water())
    done = simulation.run_script(SCRIPT, ranks=2)
    assert done.returncode == 0, done.stdout[-2000:]
    rows = np.array(re.findall(r"^ENERGY (\S+) (\S+)$", done.stdout, re.M), dtype=float)
    assert len(rows) == 21
    assert np.ptp(rows[:, 0]) / 45 < 2e-3
    assert np.ptp(rows[:, 1]) / 45 > 2e-3
