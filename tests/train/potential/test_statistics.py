"""Constants of the model from the training set."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.data.frame import Frame
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Keys, StatisticsOptions, load_config
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.samples import batches, make_samples
from fp_potential.train.potential.scales import SMALLEST
from fp_potential.train.potential.statistics import SetStatistics, collect, field_feature_norms
from fp_potential.train.run import train
from rich.console import Console

from structures import ELEMENTS, make_model
from training_data import KEYS, frames, training_file, write_frames


def frame(symbols: str, energy: float | None, charge: float = 0.0, level: float | None = None, weight=1.0) -> Frame:
    labels = {"energy": energy, "fermi_level": level}
    atoms = Atoms(symbols, [[2.0 * number, 0, 0] for number in range(len(Atoms(symbols)))])
    weights = dict.fromkeys(labels, weight)
    return Frame(atoms, "made up", "kind", charge, np.zeros(3), labels, weights)


def energies(content, elements, options=None):
    return collect(content, 1.0).atomic_energies(elements, options or StatisticsOptions())


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = write_frames(tmp_path_factory.mktemp("data") / "a.xyz")
    return read_frames([str(path)], Keys(**KEYS))


def test_least_squares_recovers_additive_energies():
    exact = {1: -13.5, 8: -2040.0}
    content = [frame(s, sum(exact[z] for z in Atoms(s).numbers)) for s in ("H2O", "H2", "O2", "H2O2")]
    assert energies(content, [1, 8]) == pytest.approx(exact)


def test_least_squares_of_many_frames_is_that_of_all_at_once():
    """More rows than are folded at a time, with noise, so that no frame is fitted exactly."""
    rng = np.random.default_rng(4)
    content = []
    for _ in range(900):
        n = rng.integers(1, 6, size=3)
        symbols = f"H{n[0]}O{n[1]}Na{n[2]}"
        content.append(frame(symbols, float(n @ [-13.5, -2040.0, -5.0] + rng.normal())))
    found = energies(content, [1, 8, 11])
    counts = np.array([[np.sum(f.atoms.numbers == z) for z in (1, 8, 11)] for f in content], float)
    per_atom = np.array([f.labels["energy"] for f in content]) / counts.sum(1)
    mean = per_atom.mean()
    expected = mean + np.linalg.lstsq(counts / counts.sum(1)[:, None], per_atom - mean)[0]
    np.testing.assert_allclose([found[z] for z in (1, 8, 11)], expected, rtol=1e-11)


def test_least_squares_without_enough_compositions_still_adds_up():
    found = energies([frame("H2O", -30.0), frame("H4O2", -60.0)], [1, 8])
    assert 2 * found[1] + found[8] == pytest.approx(-30.0)


def test_frames_without_energy_or_weight_do_not_count():
    assert energies([frame("H2", -4.0), frame("H2", None), frame("H2", 5.0, weight=0.0)], [1]) == pytest.approx({1: -2})


def test_isolated_atoms_must_be_neutral_open_and_complete():
    options = StatisticsOptions(E0s="isolated_atoms")
    in_field = frame("O", -500.0)
    in_field.external_field = np.array([0, 0, 0.1])
    excited, weightless = frame("O", -399.0), frame("H", -13.0, weight=0.0)
    crystal, wire = frame("O", -410.0), frame("O", -405.0)
    crystal.atoms.set_cell([4.0, 4.0, 4.0])
    crystal.atoms.pbc = True
    wire.atoms.set_cell([0.0, 0.0, 4.0])
    wire.atoms.pbc = [False, False, True]
    content = [weightless, frame("O", -400.0), excited, in_field, frame("O", -450.0, charge=1.0), frame("H2O", 0.0)]
    content += [crystal, wire]
    assert energies(content, [1, 8], options) == {1: -13.0, 8: -400.0}
    with pytest.raises(InputError, match="no training frame with one neutral atom of Na"):
        energies(content, [1, 8, 11], options)


def test_given_energies_by_symbol_or_number():
    options = StatisticsOptions(E0s={"H": -13.0, 8: -400.0})
    assert energies([], [1, 8], options) == {1: -13.0, 8: -400.0}
    with pytest.raises(InputError, match="no energy for Cl"):
        energies([], [1, 17], options)
    with pytest.raises(InputError, match="'Hx' is not an element"):
        energies([], [1], StatisticsOptions(E0s={"Hx": 1.0}))


def test_no_energies_at_all():
    with pytest.raises(InputError, match="needs energies"):
        energies([frame("H2", None)], [1])


def test_elements_neighbours_and_counts(read):
    sums = collect(read, 4.0)
    samples = make_samples(read, ELEMENTS, 4.0, torch.float64)
    edges = sum(sample.graph.edge_index.shape[1] for sample in samples)
    assert sums.numbers() == ELEMENTS
    assert sums.average_neighbours() == pytest.approx(edges / sum(len(f.atoms) for f in read))
    assert (sums.frames, sums.largest, sums.kinds) == (11, 20, {"cluster": 8, "box": 3})
    assert sums.labels == {
        "energy": 11, "forces": 11, "atomic_multipoles": 11, "dipole": 8, "fermi_level": 11
    }  # fmt: skip
    assert collect([frame("H", 0.0)], 4.0).average_neighbours() == 0.0


def test_statistics_survive_json(read):
    sums = collect(read, 4.0)
    assert SetStatistics(**json.loads(json.dumps(sums.as_dict()))) == sums


def test_offset_is_the_mean_of_the_levels_present(read):
    assert collect(read, 4.0).mean_fermi_level() == pytest.approx(np.mean([f.labels["fermi_level"] for f in read]))
    assert collect([frame("H", 0.0)], 4.0).mean_fermi_level() == 0.0
    unweighted = frame("H", 0.0, level=8.0, weight=0.0)
    content = [frame("H", 0.0, level=-3.0), frame("H", 0.0, level=-5.0), frame("H", 0.0), unweighted]
    assert collect(content, 4.0).mean_fermi_level() == pytest.approx(-4.0)
    assert collect([unweighted, unweighted, frame("H", 0.0)], 4.0).mean_fermi_level() == 8.0


def test_given_offset_wins_over_the_mean(tmp_path):
    path = write_frames(tmp_path / "a.xyz")
    for given, expected in ((None, None), (-7.25, -7.25)):
        overrides = [] if given is None else [f"model.fermi_level_offset={given}"]
        config = load_config(training_file(tmp_path, path), overrides)
        data = load_data(config.data)
        expected = expected or np.mean([f.labels["fermi_level"] for f in data.train])
        problem = PotentialProblem(config, data)
        assert problem.statistics.fermi_level_offset == pytest.approx(expected)
        assert problem.module.fermi_level_offset == pytest.approx(expected)


def norms_of(content, offset=-2.0, **options):
    model = make_model(**options)
    samples = make_samples(content, ELEMENTS, model.cutoff, torch.float64)
    return field_feature_norms(model.field_features, batches(samples, 4), offset)


def test_norms_are_rms_of_the_features(read):
    model = make_model()
    norms = norms_of(read)
    features = []
    for sample in make_samples(read, ELEMENTS, model.cutoff, torch.float64):
        level = sample.labels.fermi_level + 2.0
        features.append(model.field_features(sample.graph, sample.labels.multipoles, level).detach())
    v = torch.cat(features)
    expected = [v[:, n, 0].square().mean().sqrt() for n in range(2)]
    expected += [v[:, n, 1:].square().mean().sqrt() for n in range(2)]
    assert norms == pytest.approx([x.item() for x in expected], rel=1e-12)


@pytest.mark.parametrize("widths", [[1.5], [1.0, 1.5, 3.0]])
def test_one_positive_norm_per_l_and_width(read, widths):
    norms = norms_of(read, field_feature_widths=widths)
    assert len(norms) == 2 * len(widths) and all(norm > SMALLEST for norm in norms)


def test_norms_do_not_change_with_the_zero_of_the_level(read, tmp_path):
    shifted = frames()
    for atoms in shifted:
        atoms.info["REF_fermi_level"] += 3.0
    other = read_frames([str(write_frames(tmp_path / "a.xyz", shifted))], Keys(**KEYS))
    assert norms_of(other, 1.0) == pytest.approx(norms_of(read, -2.0), rel=1e-12)
    assert collect(other, 4.0).mean_fermi_level() == pytest.approx(collect(read, 4.0).mean_fermi_level() + 3.0)


@pytest.mark.parametrize("lacking", ["REF_atomic_multipoles", "REF_fermi_level", "weights"])
def test_norms_ignore_frames_without_multipoles_or_level(tmp_path, read, lacking):
    content = frames()
    for number in (0, 9):
        atoms = content[number]
        if lacking == "weights":
            atoms.info["config_weight"] = 0.0
        else:
            del (atoms.arrays if lacking in atoms.arrays else atoms.info)[lacking]
    found = read_frames([str(write_frames(tmp_path / "a.xyz", content))], Keys(**KEYS))
    kept = [item for number, item in enumerate(read) if number not in (0, 9)]
    assert norms_of(found) == pytest.approx(norms_of(kept), rel=1e-12)
    assert norms_of(found) != pytest.approx(norms_of(read), rel=1e-6)


def test_norms_without_any_level_use_all_multipoles_at_the_offset(tmp_path, read):
    keys = {name: key for name, key in KEYS.items() if name != "fermi_level"}
    found = read_frames([str(write_frames(tmp_path / "a.xyz"))], Keys(**keys))
    for item in read:
        item.labels["fermi_level"] = np.float64(-2.0)
    centred = norms_of(read, -2.0)
    assert norms_of(found, 123.0) == pytest.approx(centred, rel=1e-12)


def test_norms_need_multipoles(tmp_path):
    content = [item for item in frames()[:2]]
    content[0].info["config_atomic_multipoles_weight"] = 0.0
    del content[1].arrays["REF_atomic_multipoles"]
    found = read_frames([str(write_frames(tmp_path / "a.xyz", content))], Keys(**KEYS))
    with pytest.raises(InputError, match="needs atomic multipoles"):
        norms_of(found)


def test_minimum_distances_are_those_of_ase(read):
    cutoff = 3.0
    found = np.array(collect(read, cutoff).minimum_distances(ELEMENTS))
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


def test_close_contacts_are_named(read):
    assert collect(read, 4.0).warnings() == []
    near = frame("H2", 0.0)
    near.atoms.positions[1, 0], near.source = 0.3, "b.xyz, frame 7"
    assert collect([*read, near], 4.0).warnings() == ["WARNING: atoms as near as 0.300 Å (H-H in b.xyz, frame 7)"]


def test_density_scaling_is_the_rms_of_an_element(read):
    sums = collect(read, 3.0)
    found = sums.density_scaling("average", ELEMENTS)
    for element in ELEMENTS:
        rows = [f.labels["atomic_multipoles"][f.atoms.numbers == element] for f in read]
        assert found[element] == pytest.approx(np.sqrt(np.mean(np.concatenate(rows) ** 2)), rel=1e-12)
        charges = sums.density_scaling("average", ELEMENTS, l_max=0)[element]
        assert charges == pytest.approx(np.sqrt(np.mean(np.concatenate(rows)[:, 0] ** 2)), rel=1e-12)
    assert sums.density_scaling({"H": 1.0, "8": 2.0, "Na": 3.0, "Cl": 4.0}, ELEMENTS)[8] == 2.0
    assert sums.density_scaling(None, ELEMENTS) == {}
    with pytest.raises(InputError, match="no scale for O, Na, Cl"):
        sums.density_scaling({"H": 1.0}, ELEMENTS)


def test_density_scaling_ignores_frames_without_weight(tmp_path):
    content = frames()
    content[0].info["config_atomic_multipoles_weight"] = 0.0
    del content[1].arrays["REF_atomic_multipoles"]
    for atoms in content:
        if "REF_atomic_multipoles" in atoms.arrays:
            atoms.arrays["REF_atomic_multipoles"][atoms.numbers == 11] = 0.0
    found = read_frames([str(write_frames(tmp_path / "a.xyz", content))], Keys(**KEYS))
    scales = collect(found, 3.0).density_scaling("average", ELEMENTS)
    assert scales == pytest.approx(collect(found[2:], 3.0).density_scaling("average", ELEMENTS), rel=1e-12)
    assert scales[11] == 0.0
    with pytest.raises(InputError, match="found no atomic multipoles of Na, Cl"):
        collect(found[:8], 3.0).density_scaling("average", ELEMENTS)


def test_density_scaling_of_charges_alone_leaves_dipoles_out(tmp_path):
    content = frames()
    for atoms in content:
        atoms.arrays["REF_charges"] = atoms.arrays.pop("REF_atomic_multipoles")[:, 0]
    keys = {**KEYS, "atomic_multipoles": None, "charges": "REF_charges"}
    found = read_frames([str(write_frames(tmp_path / "a.xyz", content))], Keys(**keys))
    charges = np.concatenate([f.labels["atomic_multipoles"][f.atoms.numbers == 8, 0] for f in found])
    scale = collect(found, 3.0).density_scaling("average", ELEMENTS)[8]
    assert scale == pytest.approx(np.sqrt(np.mean(charges**2)), rel=1e-12)


def test_a_run_does_not_depend_on_the_zero_of_the_fermi_level(tmp_path):
    """All levels and the offset 3 eV higher: the same losses, errors and table."""
    logs, tables = [], []
    loss = {"energy_per_atom": 1.0, "atomic_multipoles": 100.0, "fermi_level_per_atom": 5.0}
    for name, shift in (("plain", 0.0), ("shifted", 3.0)):
        content = frames()
        for atoms in content:
            atoms.info["REF_fermi_level"] += shift
        folder = tmp_path / name
        folder.mkdir()
        path = training_file(folder, write_frames(folder / "frames.xyz", content))
        overrides = [f"train_schedule.{stage}.loss={json.dumps(loss)}" for stage in (0, 1)]
        config = load_config(path, [*overrides, f"model.fermi_level_offset={-4.0 + shift}"])
        tables.append(train(config, Console(file=io.StringIO())))
        with open(folder / "run" / "log.csv", newline="", encoding="utf-8") as file:
            logs.append(list(csv.DictReader(file)))
    assert tables[0] == tables[1]
    for one, other in zip(*logs, strict=True):
        assert one.keys() == other.keys() and one["stage"] == other["stage"]
        for column in one.keys() - {"stage", "time [s]"}:
            assert one[column] == other[column] or float(other[column]) == pytest.approx(float(one[column]), rel=1e-6)


def test_norms_and_scales_as_the_options_say(tmp_path):
    """null, average and given values of both, through the training file."""
    path = write_frames(tmp_path / "a.xyz")
    given = {"norms": [1.0, 2.0, 3.0, 4.0], "scales": {"H": 0.5, "O": 0.6, "Na": 0.7, "Cl": 0.8}}
    for norms, scales in ((None, None), ("average", "average"), (given["norms"], given["scales"])):
        config = load_config(training_file(tmp_path, path), ["model.use_linear_local_charges=true"])
        config.model.field_feature_norms, config.model.atom_density_scaling = norms, scales
        data = load_data(config.data)
        problem = PotentialProblem(config, data)
        found = problem.statistics
        sums = collect(data.train, config.model.r_max)
        if norms is None:
            assert found.field_feature_norms == [1.0] * 4 and found.density_scaling == {}
        elif norms == "average":
            features = problem.module.field_features
            expected = field_feature_norms(features, problem.batches("train"), sums.mean_fermi_level())
            assert found.field_feature_norms == pytest.approx(expected, rel=1e-12)
            assert found.density_scaling == sums.density_scaling("average", problem.elements)
        else:
            assert found.field_feature_norms == norms
            assert found.density_scaling == dict(zip(ELEMENTS, scales.values(), strict=True))
        assert found.avg_num_neighbors == sums.average_neighbours()
