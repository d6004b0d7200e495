"""From a run folder to its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import yaml
from ase.data import chemical_symbols

from fp_potential import __version__

from ...files import write_whole
from ...options import SCFOptions
from ..data.frame import Frame
from ..data.frame_sequence import fingerprint
from ..data.sets import DataSets
from ..potential.error_tables import element_rows, error_rows
from ..potential.evaluation_tables import scf_rows
from ..potential.metrics import PROPERTIES
from ..potential.trained import find_checkpoint
from ..progress import track
from . import page
from .convergence import failures, histogram
from .curves import epoch_times, learning_curves
from .dataset import charge_rows, kind_rows, label_rows, set_rows
from .history import RATE, History, read_history
from .page import Section
from .parity import parity_plots
from .pictures import picture
from .results import Run, SetResults, evaluate_set, load_run, read_sets
from .viewer import check_frames, chosen_frames, viewer_data


@dataclass
class ReportOptions:
    """What goes into the page."""

    checkpoint: str = "latest"
    """latest, best or stage_N."""
    files: Sequence[str] = ()
    """Evaluate these files in place of the run's sets."""
    splits: Sequence[str] = ()
    """Sets to evaluate; none: all there are."""
    frames: Sequence[int] | None = None
    """Frames of the first set for the viewer; none: of each kind the middle and the worst."""
    max_frames: int = 500
    """Frames evaluated of each set."""
    evaluate: bool = True
    """False: curves, times and options only; reads no data."""
    figures: Sequence[str] = ()
    """Pictures to show at the end of the results, .png or .svg."""
    batch_size: int = 16
    device: str = "cpu"


def write_report(folder: Path, output: Path, scf: SCFOptions, options: ReportOptions) -> None:
    """The page of the run in ``folder``, written whole or not at all.

    Args:
        scf: of the model's own solution.

    Raises:
        InputError: no such run, checkpoint or picture, or data that cannot be read.
    """
    pictures = [(Path(name).stem.replace("_", " "), picture(Path(name))) for name in options.figures]
    run = load_run(folder, find_checkpoint(folder, options.checkpoint))
    history = read_history(folder, run.config.train_schedule)
    results: list[SetResults] = []
    frames: dict[str, Sequence[Frame]] = {}
    data: DataSets | None = None
    if options.evaluate:
        run.model.to(options.device)
        sets, data = read_sets(run, options.files, options.splits)
        frames = sets if data is None else {"train": data.train, "valid": data.valid, "test": data.test}
        limits = {"batch_size": options.batch_size, "device": options.device, "max_frames": options.max_frames}
        first = next(iter(sets))
        check_frames(options.frames or (), first, min(len(sets[first]), options.max_frames))
        for number, (name, content) in enumerate(sets.items()):
            results.append(evaluate_set(run, name, content, scf, limits, full=number == 0))
    draw = [
        lambda: _overview(run, history, results),
        lambda: _curves(history),
        lambda: _errors(run, results),
        lambda: _parity(run, results),
        lambda: _convergence(results, scf),
        lambda: _charges(results),
        lambda: _pictures(pictures),
        lambda: _timing(run, history),
        lambda: _data(run, frames, _changed(run, data)),
        lambda: _configuration(run),
    ]
    sections = [section for make in track(draw, "report") if (section := make()) is not None]
    structures = None
    if results:
        structures = viewer_data(results[0], chosen_frames(results[0], options.frames))
    title = "Training run " + "/".join(folder.resolve().parts[-2:])
    text = page.render(title, _description(run, results), sections, f"fp_potential {__version__}", structures)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, text)


def _changed(run: Run, data: DataSets | None) -> str:
    """A sentence if the data are no longer those of the training."""
    if data is None or fingerprint(data.train, data.valid) == run.state["data"]:
        return ""
    return "The data files have changed since the training: these are not the frames the model has seen."


def _description(run: Run, results: Sequence[SetResults]) -> str:
    planned = sum(stage.length for stage in run.config.train_schedule)
    symbols = ", ".join(chemical_symbols[number] for number in run.elements)
    where = f"; errors and charges on the {results[0].name} set" if results else ""
    return f"{symbols} · {run.state['epoch']} of {planned} epochs · checkpoint {run.checkpoint.stem}{where}"


def _overview(run: Run, history: History, results: Sequence[SetResults]) -> Section:
    options, frames = run.config.model, run.state["problem"]["frames"]
    planned = sum(stage.length for stage in run.config.train_schedule)
    model = [
        ("elements", " ".join(chemical_symbols[number] for number in run.elements)),
        ("parameters", f"{sum(parameter.numel() for parameter in run.model.parameters()):,}".replace(",", " ")),
        ("cutoff, layers, channels", f"{options.r_max:g} Å, {options.num_interactions}, {options.num_channels}"),
        ("update", options.fixedpoint_update_config.type),
        ("read-out", options.field_readout_config.type),
    ]
    training = [
        ("epochs", f"{run.state['epoch']} of {planned}"),
        ("stages", ", ".join(stage.name for stage in run.config.train_schedule)),
        ("frames", ", ".join(f"{frames[name]} {name}" for name in ("train", "valid", "test"))),
        ("precision, device", f"{run.config.training.default_dtype}, {run.config.training.device}"),
        ("time of the epochs", _duration(history.seconds())),
    ]
    content = [("Model", model), ("Training", training)]
    if results:
        errors = results[0].errors
        pairs = {name: errors.rmse_mae(name) for name in PROPERTIES}
        rows = [(PROPERTIES[name], _short(pair[0])) for name, pair in pairs.items() if pair is not None]
        content.append((f"RMSE, {results[0].name} set", rows))
        scf = errors.scf()
        if scf is not None:
            loop = [
                ("converged", f"{scf.converged:.1f} %"),
                ("applications, median", f"{scf.median:.0f}"),
                ("95th percentile", f"{scf.p95:.0f}"),
                ("largest", str(scf.largest)),
            ]
            content.append(("SCF from the local guess", loop))
    return Section("overview", "Overview", [page.cards(content)])


def _curves(history: History) -> Section | None:
    curves = learning_curves(history)
    if not curves:
        return None
    note = (
        "By stage, from log.csv. Curves are not joined where a stage begins: loss and mode differ. In direct stages "
        "validation is one application of the map to the reference density; in the others the converged SCF."
    )
    return Section("curves", "Learning curves", [page.figures(curves)], note)


def _errors(run: Run, results: Sequence[SetResults]) -> Section | None:
    if not results:
        return None
    parts = []
    for result in results:
        choice = f", {len(result.frames)} of {result.available} frames" if len(result.frames) < result.available else ""
        seen: set[bool] = set()
        for evaluation in result.evaluations:
            held = evaluation.scf.constant_charge
            if held in seen:
                continue
            seen.add(held)
            mode = "constant charge" if held else "constant Fermi level"
            parts.append(page.subtitle(f"{result.name.capitalize()} set, {mode}{choice}"))
            rows = error_rows(evaluation.errors)
            parts.append(page.table(rows, last_is_sum=True))
            by_element = element_rows(evaluation.errors, run.elements)
            if len(by_element) > 1:
                parts.append(page.table(by_element))
    note = (
        "RMSE / MAE of the model's own SCF from the local guess, by kind of frame and by element. Dipoles are per "
        "component. At constant Fermi level the energy is Ω = E + μQ."
    )
    if any(evaluation.errors.no_level() for result in results for evaluation in result.evaluations):
        note += (
            " Frames without a level have a label of the Fermi level, but in the model nothing conducts there: their "
            "levels do not count."
        )
    return Section("errors", "Errors", parts, note)


def _parity(run: Run, results: Sequence[SetResults]) -> Section | None:
    if not results or not results[0].values:
        return None
    plots = parity_plots(results[0], run.state["problem"]["statistics"]["atomic_energies"])
    note = (
        f"{results[0].name.capitalize()} set. Spread is the standard deviation of the reference: the error of a model "
        "that knows only the mean. Inset: histogram of the errors; its last bins hold everything beyond."
    )
    return Section("parity", "Parity", [page.figures(plots)], note)


def _convergence(results: Sequence[SetResults], scf: SCFOptions) -> Section | None:
    if not results:
        return None
    evaluations = results[0].evaluations
    rows = scf_rows(evaluations)
    rows = [[*row, "not converged" if not number else failures(evaluations[number - 1]) or "none"]
            for number, row in enumerate(rows)]  # fmt: skip
    note = (
        f"{results[0].name.capitalize()} set: {scf.solver}, at most {scf.num_scf_steps} applications of the map, "
        f"tolerance {scf.scf_tolerance:g}. Median and percentile are those of the structures that converged. Runs at "
        "constant Fermi level and runs that start from the data take the frames with those labels."
    )
    parts = [page.table(rows, text_columns=[len(rows[0]) - 1])]
    parts.append(page.figure("applications of the map until converged", histogram(evaluations), wide=True))
    return Section("scf", "Self-consistency", parts, note)


def _charges(results: Sequence[SetResults]) -> Section | None:
    if not results:
        return None
    note = f"Frames of the {results[0].name} set. Drag to turn, wheel to zoom, point at an atom for its numbers."
    return Section("charges", "Charges on the structure", [page.VIEWER], note)


def _pictures(pictures: Sequence[tuple[str, str]]) -> Section | None:
    if not pictures:
        return None
    return Section("figures", "Figures", [page.figure(name, uri, wide=True) for name, uri in pictures])


def _timing(run: Run, history: History) -> Section | None:
    if not history.rows:
        return None
    rows = [["stage", "mode", "epochs", "learning rate", "time", "per epoch [s]", "per frame [ms]"]]
    frames = max(run.state["problem"]["frames"]["train"], 1)
    for stage in history.begun():
        done = len(history.rows_of(stage))
        seconds = history.seconds(stage)
        rates = [history.values(RATE)[row] for row in history.rows_of(stage)]
        rows.append(
            [
                stage.name,
                stage.fixed_point_training_options.mode,
                f"{done} of {stage.length}",
                f"{rates[0]:.3g}" if rates[0] == rates[-1] else f"{rates[0]:.3g} … {rates[-1]:.3g}",
                _duration(seconds),
                f"{seconds / done:.3g}",
                f"{1e3 * seconds / done / frames:.3g}",
            ]
        )
    total, done = history.seconds(), len(history.rows)
    rows.append(
        ["all", "", str(done), "", _duration(total), f"{total / done:.3g}", f"{1e3 * total / done / frames:.3g}"]
    )
    parts = [page.table(rows, last_is_sum=True), page.figures([("time per epoch", epoch_times(history))])]
    return Section("timing", "Timing", parts, "Optimiser steps of the epochs, without validation.")


def _data(run: Run, frames: dict[str, Sequence[Frame]], note: str) -> Section:
    statistics = run.state["problem"]["statistics"]
    energies = {int(number): float(energy) for number, energy in statistics["atomic_energies"].items()}
    constants = [["constant of the model", "value"]]
    constants += [[f"E0 of {chemical_symbols[number]} [eV]", f"{energy:.6f}"] for number, energy in energies.items()]
    constants += [
        ["average number of neighbours", f"{statistics['avg_num_neighbors']:.3f}"],
        ["Fermi level offset [eV]", f"{statistics['fermi_level_offset']:.4f}"],
        ["norms of the field features", " ".join(f"{norm:.4g}" for norm in statistics["field_feature_norms"])],
    ]
    parts = []
    if frames:
        parts += [page.subtitle("Sets"), page.table(set_rows(frames))]
        kinds = kind_rows(frames)
        if len(kinds) > 2:
            parts.append(page.table(kinds))
        parts += [page.subtitle("Labels"), page.table(label_rows(frames, energies))]
        charges = charge_rows(next(iter(frames.values())))
        if len(charges) > 1:
            parts += [page.subtitle(f"Reference charges, {next(iter(frames))} set"), page.table(charges)]
    parts += [page.subtitle("Constants from the training set"), page.table(constants)]
    return Section("data", "Data", parts, note)


def _configuration(run: Run) -> Section:
    text = yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return Section("configuration", "Configuration", [page.folded("all options as used", text)])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))
