"""The mesh over ranks: everything a simulation reports is that of one rank, whatever the layout."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms

from figures import at_most
from fp_potential.export import export_model
from matrices import partly_slow
from parity import TIGHT, has_empty_rank
from structures import UPDATES

#: global values that are compared
TERMS = ("energy", "local energy", "non-local energy", "Coulomb energy", "Fermi level", "charge")
MESH = f"charge 1 kspace mesh {TIGHT}"


def scattered(cell: list[list[float]], filled: float = 1.0, seed: int = 8) -> Atoms:
    """Ions and atoms of water near grid sites, up to the fraction ``filled`` of the first vector."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(range(5), range(2), range(2), indexing="ij"), -1).reshape(-1, 3) / [5, 2, 2]
    positions = (sites * [filled, 1, 1] + 0.05) @ np.array(cell) + rng.normal(0, 0.15, sites.shape)
    symbols = rng.permutation(["Na", "Cl"] + ["O"] * 6 + ["H"] * 12)
    return Atoms(symbols, positions=positions, cell=cell, pbc=True)


SYSTEMS = {
    "orthogonal": scattered([[12.0, 0, 0], [0, 6.1, 0], [0, 0, 6.4]]),
    "triclinic": scattered([[12.0, 0, 0], [2.9, 6.1, 0], [-2.1, 1.9, 6.4]]),
    "gap": scattered([[20.0, 0, 0], [0, 6.1, 0], [0, 0, 6.4]], filled=0.55),
    "elongated": scattered([[60.0, 0, 0], [0, 20.0, 0], [0, 0, 20.0]], filled=0.25),
}


def placed(name: str, boundary: str) -> Atoms:
    """A system with room at the ends of its open axes."""
    atoms = SYSTEMS[name].copy()
    is_open = np.array([letter == "f" for letter in boundary.split()])
    atoms.cell[np.diag_indices(3)] += 4.0 * is_open
    atoms.positions += 2.0 * is_open
    return atoms


def same(frames, references) -> None:
    """Frames of two runs agree to rounding."""
    assert len(frames) == len(references) > 0
    for frame, reference in zip(frames, references, strict=True):
        assert np.array_equal(frame.table[:, 0], reference.table[:, 0])
        terms, expected = ([f.thermo["PotEng"], *map(f.global_value, (1, 2, 3, 5, 6))] for f in (frame, reference))
        for name, mine, theirs in (
            *((name, np.array(a), np.array(b)) for name, a, b in zip(TERMS, terms, expected, strict=True)),
            ("forces", frame.forces, reference.forces),
            ("virial", frame.pressure, reference.pressure),
            ("charges", frame.charges, reference.charges),
            ("multipoles and potentials", frame.table[:, 9:14], reference.table[:, 9:14]),
        ):
            scale = np.abs(theirs).max()
            at_most(f"ranks against one: {name}, relative", np.abs(mine - theirs) / scale, 1e-10)


@pytest.fixture(scope="module")
def references() -> dict[tuple, list]:
    """Frames of one rank, which several layouts are compared with."""
    return {}


@pytest.fixture
def on_one(simulation, references):
    """Runs a style on several ranks and compares with one."""

    def run(name: str, ranks: int, style: str = MESH, setup: str = "", extra: str = "", boundary: str = "p p p"):
        simulation.write_structure(placed(name, boundary))
        key = (name, style, boundary)
        boundary = f"boundary {boundary}\n"
        if key not in references:
            references[key] = simulation.frames(1, style, steps=2, setup=boundary)[0]
        frames, log = simulation.frames(ranks, style, steps=2, setup=boundary + setup, extra=extra)
        same(frames, references[key])
        return log

    return run


GRIDS = ["1 1 2", "1 3 1", "2 2 1", "2 2 2"]


@pytest.mark.parametrize("grid", partly_slow(GRIDS, lambda grid: grid in ("1 3 1", "2 2 1")))
def test_processor_grids(on_one, grid):
    on_one("triclinic", int(np.prod(list(map(int, grid.split())))), setup=f"processors {grid}")


@pytest.mark.parametrize("system", ["gap", pytest.param("elongated", marks=pytest.mark.slow)])
def test_empty_ranks(on_one, system):
    """Four slabs of the one with a gap leave a rank without atoms; the long one leaves three."""
    assert has_empty_rank(on_one(system, 4, setup="processors 4 1 1"))


@pytest.mark.parametrize(
    "balance", [pytest.param("balance 1.0 rcb", marks=pytest.mark.slow), "fix tiles all balance 1 1.0 rcb"]
)
def test_tiled_layout(on_one, balance):
    """Recursive bisection instead of bricks, before the run and with new tiles every step."""
    on_one("gap", 3, setup="comm_style tiled", extra=balance)


@pytest.mark.parametrize(
    ("boundary", "method"),
    partly_slow(
        [("p p f", "mesh"), ("f p f", "mesh"), ("f f f", "mesh"), ("p f p", "reciprocal"), ("f f f", "open")],
        lambda boundary, method: (boundary, method) in (("p p f", "mesh"), ("f f f", "open")),
    ),
)
def test_open_axes(on_one, boundary, method):
    on_one("orthogonal", 3, f"charge 1 kspace {method} {TIGHT}", "processors 1 3 1", boundary=boundary)


def test_box_that_changes(simulation):
    """The number of mesh points changes with the box, on all ranks in the same step."""
    simulation.write_structure(SYSTEMS["triclinic"])
    grow = "fix box all deform 1 x scale 1.3 z scale 0.9 xy final 1.0 remap x"
    reference = simulation.frames(1, MESH, steps=6, extra=grow)[0]
    frames = simulation.frames(4, MESH, steps=6, extra=grow, setup="processors 2 2 1")[0]
    assert frames[-1].thermo["Lx"] == pytest.approx(1.3 * frames[0].thermo["Lx"])
    same(frames, reference)


@pytest.mark.slow
def test_barostat(simulation):
    """The virial moves the box of four ranks as that of one."""
    simulation.write_structure(SYSTEMS["triclinic"])
    script = """
units metal
atom_style charge
{layout}
read_data system.data
pair_style fixedpoint {style}
pair_coeff * * model.pt O Na H Cl
velocity all create 300 5
fix 1 all npt temp 300 300 0.1 tri 0 0 0.2
thermo 1
thermo_style custom step pe press lx ly lz xy xz yz
thermo_modify format float %.17g
run 10
"""
    rows = []
    for ranks, layout in ((1, ""), (4, "processors 1 2 2")):
        done = simulation.run_script(script.format(layout=layout, style=MESH), ranks)
        assert done.returncode == 0, done.stdout[-2000:]
        rows.append(np.array([list(row.values()) for row in simulation.thermo()]))
    assert len(rows[0]) == 11
    assert np.ptp(rows[0][:, 3:], axis=0).min() > 1e-6
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-8)


@pytest.mark.parametrize(("grid", "steps"), [("2 2 1", 100), ("2 1 1", 1000)], ids=["four", "two"])
@pytest.mark.slow
def test_atoms_that_cross_all_ranks(simulation, grid, steps):
    """Two atoms fly through the domains of all ranks, which own none to three atoms."""
    atoms = Atoms("NaClO", positions=[[0.5, 0.5, 1.0], [3.0, 5.0, 2.0], [5.0, 3.0, 6.0]], cell=[9, 9, 9], pbc=True)
    simulation.write_structure(atoms)
    script = """
units metal
atom_style charge
{layout}
read_data system.data
pair_style fixedpoint charge 0 kspace mesh kspace_accuracy 1e-3 scf_tolerance 1e-12
pair_coeff * * model.pt O Na H Cl
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
group first id 1
group second id 2
fix 1 first move linear 0.013 0.011 0.0
fix 2 second move linear 0.0 -0.017 0.006
timestep {timestep}
compute fp all pair fixedpoint
variable square atom q*q
compute q all reduce sum v_square
compute virial all pressure NULL virial
thermo {every}
thermo_style custom step pe c_q c_virial[1] c_virial[2] c_virial[6] c_fp[5]
thermo_modify format float %.17g
run {steps}
"""
    rows = []
    values = {"steps": steps, "timestep": 1000 / steps, "every": steps // 50}
    for ranks, layout in ((1, ""), (int(np.prod(list(map(int, grid.split())))), f"processors {grid}")):
        done = simulation.run_script(script.format(layout=layout, **values), ranks)
        assert done.returncode == 0, done.stdout[-2000:]
        rows.append(np.array([list(row.values()) for row in simulation.thermo()]))
    assert len(rows[0]) == 51
    assert np.ptp(rows[0][:, 2]) > 1e-4
    np.testing.assert_allclose(rows[1] / np.abs(rows[0]).max(axis=0), rows[0] / np.abs(rows[0]).max(axis=0), atol=1e-10)


@pytest.mark.parametrize(
    "update",
    partly_slow(
        ["one-body MLP", "many-body", "symmetric", "split charge"],
        lambda update: update in ("many-body", "split charge"),
    ),
)
def test_every_kind_of_update(simulation_of, update):
    """Updates that read one receiver, that pass messages in every iteration, and whose level takes Newton steps."""
    run = simulation_of(3, fixedpoint_initial_charge_head_scale=0.1, fixedpoint_update_config=UPDATES[update])
    run.write_structure(SYSTEMS["triclinic"])
    reference = run.frames(1, MESH, steps=2)[0]
    same(run.frames(3, MESH, steps=2, setup="processors 3 1 1")[0], reference)


def test_loose_tolerance(simulation):
    """Loop and adjoint that end early do so at the same iterate, and its forces are the same."""
    simulation.write_structure(SYSTEMS["triclinic"])
    loose = "charge 1 kspace mesh scf_tolerance 1e-3"
    reference = simulation.frames(1, loose, steps=2)[0]
    assert all(frame.global_value(11) > 1e-9 and frame.global_value(12) > 1e-9 for frame in reference)
    same(simulation.frames(3, loose, steps=2, setup="processors 3 1 1")[0], reference)


def test_single_precision(simulation, model, tmp_path):
    """A mesh in float32 on one, two and three ranks: the forces of the double one to single precision."""
    simulation.write_structure(SYSTEMS["triclinic"])
    style = "charge 1 kspace mesh kspace_accuracy 1e-5"
    double = simulation.frames(2, style)[0][0]
    (tmp_path / "model.pt").unlink()
    export_model(copy.deepcopy(model).to(torch.float32), tmp_path / "model.pt")
    scale = np.abs(double.forces).max()
    for ranks in (1, 2, 3):
        single = simulation.frames(ranks, style, setup=f"processors {ranks} 1 1")[0][0]
        error = np.abs(single.forces - double.forces).max() / scale
        at_most("mesh in single precision over ranks, forces, relative", error, 1e-4)
        assert error > 1e-9, "the archive is in single precision"
        at_most("mesh in single precision over ranks, charges, e", np.abs(single.charges - double.charges).max(), 1e-5)


def test_net_force_is_reported_and_removed(simulation):
    """The forces of a mesh add up to what `compute pair` says, or to nothing."""
    simulation.write_structure(SYSTEMS["orthogonal"])
    loose = "charge 4 kspace mesh kspace_accuracy 5e-2 scf_tolerance 1e-12"
    kept = simulation.frames(2, loose)[0][0]
    removed = simulation.frames(2, f"{loose} kspace_net_force remove")[0][0]
    reported = np.array([kept.global_value(k) for k in (15, 16, 17)])
    assert np.abs(reported).max() > 1e-6
    np.testing.assert_allclose(kept.forces.sum(axis=0), reported, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(removed.forces.sum(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(kept.forces - removed.forces, np.tile(reported / len(kept.forces), (20, 1)), atol=1e-10)
    exact = simulation.frames(2, "charge 4 kspace reciprocal scf_tolerance 1e-12")[0][0]
    assert [abs(exact.global_value(k)) < 1e-10 for k in (15, 16, 17)] == [True] * 3
