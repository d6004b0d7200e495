"""Open axes in LAMMPS against ASE: slabs, wires and clusters, shrink-wrapped boxes, electric fields, a jellium."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator
from matrices import partly_slow
from parity import TIGHT, compare, has_empty_rank

#: boundary, cell: open axes have vacuum, tilts are those LAMMPS allows (the second axis of a tilt is periodic)
PATTERNS = {
    "slab": ("p p f", [[7.1, 0, 0], [1.2, 6.8, 0], [0, 0, 13.0]]),
    "tilted slab across x": ("f p p", [[13.0, 0, 0], [0.9, 6.8, 0], [-0.7, 1.1, 7.2]]),
    "slab across y": ("p f p", [[7.1, 0, 0], [0, 13.0, 0], [1.3, -0.8, 7.2]]),
    "wire along x": ("p f f", [[7.1, 0, 0], [0, 12.0, 0], [0, 0, 13.0]]),
    "tilted wire along z": ("f f p", [[13.0, 0, 0], [0, 12.0, 0], [1.4, -0.9, 7.2]]),
    "cluster": ("f f f", [[13.0, 0, 0], [0, 12.0, 0], [0, 0, 14.0]]),
}
SLAB, WIRE, CLUSTER = "slab", "wire along x", "cluster"

READ_SLAB = """
units metal
atom_style charge
boundary p p f
read_data system.data
"""


def periodic(boundary: str) -> list[bool]:
    return [letter == "p" for letter in boundary.split()]


def ions(pattern: str, seed: int = 4) -> Atoms:
    """Ions and atoms of water about the middle of the box."""
    boundary, cell = PATTERNS[pattern]
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(range(2), range(3), range(2), indexing="ij"), -1).reshape(-1, 3)
    scaled = sites / [2, 3, 2] + 0.1
    extent = np.where(periodic(boundary), 1.0, 6.5 / np.diag(cell))
    scaled = scaled * extent + np.where(periodic(boundary), 0.0, 0.5 - 0.4 * extent)
    positions = scaled @ np.array(cell) + rng.normal(0, 0.12, sites.shape)
    symbols = rng.permutation(["Na", "Cl"] + ["O"] * 4 + ["H"] * 6)
    return Atoms(symbols, positions=positions, cell=cell, pbc=periodic(boundary))


def calculator_of(simulation, **arguments) -> FixedPointCalculator:
    return FixedPointCalculator(simulation.model_file, scf_options={"scf_tolerance": 1e-12}, **arguments)


METHODS = [*((name, "auto") for name in PATTERNS), ("tilted slab across x", "mesh"), (WIRE, "mesh"), (CLUSTER, "mesh")]
#: each number of open axes once by default, and a mesh
IN_EVERY_RUN = [(SLAB, "auto"), ("tilted wire along z", "auto"), (CLUSTER, "auto"), ("tilted slab across x", "mesh")]


@pytest.mark.parametrize(("pattern", "method"), partly_slow(METHODS, lambda *pair: pair in IN_EVERY_RUN))
def test_same_as_ase(simulation, pattern, method):
    """Charged systems; atoms that leave the periodic part of the box come back, new neighbour lists included."""
    boundary = PATTERNS[pattern][0]
    simulation.write_structure(ions(pattern))
    # the field of zero puts the origin where ASE has it, and with it the points of the mesh
    frames, log = simulation.frames(
        3,
        f"charge 1 efield 0 0 0 kspace {method} {TIGHT}",
        steps=8,
        setup=f"boundary {boundary}\nprocessors 3 1 1",
        temperature=3000,
    )
    assert int(re.search(r"Neighbor list builds = (\d+)", log).group(1)) >= 1
    calculator = calculator_of(simulation, total_charge=1.0, kspace=method)
    for frame in frames[::4]:
        compare(frame, calculator, periodic(boundary))


def test_slab_at_constant_fermi_level(simulation):
    simulation.write_structure(ions(SLAB))
    frames, _ = simulation.frames(2, f"fermi -1.7 {TIGHT}", steps=1, setup="boundary p p f")
    calculator = calculator_of(simulation, fermi_level=-1.7)
    for frame in frames:
        compare(frame, calculator, [True, True, False])
        assert abs(frame.global_value(6)) > 1e-3


@pytest.mark.parametrize(
    ("pattern", "bounds", "words", "arguments"),
    [
        (SLAB, (-6.0, -2.0), "charge 1 kspace reciprocal", {"total_charge": 1.0, "kspace": "reciprocal"}),
        (SLAB, (14.0, 15.5), "fermi -1.7 kspace mesh", {"fermi_level": -1.7, "kspace": "mesh"}),
        (SLAB, (3.0, 4.0), "charge 1 efield 0 0 0.2", {"total_charge": 1.0, "electric_field": [0, 0, 0.2]}),
        pytest.param(
            "tilted slab across x",
            (-3.0, -1.0),
            "charge -1 kspace mesh",
            {"total_charge": -1.0, "kspace": "mesh"},
            marks=pytest.mark.slow,
        ),
        pytest.param("slab across y", (16.0, 18.0), "fermi -1.7", {"fermi_level": -1.7}, marks=pytest.mark.slow),
    ],
)
def test_compensating_jellium(simulation, pattern, bounds, words, arguments):
    """Of charged electrodes, over three ranks, one of them without atoms; the slab may be outside of the box."""
    boundary = PATTERNS[pattern][0]
    simulation.write_structure(ions(pattern))
    style = f"{words} jellium {bounds[0]} {bounds[1]} {TIGHT}"
    frames, log = simulation.frames(3, style, steps=4, setup=f"boundary {boundary}\nprocessors 1 1 3", temperature=3000)
    assert has_empty_rank(log)
    assert re.search(rf"compensating jellium between {bounds[0]:g} and {bounds[1]:g} A", log)
    calculator = calculator_of(simulation, compensating_jellium=True, jellium_slab_bounds=bounds, **arguments)
    for frame in frames:
        compare(frame, calculator, periodic(boundary))
        assert abs(frame.global_value(6)) > 1e-3
        np.testing.assert_allclose([frame.global_value(k) for k in (7, 8, 9)], dipole(frame), atol=1e-8)


def test_settings_of_a_later_pair_style(simulation):
    """They replace all of the earlier ones, without a second pair_coeff: slab, mesh and its accuracy."""
    simulation.write_structure(ions(SLAB))
    coeff = """pair_coeff * * model.pt O Na H Cl
compute fp all pair fixedpoint
thermo_style custom step pe c_fp[3] c_fp[5] c_fp[17]
thermo_modify format float %.17g
run 0
"""
    mesh = f"pair_style fixedpoint charge 1 jellium -4 -2 kspace mesh kspace_accuracy 1e-3 {TIGHT}\n"
    archive = f"pair_style fixedpoint charge 1 {TIGHT}\n"
    rows = []
    for commands in (f"{mesh}{coeff}{archive}run 0\n{mesh}run 0\n", archive + coeff):
        done = simulation.run_script(READ_SLAB + commands, ranks=2)
        assert done.returncode == 0, done.stdout[-2000:]
        rows.append([list(row.values()) for row in simulation.thermo()])
    (first, second, third), (fresh,) = rows
    assert abs(first[1] - second[1]) > 1e-3
    assert abs(first[4]) > 1e-6 > abs(second[4])  # net force of a mesh
    np.testing.assert_allclose(second, fresh, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(third, first, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("pattern", "field"),
    [(SLAB, (0, 0, 0.2)), (WIRE, (0, 0.1, -0.2)), (CLUSTER, (0.1, -0.15, 0.2)), ("tilted slab across x", None)],
)
def test_field(simulation, pattern, field):
    """E here, -F in the model; the origin is the middle of the box."""
    boundary, cell = PATTERNS[pattern]
    if field is None:  # along the normal of a slab whose open vector is not along it
        normal = np.cross(cell[1], cell[2])
        field = tuple(0.2 * normal / np.linalg.norm(normal))
    words = " ".join(f"{x:.17g}" for x in field)
    simulation.write_structure(ions(pattern))
    frames, _ = simulation.frames(2, f"charge 1 efield {words} {TIGHT}", steps=2, setup=f"boundary {boundary}")
    calculator = calculator_of(simulation, total_charge=1.0, electric_field=field)
    for frame in frames:
        compare(frame, calculator, periodic(boundary))
        assert frame.global_value(4) == pytest.approx(field_energy(frame, field), abs=1e-8)
        np.testing.assert_allclose([frame.global_value(k) for k in (7, 8, 9)], dipole(frame), atol=1e-8)
        assert abs(frame.global_value(4)) > 1e-2


def dipole(frame, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """sum of q r + d, as positions are written."""
    charges, dipoles = frame.table[:, 9], frame.table[:, 10:13]
    return charges @ (frame.table[:, 2:5] - np.asarray(origin)) + dipoles.sum(axis=0)


def field_energy(frame, field) -> float:
    """-E·D about the middle of the box along its open axes, where the field is not zero."""
    t = frame.thermo
    middle = 0.5 * np.array([[t["Lx"], 0, 0], [t["Xy"], t["Ly"], 0], [t["Xz"], t["Yz"], t["Lz"]]]).sum(axis=0)
    return float(-np.asarray(field) @ dipole(frame, middle))


def test_field_of_variables(simulation):
    """Evaluated every step, and in every run."""
    simulation.write_structure(ions(SLAB))
    frames, _ = simulation.frames(
        2,
        f"charge 0 efield 0 v_none v_up {TIGHT}",
        steps=2,
        setup="boundary p p f\nvariable up equal 0.1*(step+1)\nvariable none equal 0",
    )
    for k, frame in enumerate(frames):
        calculator = calculator_of(simulation, total_charge=0.0, electric_field=[0, 0, 0.1 * (k + 1)])
        compare(frame, calculator, [True, True, False])


def test_variable_that_turns_along_a_periodic_axis(simulation):
    simulation.write_structure(ions(SLAB))
    commands = """
variable e equal 0.1*step
pair_style fixedpoint efield v_e 0 0
pair_coeff * * model.pt O Na H Cl
fix 1 all nve
run 2
"""
    done = simulation.run_script(READ_SLAB + commands, ranks=2, timeout=60)
    assert done.returncode != 0
    assert "efield 0.1 0 0 has a component along the periodic axis x" in re.sub(r"\s+", " ", done.stdout)


def test_shrink_wrapped(simulation):
    """The box follows the atoms; a charged cluster in a field feels neither that nor the box it began in."""
    simulation.write_structure(ions(CLUSTER))
    fixed, _ = simulation.frames(
        1, f"charge 1 efield 0 0 0.2 field_origin 6 5 7 {TIGHT}", steps=8, setup="boundary f f f", temperature=3000
    )
    wrapped, _ = simulation.frames(
        2, f"charge 1 efield 0 0 0.2 field_origin 6 5 7 {TIGHT}", steps=8, setup="boundary s s m", temperature=3000
    )
    assert wrapped[0].thermo["Lx"] < fixed[0].thermo["Lx"]
    assert wrapped[-1].thermo["Lx"] != wrapped[0].thermo["Lx"]
    for a, b in zip(fixed, wrapped, strict=True):
        np.testing.assert_allclose(b.table, a.table, rtol=0, atol=1e-7)
        assert b.thermo["PotEng"] == pytest.approx(a.thermo["PotEng"], rel=1e-10)
        volumes = b.thermo["Volume"], a.thermo["Volume"]
        np.testing.assert_allclose(b.pressure * volumes[0], a.pressure * volumes[1], rtol=1e-7, atol=1.0)
        np.testing.assert_allclose([b.global_value(k) for k in (5, 7, 8, 9)], [a.global_value(k) for k in (5, 7, 8, 9)])


def test_origin_of_a_shrink_wrapped_box(simulation):
    """It is the middle of the first box, printed, and stays there while the box moves."""
    simulation.write_structure(ions(CLUSTER))
    style = f"charge 1 efield 0 0 0.2 {TIGHT}"
    frames, log = simulation.frames(2, style, steps=8, setup="boundary s s s", temperature=3000)
    origin = list(map(float, re.search(r"efield is zero at (\S+) (\S+) (\S+)", log).groups()))
    positions = frames[0].table[:, 2:5]
    np.testing.assert_allclose(origin, 0.5 * (positions.min(axis=0) + positions.max(axis=0)), atol=1e-3)
    for frame in frames:
        assert frame.global_value(4) == pytest.approx(-0.2 * dipole(frame, origin)[2], abs=1e-4)


def test_box_elsewhere(simulation):
    """A box that does not begin at zero: nothing changes, the origin of the field moves along."""
    style = f"charge 1 efield 0 0 0.2 {TIGHT}"
    simulation.write_structure(ions(SLAB))
    here = simulation.frames(1, style, setup="boundary p p f")[0][0]
    path = simulation.folder / "system.data"
    text = path.read_text()
    for axis, shift in zip("xyz", (-3.0, 2.0, 5.0), strict=True):
        pattern = rf"(\S+)\s+(\S+)(\s+{axis}lo)"
        text = re.sub(pattern, lambda m, d=shift: f"{float(m[1]) + d} {float(m[2]) + d}{m[3]}", text)
    header, atoms = text.split("Atoms", 1)
    title, *rows = [line for line in atoms.splitlines() if line.strip()]
    moved = [line.split() for line in rows]
    lines = [
        " ".join([*w[:3], *(f"{float(x) + d:.17g}" for x, d in zip(w[3:6], (-3.0, 2.0, 5.0), strict=True))])
        for w in moved
    ]
    path.write_text(header + "Atoms" + title + "\n\n" + "\n".join(lines) + "\n")
    there = simulation.frames(2, style, setup="boundary p p f")[0][0]
    assert there.thermo["PotEng"] == pytest.approx(here.thermo["PotEng"], rel=1e-11)
    np.testing.assert_allclose(there.forces, here.forces, rtol=0, atol=1e-9)
    np.testing.assert_allclose(there.pressure, here.pressure, rtol=1e-8, atol=1e-4)
    assert there.global_value(9) == pytest.approx(here.global_value(9) + 5.0, abs=1e-7)
