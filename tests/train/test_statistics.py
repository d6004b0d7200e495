"""Constants of the model from the training set."""

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.config import Keys, StatisticsOptions
from fp_potential.train.data import batches, make_samples
from fp_potential.train.errors import InputError
from fp_potential.train.frames import Frame, read_frames
from fp_potential.train.statistics import (
    atomic_energies,
    average_neighbours,
    density_scaling,
    elements_of,
    field_feature_norms,
    mean_fermi_level,
    minimum_distances,
)

from structures import ELEMENTS, make_model
from training_data import KEYS, write_frames


def frame(symbols: str, energy: float | None, charge: float = 0.0) -> Frame:
    labels = {"energy": energy, "fermi_level": None}
    return Frame(Atoms(symbols), "made up", "kind", charge, np.zeros(3), labels, {"fermi_level": 1.0})


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = write_frames(tmp_path_factory.mktemp("data") / "a.xyz")
    return read_frames([str(path)], Keys(**KEYS))


def test_least_squares_recovers_additive_energies():
    exact = {1: -13.5, 8: -2040.0}
    content = [frame(s, sum(exact[z] for z in Atoms(s).numbers)) for s in ("H2O", "H2", "O2", "H2O2")]
    found = atomic_energies(content, [1, 8], StatisticsOptions())
    assert found == pytest.approx(exact)


def test_least_squares_without_enough_compositions_still_adds_up():
    found = atomic_energies([frame("H2O", -30.0), frame("H4O2", -60.0)], [1, 8], StatisticsOptions())
    assert 2 * found[1] + found[8] == pytest.approx(-30.0)


def test_frames_without_energy_do_not_count():
    found = atomic_energies([frame("H2", -4.0), frame("H2", None)], [1], StatisticsOptions())
    assert found == pytest.approx({1: -2.0})


def test_isolated_atoms_must_be_neutral_and_complete():
    options = StatisticsOptions(E0s="isolated_atoms")
    content = [frame("H", -13.0), frame("O", -400.0), frame("O", -390.0, charge=1.0), frame("H2O", 0.0)]
    assert atomic_energies(content, [1, 8], options) == {1: -13.0, 8: -400.0}
    with pytest.raises(InputError, match="no frame with one neutral atom of Na"):
        atomic_energies(content, [1, 8, 11], options)


def test_given_energies_by_symbol_or_number():
    options = StatisticsOptions(E0s={"H": -13.0, 8: -400.0})
    assert atomic_energies([], [1, 8], options) == {1: -13.0, 8: -400.0}
    with pytest.raises(InputError, match="no energy for Cl"):
        atomic_energies([], [1, 17], options)
    with pytest.raises(InputError, match="'Hx' is not an element"):
        atomic_energies([], [1], StatisticsOptions(E0s={"Hx": 1.0}))


def test_no_energies_at_all():
    with pytest.raises(InputError, match="needs energies"):
        atomic_energies([frame("H2", None)], [1], StatisticsOptions())


def test_elements_neighbours_and_level(read):
    assert elements_of(read) == ELEMENTS
    samples = make_samples(read, ELEMENTS, 4.0, torch.float64)
    edges = sum(sample.graph.edge_index.shape[1] for sample in samples)
    assert average_neighbours(samples) == pytest.approx(edges / sum(len(f.atoms) for f in read))
    assert mean_fermi_level(read) == pytest.approx(np.mean([f.labels["fermi_level"] for f in read]))
    assert mean_fermi_level([frame("H", 0.0)]) == 0.0


def test_norms_are_rms_of_the_features(read):
    model = make_model()
    samples = make_samples(read, ELEMENTS, model.cutoff, torch.float64)
    norms = field_feature_norms(model.field_features, batches(samples, 4), -2.0)
    features = []
    for sample in samples:
        level = sample.labels.fermi_level + 2.0
        features.append(model.field_features(sample.graph, sample.labels.multipoles, level).detach())
    v = torch.cat(features)
    expected = [v[:, n, 0].square().mean().sqrt() for n in range(2)]
    expected += [v[:, n, 1:].square().mean().sqrt() for n in range(2)]
    assert norms == pytest.approx([x.item() for x in expected], rel=1e-12)


def test_norms_do_not_change_with_the_zero_of_the_level(read):
    model = make_model()
    samples = make_samples(read, ELEMENTS, model.cutoff, torch.float64)
    plain = field_feature_norms(model.field_features, batches(samples, 4), -2.0)
    shifted = [s._replace(labels=s.labels._replace(fermi_level=s.labels.fermi_level + 3.0)) for s in samples]
    assert field_feature_norms(model.field_features, batches(shifted, 4), 1.0) == pytest.approx(plain, rel=1e-12)


def test_norms_ignore_frames_without_multipoles(read):
    model = make_model()
    samples = make_samples(read, ELEMENTS, model.cutoff, torch.float64)
    blank = samples[0].labels
    blank = blank._replace(multipoles=0 * blank.multipoles, multipoles_weight=0 * blank.multipoles_weight)
    with_blank = [samples[0]._replace(labels=blank), *samples[1:]]
    expected = field_feature_norms(model.field_features, batches(samples[1:], 4), 0.0)
    assert field_feature_norms(model.field_features, batches(with_blank, 4), 0.0) == pytest.approx(expected)
    with pytest.raises(InputError, match="needs atomic multipoles"):
        field_feature_norms(model.field_features, batches(with_blank[:1], 4), 0.0)


def test_minimum_distances_are_those_of_ase(read):
    cutoff = 3.0
    found = np.array(minimum_distances(make_samples(read, ELEMENTS, cutoff, torch.float64), len(ELEMENTS)))
    expected = np.full((len(ELEMENTS), len(ELEMENTS)), np.inf)
    for item in read:
        atoms = item.atoms.repeat(2) if item.atoms.pbc.any() else item.atoms
        distance = atoms.get_all_distances(mic=atoms.pbc.any())
        np.fill_diagonal(distance, np.inf)
        kind = [ELEMENTS.index(z) for z in atoms.numbers]
        np.minimum.at(expected, np.ix_(kind, kind), distance)
    known = expected < cutoff
    assert known.any()
    np.testing.assert_allclose(found[known], expected[known], atol=1e-10)
    assert (found[~known] == 0).all()


def test_density_scaling_is_the_rms_of_an_element(read):
    samples = make_samples(read, ELEMENTS, 3.0, torch.float64)
    data = list(batches(samples, 4))
    found = density_scaling("average", data, ELEMENTS)
    for element in ELEMENTS:
        rows = [f.labels["atomic_multipoles"][f.atoms.numbers == element] for f in read]
        assert found[element] == pytest.approx(np.sqrt(np.mean(np.concatenate(rows) ** 2)), rel=1e-12)
    assert density_scaling({"H": 1.0, "8": 2.0, "Na": 3.0, "Cl": 4.0}, data, ELEMENTS)[8] == 2.0
    assert density_scaling(None, data, ELEMENTS) == {}
    with pytest.raises(InputError, match="no scale for O, Na, Cl"):
        density_scaling({"H": 1.0}, data, ELEMENTS)
