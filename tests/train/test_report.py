"""The parts of the report: what is read from a log, what is drawn, what stands in the tables."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fp_potential.train.data.read import read_frames
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Stage, load_config
from fp_potential.train.potential.metrics import PROPERTIES, StructureErrors
from fp_potential.train.report import convergence, curves, page, parity, viewer
from fp_potential.train.report.dataset import charge_rows, kind_rows, label_rows, set_rows
from fp_potential.train.report.history import SOLVED, read_history
from fp_potential.train.report.results import Run, evaluate_set, read_sets, sample_frames
from fp_potential.train.report.viewer import chosen_frames, viewer_data

from fp_potential.options import SCFOptions
from structures import ELEMENTS, make_model
from training_data import training_file, write_frames

ENERGIES = {1: -13.0, 8: -430.0, 11: -5.0, 17: -450.0}
SCF = SCFOptions(scf_tolerance=1e-9)


def stage(name: str, start: int, epochs: int) -> Stage:
    options = {"mode": "direct"}
    return Stage(
        name=name, start=start, epochs=epochs, loss={"energy_per_atom": 1.0}, fixed_point_training_options=options
    )


LOG = """epoch,stage,lr,time [s],train loss,train forces [meV/Å],valid loss,valid forces [meV/Å],SCF forces [meV/Å],train SCF fallbacks
0,first,0.1,2,5,50,4,40,,
1,first,0.1,2,4,45,3,30,33,
2,second,0.01,4,9000000,44,2.5,,,3
3,second,0.01,4,3,43,2.4,28,28,0
4,second,0.0"""  # noqa: E501


@pytest.fixture
def history(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    return read_history(tmp_path, [stage("first", 0, 2), stage("second", 2, 5), stage("third", 7, 1)])


def test_history_of_stages_and_columns(history):
    assert history.epochs() == [0, 1, 2, 3]  # the row that is cut short is left out
    assert [item.name for item in history.begun()] == ["first", "second"]
    assert history.seconds() == 12 and history.seconds(history.stages[1]) == 8
    panels = {name: [(item.label, item.column) for item in series] for name, series in history.panels().items()}
    assert panels == {
        "loss": [("training", "train loss"), ("validation", "valid loss")],
        "forces [meV/Å]": [
            ("training", "train forces [meV/Å]"),
            ("validation", "valid forces [meV/Å]"),
            (SOLVED, "SCF forces [meV/Å]"),
        ],
        "SCF fallbacks": [("training", "train SCF fallbacks")],
    }


def test_run_without_log_has_no_curves(tmp_path):
    history = read_history(tmp_path, [stage("first", 0, 2)])
    assert history.panels() == {} and curves.learning_curves(history) == [] and history.seconds() == 0


def test_curves_are_drawn_by_stage(history, monkeypatch):
    monkeypatch.setattr(curves, "embedded", lambda figure: figure)
    drawn = dict(curves.learning_curves(history))
    assert list(drawn) == ["loss", "forces [meV/Å]", "SCF fallbacks", "learning rate"]
    axes = drawn["loss"].axes[0]
    lines = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == "o"]
    assert lines == [[[0, 5], [1, 4]], [[2, 9e6], [3, 3]], [[0, 4], [1, 3]], [[2, 2.5], [3, 2.4]]]
    assert axes.get_yscale() == "log" and axes.get_ylim()[1] < 100  # one epoch far off does not hide the others
    assert "1 values above" in [text.get_text() for text in axes.texts]
    assert {"first", "second"} <= {text.get_text() for text in axes.texts}
    assert drawn["SCF fallbacks"].axes[0].get_yscale() == "linear"
    solved = [line for line in drawn["forces [meV/Å]"].axes[0].get_lines() if line.get_marker() == "D"]
    assert [line.get_xydata().tolist() for line in solved] == [[[1, 33]], [[3, 28]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose model is not that which made its data, as if it had been trained."""
    folder = tmp_path_factory.mktemp("report")
    data = write_frames(folder / "frames.xyz")
    config = load_config(training_file(folder, data))
    model = make_model(seed=6).requires_grad_(False)
    statistics = {"atomic_energies": ENERGIES}
    state = {"problem": {"elements": ELEMENTS, "statistics": statistics}, "epoch": 4, "config": config}
    return Run(folder / "run", folder, config, state, model)


@pytest.fixture(scope="module")
def results(run):
    sets, data = read_sets(run, [], ["test", "train"])
    assert list(sets) == ["test", "train"] and data is not None
    options = {"batch_size": 2, "device": "cpu", "max_frames": 100}
    return evaluate_set(run, "test", sets["test"], SCF, options, full=True)


def test_all_charge_modes_and_starts_are_run(results):
    runs = [(item.scf.constant_charge, item.scf.initial_density) for item in results.evaluations]
    assert runs == [(True, "local_guess"), (True, "from_data"), (False, "local_guess"), (False, "from_data")]
    assert [len(item.frames) for item in results.evaluations] == [3, 3, 3, 3]


def test_run_trained_at_constant_level_is_shown_there(run):
    config = run.config.model_copy(deep=True)
    mode = config.train_schedule[1].fixed_point_training_options
    mode.scf = mode.scf.model_copy(update={"constant_charge": False})
    other = replace(run, config=config)
    assert run.constant_charge and not other.constant_charge
    assert replace(other, state={**run.state, "epoch": 2}).constant_charge  # its second stage has not begun
    options = {"batch_size": 4, "device": "cpu", "max_frames": 100}
    test = read_sets(run, [], ["test"])[0]["test"]
    result = evaluate_set(other, "test", test, SCF, options, full=True)
    runs = [(item.scf.constant_charge, item.scf.initial_density) for item in result.evaluations]
    assert runs == [(False, "local_guess"), (False, "from_data"), (True, "local_guess"), (True, "from_data")]
    assert "total_charge" in result.values and "fermi_level" not in result.values
    for frame in test:
        frame.labels["fermi_level"] = None
    result = evaluate_set(other, "test", test, SCF, options, full=False)
    assert [item.scf.constant_charge for item in result.evaluations] == [True] and len(result.frames) == 3


def test_values_have_the_errors_of_the_table(results):
    """The parity plots and the tables are summed in different ways."""
    known = {name for name in PROPERTIES if results.errors.rmse_mae(name) is not None}
    assert set(results.values) == known == {"energy", "forces", "charge", "atomic_dipole", "dipole", "fermi_level"}
    for name, values in results.values.items():
        error = 1000 * (values.predicted - values.reference)
        expected = (np.sqrt(np.mean(error**2)), np.mean(np.abs(error)))
        assert results.errors.rmse_mae(name) == pytest.approx(expected, rel=1e-9)
        for index, number in enumerate(ELEMENTS):
            own = error[values.element == number]
            pair = results.errors.element_rmse_mae(name, index)
            assert (pair is None) == (len(own) == 0)
            if pair is not None:
                assert pair == pytest.approx((np.sqrt(np.mean(own**2)), np.mean(np.abs(own))), rel=1e-9)
        for kind in ("cluster", "box"):
            rows = [index for index, frame in enumerate(results.frames) if frame.kind == kind]
            own = error[np.isin(values.structure, rows)]
            pair = results.errors.rmse_mae(name, kind)
            assert (pair is None) == (len(own) == 0)
            if pair is not None:
                assert pair[0] == pytest.approx(np.sqrt(np.mean(own**2)), rel=1e-9)


def test_predictions_are_in_the_order_of_the_frames(run, results):
    for frame, prediction in zip(results.frames, results.predictions, strict=True):
        assert prediction.forces.shape == frame.atoms.positions.shape
        assert prediction.density[:, 0].sum() == pytest.approx(frame.total_charge, abs=1e-9)


def test_parity_plots_show_all_labels(results, monkeypatch):
    monkeypatch.setattr(parity, "embedded", lambda figure: figure)
    drawn = dict(parity.parity_plots(results, ENERGIES))
    titles = ["energy above the E0s", "forces", "charges", "atomic dipoles", "dipole", "Fermi level"]
    assert list(drawn) == titles
    for title in titles:
        axes, name = drawn[title].axes[0], _name(title)
        number = len(results.values[name].predicted)
        lines = axes.texts[0].get_text().splitlines()
        assert lines[3] == f"{number} values" and len(axes.collections[0].get_offsets()) == number
        rmse, mae = results.errors.rmse_mae(name)
        assert lines[0].startswith(f"RMSE {rmse:.4g} ") and lines[1].startswith(f"MAE  {mae:.4g} ")
    axes = drawn["energy above the E0s"].axes[0]
    expected = [
        (frame.labels["energy"] - sum(ENERGIES[z] for z in frame.atoms.numbers)) / len(frame.atoms)
        for frame in results.frames
    ]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == pytest.approx(sorted(expected), abs=1e-9)
    assert {text.get_text() for text in drawn["forces"].axes[0].get_legend().get_texts()} == {"H", "O", "Na", "Cl"}


def _name(title: str) -> str:
    short = {heading.partition(" [")[0]: name for name, heading in PROPERTIES.items()}
    return short[title.removesuffix(" above the E0s")]


def test_predictions_far_off_are_counted_not_drawn(monkeypatch):
    monkeypatch.setattr(parity, "embedded", lambda figure: figure)
    reference = np.array([0.0, 1.0, 0.5, 0.7, 0.2])
    predicted = np.array([0.1, 1.1, 1e6, 0.7, np.nan])
    axes = parity._plot("charges", "e", reference, predicted, ["O"], np.zeros(5, int)).axes[0]
    assert len(axes.collections[0].get_offsets()) == 3 and axes.get_xlim()[1] < 3
    assert "1 not finite\n1 beyond the axes" in axes.texts[0].get_text()


def test_failures_are_named():
    from fp_potential.train.potential.evaluate import Evaluation

    errors = StructureErrors(
        scf_steps=[torch.tensor([5, 7, 100, 3])], status=[torch.tensor([0, 0, 1, 2])], kinds=["a", "a", "b", "b"]
    )
    evaluation = Evaluation(SCF, errors, [], [])
    assert convergence.failures(evaluation) == "1 step limit, 1 diverged"
    scf = errors.scf()
    assert (scf.converged, scf.median, scf.largest, scf.mean) == (50.0, 6.0, 100, 28.75)
    assert scf.p95 == pytest.approx(np.percentile([5, 7], 95))
    assert np.isnan(errors.scf("b").median) and errors.scf("b").converged == 0
    assert convergence.histogram([evaluation]).startswith("data:image/svg+xml;base64,")


def test_histogram_of_applications(results, monkeypatch):
    monkeypatch.setattr(convergence, "embedded", lambda figure: figure)
    axes = convergence.histogram(results.evaluations).axes[0]
    expected = sum(int((torch.cat(item.errors.status) == 0).sum()) for item in results.evaluations)
    assert sum(patch.get_height() for patch in axes.patches) == expected > 0


def test_middle_and_worst_frame_of_each_kind(results):
    chosen = chosen_frames(results, None)
    by_kind = {"cluster": [0, 1], "box": [2]}
    error = {
        index: np.sqrt(np.mean((prediction.forces - frame.labels["forces"]) ** 2))
        for index, (frame, prediction) in enumerate(zip(results.frames, results.predictions, strict=True))
    }
    worst = max(by_kind["cluster"], key=error.__getitem__)
    assert chosen[worst] == "largest error of forces" and 2 in chosen
    assert chosen_frames(results, [1]) == {1: ""}
    with pytest.raises(InputError, match="--frames 7: 3 frames of the test set are evaluated, counted from 0"):
        chosen_frames(results, [7])


def test_atoms_in_the_viewer_are_limited(results, monkeypatch):
    everything = chosen_frames(results, None)
    first = next(iter(everything))
    monkeypatch.setattr(viewer, "MOST_ATOMS", len(results.frames[first].atoms))
    assert chosen_frames(results, None) == {first: everything[first]} and len(everything) > 1
    assert len(chosen_frames(results, [0, 1, 2])) == 3


def test_data_of_the_viewer(results):
    content = json.loads(viewer_data(results, {2: "why", 0: ""}))["frames"]
    box, cluster = content
    frame = results.frames[2]
    assert box["name"] == "box · why · " + frame.source and box["symbols"] == frame.atoms.get_chemical_symbols()
    assert np.array(box["cell"]) == pytest.approx(frame.atoms.cell.array, abs=1e-3) and cluster["cell"] is None
    label = frame.labels["atomic_multipoles"]
    assert box["reference"] == pytest.approx(label[:, 0], abs=1e-4)
    assert np.array(box["reference_dipoles"]) == pytest.approx(label[:, [3, 1, 2]], abs=1e-4)
    assert box["charges"] == pytest.approx(results.predictions[2].density[:, 0], abs=1e-4)
    size = np.linalg.norm(results.predictions[2].forces - frame.labels["forces"], axis=1)
    assert box["force_error"] == pytest.approx(size, abs=1e-4)


def test_names_cannot_break_the_page(results, monkeypatch):
    monkeypatch.setattr(results.frames[0], "kind", "</script><b>")
    assert "</script>" not in viewer_data(results, {0: ""})
    assert "<b>" not in page.table([["kind"], ["</script><b>"]])


def test_tables_of_the_data(run):
    frames = read_frames([str(run.config.data.files[0])], run.config.data.keys)
    sets = {"train": frames[:6], "valid": [], "test": frames[6:]}
    rows = set_rows(sets)
    assert [row[:4] for row in rows[1:]] == [["train", "6", "36", "3 … 9"], ["test", "5", "69", "3 … 20"]]
    assert kind_rows(sets) == [["kind", "train", "test"], ["cluster", "6", "2"], ["box", "0", "3"]]
    labels = {(row[0], row[1]): row[2:] for row in label_rows(sets, ENERGIES)[1:]}
    assert labels["dipole", "test"][0] == "2 of 5"
    forces = np.concatenate([frame.labels["forces"].reshape(-1) for frame in frames[:6]])
    assert float(labels["forces", "train"][2]) == pytest.approx(forces.std(), rel=1e-3)
    charges = {row[0]: row for row in charge_rows(frames)[1:]}
    assert charges["Na"][1] == "3" and set(charges) == {"H", "O", "Na", "Cl"}


def test_frames_are_chosen_evenly_and_reproducibly():
    numbers = list(range(1000))
    chosen = sample_frames(numbers, 50)
    assert len(set(chosen)) == 50 and chosen == sorted(chosen) == sample_frames(numbers, 50)
    assert sample_frames(numbers, 1000) == numbers


def test_unknown_set_is_named(run):
    with pytest.raises(InputError, match="--split spare: the run has no such frames; its sets: test, valid, train"):
        read_sets(run, [], ["spare"])
    run.config.data.files, before = ["nowhere.xyz"], run.config.data.files
    try:
        with pytest.raises(InputError, match=r"'nowhere.xyz' does not exist .*--no_evaluation none"):
            read_sets(run, [], [])
    finally:
        run.config.data.files = before
