"""LAMMPS on 1, 2 and 4 ranks against ASE: energy, forces, virial, charges, dipoles and global values."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator
from fp_potential.export import export_model
from matrices import partly_slow
from parity import BAR, TIGHT, compare, has_empty_rank
from structures import INSULATORS, UPDATES

ATM_REAL = 68568.415  # LAMMPS' kcal/mol/Å³ in atm (nktv2p of units real)


def lattice(cell: list[list[float]], shape: tuple[int, int, int], filled: float = 1.0, seed: int = 3) -> Atoms:
    """Ions and atoms of water near the sites of a grid, up to the fraction ``filled`` of the first axis."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3) / shape
    positions = (sites * [filled, 1, 1]) @ np.array(cell) + rng.normal(0, 0.12, sites.shape) + 0.6
    n = len(sites)
    symbols = rng.permutation(["Na", "Cl"] + ["O"] * (n // 3) + ["H"] * (n - 2 - n // 3))
    return Atoms(symbols, positions=positions, cell=cell, pbc=True)


SYSTEMS = {
    # A gap along x: of four slabs the last has no atoms.
    "orthogonal": lattice([[19.0, 0, 0], [0, 7.1, 0], [0, 0, 7.4]], (6, 3, 2), filled=0.68),
    "triclinic": lattice([[19.0, 0, 0], [1.9, 7.1, 0], [-2.1, 1.3, 7.4]], (6, 3, 2), filled=0.66),
    # Shorter than the cutoff: atoms are their own neighbours, several times.
    "short": lattice([[3.7, 0, 0], [0.4, 3.5, 0], [-0.3, 0.5, 3.9]], (2, 2, 1)),
}


#: the number of ranks in every run of the tests; four ranks are among `test_mesh_ranks` then
FAST = {"short": 1, "orthogonal": 1, "triclinic": 2}
SYSTEMS_ON_RANKS = [(system, ranks) for system in SYSTEMS for ranks in (1, 2, 4)]


@pytest.mark.parametrize(
    ("system", "ranks"), partly_slow(SYSTEMS_ON_RANKS, lambda system, ranks: FAST[system] == ranks)
)
def test_same_as_ase(simulation, system, ranks):
    """Twenty steps hot enough for several new neighbour lists; four slabs leave one rank without atoms."""
    simulation.write_structure(SYSTEMS[system])
    frames, log = simulation.frames(
        ranks, f"charge 1 {TIGHT}", steps=20, setup=f"processors {ranks} 1 1", temperature=3000
    )
    assert int(re.search(r"Neighbor list builds = (\d+)", log).group(1)) >= 1
    if ranks == 4 and system != "short":
        assert has_empty_rank(log)
    calculator = FixedPointCalculator(simulation.model_file, total_charge=1.0, scf_options={"scf_tolerance": 1e-12})
    assert frames[0].global_value(6) == pytest.approx(1.0, abs=1e-10)
    for frame in frames[::4]:
        compare(frame, calculator)


def test_constant_fermi_level(simulation):
    """The energy is the grand potential and the charge follows."""
    simulation.write_structure(SYSTEMS["triclinic"])
    frames, _ = simulation.frames(2, f"fermi -1.3 {TIGHT}", steps=1)
    calculator = FixedPointCalculator(simulation.model_file, fermi_level=-1.3, scf_options={"scf_tolerance": 1e-12})
    for frame in frames:
        compare(frame, calculator)
        assert frame.global_value(5) == pytest.approx(-1.3, abs=1e-12)
        assert abs(frame.global_value(6)) > 1e-3


def test_real_units(simulation):
    """kcal/mol and atm instead of eV and bar; charges and volts stay."""
    simulation.write_structure(SYSTEMS["orthogonal"])
    metal = simulation.frames(1, f"charge 0 {TIGHT}")[0][0]
    simulation.write_structure(SYSTEMS["orthogonal"], units="real")
    real = simulation.frames(1, f"charge 0 {TIGHT}", units="real")[0][0]
    factor = 23.060549  # LAMMPS' kcal/mol per eV
    assert real.thermo["PotEng"] == pytest.approx(factor * metal.thermo["PotEng"], rel=1e-12)
    np.testing.assert_allclose(real.forces, factor * metal.forces, rtol=0, atol=1e-7)
    scale = factor * ATM_REAL / BAR
    np.testing.assert_allclose(real.pressure, scale * metal.pressure, atol=1e-6 * np.abs(scale * metal.pressure).max())
    np.testing.assert_allclose(real.charges, metal.charges, atol=1e-10)
    assert real.global_value(3) == pytest.approx(factor * metal.global_value(3), rel=1e-9)
    assert real.global_value(5) == pytest.approx(metal.global_value(5), abs=1e-10)


def test_hybrid_overlay(simulation):
    """Beside another style: energies add up; the exchange between ranks is wide enough."""
    simulation.write_structure(SYSTEMS["orthogonal"])
    alone = simulation.frames(2, f"charge 0 {TIGHT}")[0][0]
    script = """
units metal
atom_style charge
read_data system.data
pair_style hybrid/overlay zero 3.0 fixedpoint charge 0 scf_tolerance 1e-12
pair_coeff * * zero
pair_coeff * * fixedpoint model.pt O Na H Cl
thermo_modify format float %.17g
run 0
"""
    done = simulation.run_script(script, ranks=2)
    assert done.returncode == 0, done.stdout[-2000:]
    energy = float(re.search(r"^\s+0\s+\S+\s+(\S+)", done.stdout, re.M).group(1))
    assert energy == pytest.approx(alone.thermo["PotEng"], rel=1e-12)


ON_TWO = [
    (name, level)
    for name in UPDATES
    for level in ("charge 0", "fermi -1.9")
    if name != "skip path" and (level == "charge 0" or name not in INSULATORS)
]
#: every update once, charge and level in turn
IN_TURN = [pair for number, pair in enumerate(ON_TWO) if number % 4 in (0, 3)]


@pytest.mark.parametrize(("update", "level"), partly_slow(ON_TWO, lambda *pair: pair in IN_TURN))
def test_every_update_on_two_ranks(simulation_of, update, level):
    """Also with ghosts inside of the loop, and with a read-out that passes messages over densities."""
    readout = {"type": "ManyBodyChargesFieldReadout" if "many" in update else "OneBodyMLPFieldReadout"}
    options = {"fixedpoint_update_config": UPDATES[update], "field_readout_config": readout}
    run = simulation_of(3, fixedpoint_initial_charge_head_scale=0.1, **options)
    run.write_structure(SYSTEMS["triclinic"])
    frames, _ = run.frames(2, f"{level} {TIGHT}", steps=2, setup="processors 2 1 1", temperature=300)
    word, value = level.split()
    given = {"total_charge": 0.0} if word == "charge" else {"fermi_level": float(value)}
    calculator = FixedPointCalculator(run.model_file, scf_options={"scf_tolerance": 1e-12}, **given)
    for frame in frames:
        compare(frame, calculator)


HARD = [(name, 1) for name in UPDATES] + [
    (name, 0) for name in ("one-body MLP", "many-body", "symmetric", "split charge")
]
#: one that passes messages, one whose level takes Newton steps, one without dipoles
HARDEST = [("many-body", 1), ("symmetric", 1), ("one-body MLP", 0), ("split charge", 0)]


@pytest.mark.parametrize(("update", "l_max"), partly_slow(HARD, lambda *pair: pair in HARDEST))
def test_every_update_with_a_rank_without_atoms(simulation_of, update, l_max):
    """The third rank has none; densities of charges only, too."""
    options = {"atomic_multipoles_max_l": l_max, "fixedpoint_update_config": UPDATES[update]}
    run = simulation_of(3, fixedpoint_initial_charge_head_scale=0.1, **options)
    run.write_structure(SYSTEMS["triclinic"])
    frames, log = run.frames(3, f"charge 0 {TIGHT}", steps=2, setup="processors 3 1 1", temperature=300)
    assert has_empty_rank(log)
    calculator = FixedPointCalculator(run.model_file, total_charge=0.0, scf_options={"scf_tolerance": 1e-12})
    for frame in frames:
        compare(frame, calculator)


def test_three_ranks(simulation):
    """A number of ranks that is no power of two."""
    simulation.write_structure(SYSTEMS["triclinic"])
    frames, _ = simulation.frames(3, f"charge 1 {TIGHT}", steps=2, setup="processors 3 1 1", temperature=300)
    calculator = FixedPointCalculator(simulation.model_file, total_charge=1.0, scf_options={"scf_tolerance": 1e-12})
    for frame in frames:
        compare(frame, calculator)


@pytest.mark.parametrize("kspace", ["reciprocal", pytest.param("mesh", marks=pytest.mark.slow)])
def test_second_run_is_the_first_one_continued(simulation, kspace):
    """Two runs of two steps, with another charge named before a third: nothing of an earlier run stays."""
    simulation.write_structure(SYSTEMS["orthogonal"])
    frames, _ = simulation.frames(2, f"charge 0 kspace {kspace} {TIGHT}", steps=4)
    script = (simulation.folder / "in.lammps").read_text()
    style = f"pair_style fixedpoint charge 1 kspace {kspace} {TIGHT}"
    parts = f"run 2\nrun 2\n{style}\npair_coeff * * model.pt O Na H Cl\nrun 0\n"
    done = simulation.run_script(script.replace("run             4\n", parts), ranks=2)
    assert done.returncode == 0, done.stdout[-2000:]
    rows = simulation.thermo()
    assert [int(row["Step"]) for row in rows] == [0, 1, 2, 2, 3, 4, 4]
    for row, step in zip(rows[:6], (0, 1, 2, 2, 3, 4), strict=True):
        assert row["PotEng"] == pytest.approx(frames[step].thermo["PotEng"], rel=1e-11)
    assert rows[6]["c_fp[6]"] == pytest.approx(1.0, abs=1e-10)
    atoms = frames[4].atoms()
    calculator = FixedPointCalculator(
        simulation.model_file, total_charge=1.0, kspace=kspace, scf_options={"scf_tolerance": 1e-12}
    )
    assert rows[6]["PotEng"] == pytest.approx(calculator.get_potential_energy(atoms), rel=1e-9)


def test_single_precision(simulation, model, tmp_path):
    """An archive in float32 gives the forces of the double one to single precision, on two ranks."""
    simulation.write_structure(SYSTEMS["triclinic"])
    double = simulation.frames(2, "charge 1", setup="processors 2 1 1")[0][0]
    (tmp_path / "model.pt").unlink()
    export_model(copy.deepcopy(model).to(torch.float32), tmp_path / "model.pt")
    single = simulation.frames(2, "charge 1", setup="processors 2 1 1")[0][0]
    error = np.abs(single.forces - double.forces).max()
    assert 1e-9 < error < 1e-4 * max(1.0, np.abs(double.forces).max())
    assert np.abs(single.charges - double.charges).max() < 1e-5
    assert single.global_value(6) == pytest.approx(1.0, abs=1e-5)
