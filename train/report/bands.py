"""The page of a run that fits a pseudopotential to band structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from fp_potential import __version__

from ...files import write_whole
from ..bands.evaluation import Results, SystemResult
from ..bands.pictures import bands_figure, curve, heat_figure, potentials_figure
from ..bands.problem import BandsProblem
from ..bands.trained import load_run
from . import page
from .curves import epoch_times, learning_curves
from .history import History, read_history
from .page import Section
from .pictures import picture
from .style import embedded


def write_bands_report(folder: Path, output: Path, checkpoint: str = "latest", figures: Sequence[str] = ()) -> None:
    """The page of the run in ``folder``, written whole or not at all.

    Args:
        folder: of the run.
        output: the page.
        checkpoint: latest, best or stage_N.
        figures: pictures of the user's to show at the end.

    Raises:
        InputError: no such run, checkpoint or picture, or data that cannot be read.
    """
    pictures = [(Path(name).stem.replace("_", " "), picture(Path(name))) for name in figures]
    problem, state = load_run(folder, checkpoint)
    results = problem.results()
    history = read_history(folder, problem.config.train_schedule)
    sections = [
        _overview(problem, results, history, int(state["epoch"])),
        _bands(results),
        _potentials(problem),
        _costs(history),
        _errors(results),
        _deformation(results),
        _figures(pictures),
        _configuration(problem),
    ]
    planned = sum(stage.length for stage in problem.config.train_schedule)
    description = f"{' '.join(problem.species)} · {state['epoch']} of {planned} epochs · checkpoint {checkpoint}"
    title = "Pseudopotential " + "/".join(folder.resolve().parts[-2:])
    shown = [section for section in sections if section is not None]
    text = page.render(title, description, shown, f"fp_potential {__version__}", None)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, text)


def _overview(problem: BandsProblem, results: Results, history: History, epochs: int) -> Section:
    local, parameters = problem.config.model.local, sum(p.numel() for p in problem.module.parameters())
    form = local.ppmodel or local.form
    if local.form == "neural":
        form += " " + "-".join(map(str, local.hidden_layers))
    terms = problem.module.terms
    names = {"long range": terms.long_range, "spin-orbit": terms.spin_orbit, "non-local": terms.nonlocal_}
    model = [
        ("species", " ".join(problem.species)),
        ("local form", form),
        ("parameters", str(parameters)),
        ("other terms", ", ".join(name for name, on in names.items() if on) or "none"),
        ("plane waves", problem.config.model.basis),
    ]
    fit = [
        ("epochs", str(epochs)),
        ("stages", ", ".join(stage.name for stage in problem.config.train_schedule)),
        ("time of the epochs", f"{history.seconds():.0f} s"),
        ("error, fitted k-points", _meV(results.rms)),
        ("error, held-out k-points", _meV(results.held_out)),
    ]
    rows = [
        ["system", "k-points", "plane waves", "squares [eV²]", "rms [meV]", "held out [meV]", "gap [eV]", "ref. [eV]"]
    ]
    for result in results.systems:
        system, gaps = result.system, result.gaps()
        rows.append(
            [
                system.data.name,
                str(len(system.k)),
                str(len(system.hamiltonian.basis)),
                f"{result.squares:.4f}" if system.fitted else "-",
                _number(1000 * result.rms(system.fitted)) if system.fitted else "-",
                _number(1000 * result.rms(system.held_out)) if system.held_out else "-",
                *((f"{gaps[0]:.4f}", f"{gaps[1]:.4f}") if gaps else ("-", "-")),
            ]
        )
    return Section("overview", "Overview", [page.cards([("Model", model), ("Fit", fit)]), page.table(rows)])


def _bands(results: Results) -> Section:
    note = "Lines: the model; points: the reference. The second picture is 5 eV around the middle of the gap."
    images = [
        page.figure("bands", embedded(bands_figure(results)), wide=True),
        page.figure("bands around the gap", embedded(bands_figure(results, zoom=True)), wide=True),
    ]
    return Section("bands", "Bands", images, note)


def _potentials(problem: BandsProblem) -> Section:
    q, values = curve(problem.module)
    problem.outputs.draw_start()
    curves = [*problem.outputs.start, ("model", q, values, "-")]
    image = embedded(potentials_figure(curves, problem.species, problem.outputs.shells))
    note = "Marks on the axis: lengths |G - G'| at which the plane waves of the systems need v(q)."
    if problem.outputs.start:
        note += " Dashed: the analytic form of the training file's parameters."
    return Section("potentials", "Local potentials", [page.figure("v(q)", image, wide=True)], note)


def _costs(history: History) -> Section | None:
    curves = learning_curves(history)
    if not curves:
        return None
    images = [*curves, ("time per epoch", epoch_times(history))]
    return Section("cost", "Cost by term", [page.figures(images)], "By epoch, from log.csv; terms have their weights.")


def _errors(results: Results) -> Section | None:
    fitted = [result for result in results.systems if result.system.data.reference is not None]
    if not fitted:
        return None
    parts = [page.figure("errors by k-point and band", embedded(heat_figure(fitted)), wide=True)]
    width = max(result.energies.shape[1] for result in fitted)
    rows = [["system, rms [meV] of band", *map(str, range(width))]]
    for result in fitted:
        values = [_number(1000 * value) for value in _by_band(result)]
        rows.append([result.system.data.name, *values, *([""] * (width - len(values)))])
    parts += [page.subtitle("By band"), page.table(rows)]
    return Section("errors", "Errors by k-point and band", parts, "Model minus reference; bands count from 0.")


def _by_band(result: SystemResult) -> list[float]:
    weights = result.system.weights
    squares = (weights * result.errors(result.system.data.relative_band).square()).sum(0)
    pairs = zip(squares.tolist(), weights.sum(0).tolist(), strict=True)
    return [float("nan") if w == 0 else (s / w) ** 0.5 for s, w in pairs]


def _deformation(results: Results) -> Section | None:
    rows = [["system", "state", "ratio", "D [eV]", "reference [eV]", "error [eV]", "weight"]]
    for result in results.systems:
        for row, value in zip(result.system.data.transitions, result.deformation.tolist(), strict=True):
            state = f"k {row.k_to} band {row.b_to}"
            if row.k_from is not None:
                state += f" − k {row.k_from} band {row.b_from}"
            numbers = [f"{row.ratio:g}", f"{value:.4f}", f"{row.target:.4f}", f"{value - row.target:+.4f}"]
            rows.append([result.system.data.name, state, *numbers, f"{row.weight:g}"])
    if len(rows) == 1:
        return None
    note = "D = (E - E_s)/2 (1 + s³)/(1 - s³) with the lattice scaled by the ratio s; of two states their difference."
    return Section("deformation", "Deformation potentials", [page.table(rows, text_columns=[1])], note)


def _figures(pictures: Sequence[tuple[str, str]]) -> Section | None:
    if not pictures:
        return None
    return Section("figures", "Figures", [page.figure(name, uri, wide=True) for name, uri in pictures])


def _configuration(problem: BandsProblem) -> Section:
    text = yaml.safe_dump(problem.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return Section("configuration", "Configuration", [page.folded("all options as used", text)])


def _meV(value: float) -> str:
    return "-" if value != value else f"{_number(1000 * value)} meV"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"
