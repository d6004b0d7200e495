"""The terms of the loss against their formulas written out, and labels that are missing."""

import itertools

import numpy as np
import pytest
import torch
from fp_potential.train.config import Keys, LossWeights
from fp_potential.train.data import batch_samples, make_samples
from fp_potential.train.frames import read_frames
from fp_potential.train.losses import LOSSES, weighted_loss

from structures import ELEMENTS
from training_data import KEYS, frames, write_frames


def make_batch(folder, change=None):
    content = frames()
    if change is not None:
        change(content)
    keys = Keys(**KEYS, stress="REF_stress") if "REF_stress" in content[8].info else Keys(**KEYS)
    read = read_frames([str(write_frames(folder / "a.xyz", content))], keys)
    return batch_samples(make_samples(read, ELEMENTS, 4.0, torch.float64), [0, 1, 8]), read


@pytest.fixture
def output():
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    atoms = 3 + 6 + 20
    return {
        "energy": draw(3),
        "forces": draw(atoms, 3),
        "stress": draw(3, 3, 3),
        "density": draw(atoms, 4),
        "dipole": draw(3, 3),
        "fermi_level": draw(3),
    }


def test_every_term_has_a_weight():
    assert set(LOSSES) == set(LossWeights.model_fields)


def test_formulas(tmp_path, output):
    batch, read = make_batch(tmp_path)
    chosen = [read[index] for index in (0, 1, 8)]
    sizes = np.array([len(frame.atoms) for frame in chosen])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    value = {name: part.numpy() for name, part in output.items()}

    def stacked(name):
        return np.concatenate([frame.labels[name] for frame in chosen])

    energy = np.array([frame.labels["energy"] for frame in chosen])
    level = np.array([frame.labels["fermi_level"] for frame in chosen])
    charge = np.array([value["density"][a:b, 0].sum() for a, b in itertools.pairwise(starts)])
    dipole = np.stack([frame.labels["dipole"] for frame in chosen[:2]])
    dipole_error = np.zeros((3, 3))
    dipole_error[:2] = value["dipole"][:2] - dipole  # the box is periodic: nothing
    expected = {
        "energy_per_atom": np.mean(((value["energy"] - energy) / sizes) ** 2),
        "forces": np.mean((value["forces"] - stacked("forces")) ** 2),
        "atomic_multipoles": np.mean((value["density"] - stacked("atomic_multipoles")) ** 2),
        "total_charge": np.mean(charge**2),
        "total_charge_per_atom": np.mean((charge / sizes) ** 2),
        "dipole": np.mean(dipole_error**2),
        "dipole_per_atom": np.mean((dipole_error / sizes[:, None]) ** 2),
        "fermi_level": np.mean((value["fermi_level"] - level) ** 2),
        "fermi_level_per_atom": np.mean(((value["fermi_level"] - level) / sizes) ** 2),
        "stress": 0.0,
    }
    for name, number in expected.items():
        assert LOSSES[name](output, batch).item() == pytest.approx(number, rel=1e-12), name
    total, terms = weighted_loss(output, batch, {"forces": 2.0, "dipole": 3.0})
    assert total.item() == pytest.approx(2 * expected["forces"] + 3 * expected["dipole"])
    assert terms["forces"].item() == pytest.approx(expected["forces"])


def test_stress(tmp_path, output):
    reference = np.diag([0.1, 0.2, 0.3])

    def add(content):
        content[8].info["REF_stress"] = reference
        content[8].info["config_stress_weight"] = 0.5

    batch, _ = make_batch(tmp_path, add)
    expected = 0.5 * np.sum((output["stress"][2].numpy() - reference) ** 2) / 27
    assert LOSSES["stress"](output, batch).item() == pytest.approx(expected)


def test_missing_labels_give_no_loss_and_no_gradient(tmp_path, output):
    def remove(content):
        for index in (0, 1, 8):
            atoms = content[index]
            for key in ("REF_energy", "REF_fermi_level", "REF_dipole"):
                atoms.info.pop(key, None)
            for key in ("REF_forces", "REF_atomic_multipoles"):
                del atoms.arrays[key]

    batch, _ = make_batch(tmp_path, remove)
    variables = {name: part.requires_grad_() for name, part in output.items()}
    weights = {name: 1.0 for name in LOSSES if not name.startswith("total_charge")}
    total, _ = weighted_loss(variables, batch, weights)
    total.backward()
    assert total.item() == 0.0
    assert all(part.grad is None or not part.grad.any() for part in variables.values())
    assert all(part.grad is None or part.grad.isfinite().all() for part in variables.values())


def test_weights_of_a_frame_scale_its_terms(tmp_path, output):
    def weigh(content):
        for index in (0, 1, 8):
            content[index].info["config_weight"] = 4.0

    plain, _ = make_batch(tmp_path)
    weighted, _ = make_batch(tmp_path, weigh)
    for name in LOSSES:
        assert LOSSES[name](output, weighted).item() == pytest.approx(4 * LOSSES[name](output, plain).item())
