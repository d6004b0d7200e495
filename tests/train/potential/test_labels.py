"""Labels of potentials, polarizabilities, Born charges and molecules from files to tensors."""

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.data.prepared_writer import prepare
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, Keys
from fp_potential.train.potential.samples import batch_samples, make_samples
from fp_potential.train.potential.statistics import collect
from rich.console import Console

from fp_potential.periodicity import open_axes
from structures import ELEMENTS, salt_water_box, water_cluster
from training_data import write_frames

KEYS = Keys(
    forces="F",
    electrostatic_potentials="v",
    polarizability="alpha",
    born_charges="bec",
    molecules="molID",
    fragments="part",
    dipole="D",
)

#: labels of ``KEYS`` that a file need not have
ABSENT = ("electrostatic_potentials", "polarizability", "born_charges", "dipole")


def read(folder, content: list[Atoms]):
    return read_frames([str(write_frames(folder / "a.xyz", content))], KEYS, demanded=[])


def test_shapes_and_order(tmp_path) -> None:
    rng = np.random.default_rng(1)
    six, nine, box = water_cluster(1), water_cluster(1, seed=2), salt_water_box()
    six.info["alpha"] = np.arange(1.0, 7.0)
    nine.info["alpha"] = rng.normal(size=(3, 3))
    box.info["alpha"] = rng.normal(size=9)
    for atoms in (six, nine, box):
        atoms.arrays["bec"] = rng.normal(size=(len(atoms), 9))
        atoms.arrays["v"] = rng.normal(size=len(atoms))
        atoms.arrays["F"] = rng.normal(size=(len(atoms), 3))
    six.arrays["molID"] = np.array([7, 7, 9])
    frames = read(tmp_path, [six, nine, box])
    assert np.array_equal(frames[0].labels["polarizability"], [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    batch = batch_samples(make_samples(frames, ELEMENTS, 3.0, torch.float64), [0, 1, 2])
    labels = batch.labels
    assert np.allclose(labels.polarizability[1], nine.info["alpha"])
    assert np.allclose(labels.born_charges[:3].reshape(3, 9), six.arrays["bec"])
    # position first: column 1 is the dipole along y by the position along x
    assert labels.born_charges[0, 0, 1].item() == pytest.approx(six.arrays["bec"][0, 1])
    assert np.allclose(labels.potentials, np.concatenate([a.arrays["v"] for a in (six, nine, box)]))
    # a dipole along periodic axes is not defined
    assert labels.polarizability_weight[:2].all() and not labels.polarizability_weight[2].any()
    assert labels.born_charges_weight[:6].all() and not labels.born_charges_weight[6:].any()
    assert labels.molecules[:3].tolist() == [7, 7, 9] and labels.molecules.dtype == torch.int64
    assert labels.molecules_weight.tolist() == [1, 0, 0]


def test_missing_ones_have_no_weight(tmp_path) -> None:
    with_nan, without = water_cluster(1), water_cluster(1, seed=2)
    with_nan.arrays["v"] = np.full(3, np.nan)
    with_nan.arrays["molID"] = np.zeros(3, dtype=int)  # but no forces
    with_nan.arrays["bec"] = np.ones((3, 9))
    labels = batch_samples(
        make_samples(read(tmp_path, [with_nan, without]), ELEMENTS, 3.0, torch.float32), [0, 1]
    ).labels
    assert not labels.potentials_weight.any() and not labels.molecules_weight.any()
    assert not labels.polarizability_weight.any()
    assert labels.born_charges_weight[:3].all() and not labels.born_charges_weight[3:].any()
    assert all(part.isfinite().all() for name, part in labels._asdict().items() if name != "fermi_level")


def test_fragments_are_given_or_molecules_or_what_bonds_connect(tmp_path) -> None:
    """The same of files and of prepared sets, which do not hold arrays that are not mapped."""
    content = [salt_water_box() for _ in range(3)]
    for number, atoms in enumerate(content):
        atoms.arrays["fragment"] = np.zeros(len(atoms), dtype=int)  # as the diagnosis reads it, but not mapped
        atoms.arrays["F"], atoms.arrays["q"] = np.zeros((20, 3)), np.zeros(20)
        atoms.info |= {"config_weight": 2.0, "config_fragments_weight": 5.0}
        atoms.info["config_atomic_multipoles_weight"] = 3.0
        if number < 2:
            atoms.arrays["molID"] = np.arange(20) // 10
        if number < 1:
            atoms.arrays["part"] = np.arange(20) // 5 + 4
    keys = KEYS.model_copy(update={"charges": "q"})
    path = write_frames(tmp_path / "a.xyz", content)
    options = DataOptions(files=[str(path)], keys=keys.model_copy(update=dict.fromkeys(ABSENT)), valid_fraction=0)
    prepare(options, 3.0, tmp_path / "set", collect, console=Console(quiet=True))
    for frames in (read_frames([str(path)], options.keys), load_data(options).train, prepared(tmp_path, options)):
        labels = batch_samples(make_samples(frames, ELEMENTS, 3.0, torch.float64), [0, 1, 2]).labels
        given, molecules, bonds = labels.fragments.split(20)
        assert given.tolist() == (np.arange(20) // 5 + 4).tolist()
        assert molecules.tolist() == (np.arange(20) // 10).tolist()
        # an ion, six molecules, an ion
        assert bonds.tolist() == [0, *(1 + k // 3 for k in range(18)), 7]
        assert labels.fragments_weight.tolist() == [30.0, 6.0, 6.0] and labels.fragments.dtype == torch.int64


def prepared(folder, options):
    return load_data(options.model_copy(update={"files": [str(folder / "set")]})).train


def test_an_axis_that_is_open_counts() -> None:
    """The dipole along the open axis of a slab is defined, and so is its response to a field along that axis."""
    slab = salt_water_box(triclinic=False)
    slab.pbc = [True, True, False]
    assert open_axes(slab.cell.array, slab.pbc).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", np.ones(5), r"'alpha' has shape \(5,\), expected \(3, 3\)"),
        ("bec", np.ones((3, 6)), r"'bec' has shape \(3, 6\), expected \(3, 3, 3\)"),
        ("v", np.ones((3, 2)), r"'v' has shape \(3, 2\), expected \(3,\)"),
        ("molID", np.array([0.0, 0.5, 1.0]), r"'molID' \(data\.keys\.molecules\) must hold whole numbers"),
        ("part", np.array([0.0, 0.5, 1.0]), r"'part' \(data\.keys\.fragments\) must hold whole numbers"),
        ("bec", np.array([[np.nan] * 9, [1.0] * 9, [1.0] * 9]), r"'bec' is not finite"),
    ],
)
def test_what_is_wrong_is_named_with_its_frame(tmp_path, name, value, message) -> None:
    atoms = water_cluster(1)
    (atoms.info if name == "alpha" else atoms.arrays)[name] = value
    with pytest.raises(InputError, match=rf"a\.xyz, frame 0: {message}"):
        read(tmp_path, [atoms])
