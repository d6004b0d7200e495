"""Periodicity, density and labels that contradict each other."""

from pathlib import Path

import numpy as np
import pytest
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.data.structure_files import structures
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, Keys

from training_data import KEYS, write_frames


def load(path, keys=KEYS, **options):
    return load_data(DataOptions(files=str(path), keys=Keys(**keys), **options))


def warnings(data):
    return [note for note in data.notes if note.startswith("WARNING")]


@pytest.mark.parametrize(
    ("pbc", "accepted"),
    [
        ((True, True, True), True),
        ((False, False, False), True),
        ((True, True, False), True),
        ((False, True, True), False),
        ((False, True, False), True),
        ((True, False, False), True),
    ],
)
def test_patterns_of_periodic_axes(tmp_path, fresh, pbc, accepted):
    """Every one, as long as its periodic vectors are independent; those of open axes may be zero."""
    fresh[9].pbc = pbc
    fresh[9].cell[2] = 0.0 if accepted and not pbc[2] else fresh[9].cell[2 if accepted else 1]
    path = write_frames(tmp_path / "a.xyz", fresh)
    if accepted:
        assert next(f for f in load(path).train if f.source.endswith("frame 9")).atoms.pbc.tolist() == list(pbc)
        return
    for options in ({}, {"override_pbc_checks": True}):
        with pytest.raises(InputError, match=r"a\.xyz, frame 9: `cell` of a periodic structure has no area"):
            load(path, **options)


def test_cell_without_volume(tmp_path, fresh):
    fresh[9].cell[2] = fresh[9].cell[1]
    with pytest.raises(InputError, match=r"frame 9: `cell` of a periodic structure has no volume.*\(pbc = T T T\)"):
        load(write_frames(tmp_path / "a.xyz", fresh))


def test_field_along_a_periodic_vector(tmp_path, fresh):
    """A slab may be in a field that is perpendicular to its vectors, wherever they point."""
    slab = fresh[9]
    slab.pbc, slab.cell[1] = (True, True, False), [0.0, 5.0, 1.0]
    slab.info["external_field"] = np.array([0.0, -0.02, 0.1])
    assert len(load(write_frames(tmp_path / "a.xyz", fresh)).train)
    slab.info["external_field"] = np.array([0.0, 0.0, 0.1])
    with pytest.raises(InputError, match="frame 9: 'external_field' has a component along a periodic axis"):
        load(write_frames(tmp_path / "b.xyz", fresh))


def test_only_boxes_are_checked_for_their_density(tmp_path, fresh):
    """Vacuum in the cell of a slab means nothing."""
    fresh[9].pbc, fresh[9].cell[2] = (True, True, False), [0.0, 0.0, 500.0]
    assert len(load(write_frames(tmp_path / "a.xyz", fresh)).train)


def test_molecule_in_a_periodic_box(tmp_path, fresh):
    fresh[0].set_cell([12.0, 12.0, 12.0])
    path = write_frames(tmp_path / "open.xyz", fresh)
    assert len(load(path).train)  # the cell of an open frame is not used
    fresh[0].pbc = True
    path = write_frames(tmp_path / "a.xyz", fresh)
    message = (
        r"a\.xyz, frame 0: pbc = T T T with 576\.0 Å³ per atom, more than "
        r"data\.low_density_pbc_max_volume_per_atom = 100"
        ".*pbc to F F F.*allow_low_density_pbc: true"
    )
    with pytest.raises(InputError, match=message):
        load(path)
    with pytest.raises(InputError, match="volume_per_atom = 575"):
        load(path, low_density_pbc_max_volume_per_atom=575.0)
    for options in (
        {"allow_low_density_pbc": True},
        {"override_pbc_checks": True},
        {"low_density_pbc_max_volume_per_atom": 577.0},
    ):
        assert len(load(path, **options).train)
    assert len(read_frames([str(path)], Keys(**KEYS))) == 11  # evaluation takes what there is


def test_good_data_give_no_warning(tmp_path, fresh):
    assert warnings(load(write_frames(tmp_path / "a.xyz", fresh))) == []


def test_charges_that_do_not_add_up(tmp_path, fresh):
    fresh[1].info["total_charge"] = 1.0
    found = warnings(load(write_frames(tmp_path / "a.xyz", fresh)))
    assert found == [
        "WARNING: the atomic charges of 1 frames do not add up to their total charge, by up to 1 e (a.xyz, frame 1); "
        "check data.keys.total_charge"
    ]


def test_order_of_the_components_of_dipoles(tmp_path, fresh):
    for atoms in fresh:
        multipoles = atoms.arrays["REF_atomic_multipoles"]
        multipoles[:, 1:] = 10 * multipoles[:, [3, 1, 2]]
        total = multipoles[:, 0] @ atoms.positions + multipoles[:, 1:].sum(0)
        if not atoms.pbc.any():
            atoms.info["REF_dipole"] = total
    found = warnings(load(write_frames(tmp_path / "a.xyz", fresh)))
    assert len(found) == 1 and "only if they are ordered q, x, y, z" in found[0]


def test_stress_of_open_frames(tmp_path, fresh):
    for number in (0, 9):
        fresh[number].info["REF_stress"] = np.zeros(9)
    found = warnings(load(write_frames(tmp_path / "a.xyz", fresh), KEYS | {"stress": "REF_stress"}))
    assert found == [
        "WARNING: 1 frames with pbc = F F F, or a cell without a volume, have a stress, which is not used; are they "
        "periodic?"
    ]


@pytest.fixture(scope="module")
def in_fields():
    """Water in uniform fields E, computed with a method whose forces are those in the field."""
    path = Path(__file__).parents[3] / "examples/nacl_water/data/xtb_water_field.extxyz.gz"
    return list(structures(str(path)))[:12]


@pytest.mark.parametrize("dipoles", [True, False])
def test_sign_of_the_field(tmp_path, in_fields, dipoles):
    """The torque of the forces is dipole × E, whether the dipole is a label or the sum of atomic ones."""
    keys = KEYS if dipoles else KEYS | {"dipole": None}
    path = write_frames(tmp_path / "a.xyz", in_fields)
    assert warnings(load(path, keys)) == []
    keys = keys | {"electric_field": None, "external_field": "external_field"}
    found = warnings(load(path, keys))
    assert len(found) == 1 and "12 open frames" in found[0] and "is -1.00 ± 0.00 times dipole × E" in found[0]
    assert "the field has the other sign: 'external_field' belongs to the other one" in found[0]
    assert warnings(load(write_frames(tmp_path / "few.xyz", in_fields[:4]), keys)) == []


def test_forces_without_the_field(tmp_path, in_fields):
    content = [atoms.copy() for atoms in in_fields]
    for atoms in content:
        torque = np.cross(atoms.positions, atoms.arrays["REF_forces"]).sum(0)
        inertia = (atoms.positions**2).sum() * np.eye(3) - atoms.positions.T @ atoms.positions
        atoms.arrays["REF_forces"] -= np.cross(np.linalg.solve(inertia, torque), atoms.positions)  # no torque left
    found = warnings(load(write_frames(tmp_path / "a.xyz", content)))
    assert len(found) == 1 and "whether energies and forces are those in the field" in found[0]
    # without a weight, forces say nothing
    for atoms in content:
        atoms.info["config_forces_weight"] = 0.0
    assert warnings(load(write_frames(tmp_path / "b.xyz", content))) == []
