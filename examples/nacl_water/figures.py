"""The figures of the report: each function draws one onto axes it is given, `save_all` writes the PNGs."""

from pathlib import Path

import matplotlib

import analysis

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

INK, QUIET, LINE = "#1d2733", "#66717e", "#d9dee4"
MAIN, ACCENT = "#1f6f8b", "#c8553d"
COLOURS = {"H": "#7d8a99", "O": "#c8553d", "Na": "#7a5ea8", "Cl": "#3f8f5b"}
STYLE = {
    "figure.dpi": 160,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
}
RDF_PAIRS = (("O", "O"), ("Na", "O"), ("Cl", "O"))
ION = {"Na": "Na$^+$", "Cl": "Cl$^-$"}


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over `width` points, narrower at both ends."""
    width = max(1, min(width, len(values)))
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def temperature(axes, steps: dict, target: float) -> None:
    time = steps["time"] * 1e-3
    axes.plot(time, steps["temperature"], color=MAIN, alpha=0.35, linewidth=0.7)
    axes.plot(time, running_mean(steps["temperature"], 200), color=MAIN, label="running mean, 0.1 ps")
    axes.axhline(target, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label=f"thermostat, {target:g} K")
    axes.set(title="Temperature", ylabel="K", xlabel="time (ps)")
    low, high = steps["temperature"].min(), steps["temperature"].max()
    axes.set_ylim(low - 0.05 * (high - low), high + 0.35 * (high - low))
    axes.legend(loc="upper right", ncols=2, fontsize=7.5)


def conserved_energy(axes, steps: dict, atoms: int) -> None:
    time = steps["time"] * 1e-3
    shift = {key: 1e3 * (steps[key] - steps[key][0]) / atoms for key in ("conserved", "potential")}
    axes.plot(time, shift["potential"], color=QUIET, alpha=0.8, linewidth=0.8, label="potential energy")
    axes.plot(time, shift["conserved"], color=ACCENT, linewidth=1.4, label="conserved energy")
    axes.set(title="Energy, change from the first step", ylabel="meV/atom", xlabel="time (ps)")
    low, high = (f(np.concatenate(list(shift.values()))) for f in (np.min, np.max))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.3 * (high - low))
    axes.legend(loc="upper right", ncols=2, fontsize=7.5)


def scf_iterations(axes, steps: dict) -> None:
    time, count = steps["time"] * 1e-3, steps["scf_steps"]
    axes.plot(time, count, ".", color=MAIN, markersize=1.8, alpha=0.35)
    axes.plot(time, running_mean(count, 100), color=INK, linewidth=1.0, label="running mean, 0.05 ps")
    axes.set(title="SCF iterations per step", ylabel="applications of the map", xlabel="time (ps)")
    axes.set_ylim(0, count.max() + max(2.0, 0.25 * count.max()))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", fontsize=7.5)


def scf_residual(axes, steps: dict, tolerance: float | None) -> None:
    axes.semilogy(steps["time"] * 1e-3, steps["residual"], ".", color=MAIN, markersize=1.8, alpha=0.5)
    if tolerance is not None:
        label = f"tolerance {tolerance:.0e}".replace("e-0", "e-")
        axes.axhline(tolerance, color=ACCENT, linewidth=0.9, linestyle=(0, (4, 3)), label=label)
        axes.legend(loc="lower right", fontsize=7.5)
    axes.set(title="SCF residual at the end of the step", ylabel="mean residual  (e, e Å)", xlabel="time (ps)")
    axes.set_ylim(steps["residual"].min() / 6, max(steps["residual"].max(), tolerance or 0) * 2)


def histogram(axes, values, reference, colour) -> None:
    """Probability density of `values` filled, that of `reference` (may be empty) as an outline."""
    both = np.concatenate([values, reference])
    low, high = np.percentile(both, [0.1, 99.9])
    margin = 0.15 * (high - low) + 1e-6

    def bins(count: int) -> np.ndarray:
        return np.linspace(low - margin, high + margin, int(np.clip(1.5 * np.sqrt(count), 14, 60)))

    axes.hist(values, bins(len(values)), density=True, color=colour, alpha=0.75, label="this run")
    if len(reference):
        outline = {"histtype": "step", "color": INK, "linewidth": 1.1, "label": "GFN2-xTB boxes"}
        axes.hist(reference, bins(len(reference)), density=True, **outline)
    axes.set(yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def charges(axes_row, run: dict, reference: dict) -> None:
    for axes, element in zip(axes_row, analysis.ELEMENTS, strict=True):
        values = run.get(element, np.zeros(0))
        histogram(axes, values, reference.get(element, np.zeros(0)), COLOURS[element])
        axes.set(title=f"{element}   ⟨q⟩ = {values.mean():+.3f} e".replace("-", "−"), xlabel="charge (e)")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    legend(axes_row[0])


def dipoles(axes, run: np.ndarray, reference: np.ndarray) -> None:
    histogram(axes, run, reference, MAIN)
    axes.axvline(run.mean(), color=MAIN, linewidth=1.2)
    axes.set(title=f"Dipole of a water molecule   ⟨μ⟩ = {run.mean():.2f} D", xlabel="dipole (Debye)")
    legend(axes)


def legend(axes) -> None:
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper left", fontsize=7.5, borderaxespad=0.1, handlelength=1.4)


def radial(axes, first: str, second: str, data) -> None:
    r, g, coordination = data
    colour = COLOURS[first]
    axes.fill_between(r, g, step="mid", color=colour, alpha=0.18, linewidth=0)
    axes.plot(r, g, color=colour, drawstyle="steps-mid")
    axes.axhline(1.0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    peak, _, neighbours = analysis.first_shell(r, g, coordination)
    axes.set(title=f"{ION.get(first, first)} – {second}", xlabel="r (Å)", ylabel="g(r)", xlim=(1.5, r[-1]))
    axes.set_ylim(0, 1.12 * max(g.max(), 1.2))
    note = f"peak {peak:.2f} Å\n{neighbours:.1f} neighbours"
    axes.text(0.97, 0.95, note, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=QUIET)


def energy_sheet(sheet, steps: dict, atoms: int, target: float) -> None:
    top, bottom = sheet.subplots(2, 1, sharex=True)
    temperature(top, steps, target)
    conserved_energy(bottom, steps, atoms)
    top.set_xlabel("")


def scf_sheet(sheet, steps: dict, tolerance: float | None) -> None:
    top, bottom = sheet.subplots(2, 1, sharex=True)
    scf_iterations(top, steps)
    scf_residual(bottom, steps, tolerance)
    top.set_xlabel("")


def rdf_sheet(sheet, data: dict) -> None:
    for axes, pair in zip(sheet.subplots(1, len(RDF_PAIRS)), RDF_PAIRS, strict=True):
        radial(axes, *pair, data[pair])


def save_all(folder: Path, steps: dict, results: dict, tolerance: float | None, target: float) -> list[str]:
    """Writes one PNG per sheet, and report.png with all of them; returns the names of the single ones."""
    draw = {
        "energy": lambda sheet: energy_sheet(sheet, steps, results["atoms"], target),
        "scf": lambda sheet: scf_sheet(sheet, steps, tolerance),
        "charges": lambda sheet: charges(sheet.subplots(1, 4), results["charges"], results["reference_charges"]),
        "dipoles": lambda sheet: dipoles(sheet.subplots(), results["dipoles"], results["reference_dipoles"]),
        "rdf": lambda sheet: rdf_sheet(sheet, results["rdf"]),
    }
    sizes = {
        "energy": (6.4, 4.6),
        "scf": (6.4, 4.6),
        "charges": (11.0, 2.5),
        "dipoles": (4.0, 2.7),
        "rdf": (8.6, 2.7),
    }
    with plt.rc_context(STYLE):
        for name, function in draw.items():
            sheet = plt.figure(figsize=sizes[name], layout="constrained")
            function(sheet)
            sheet.savefig(folder / f"{name}.png")
            plt.close(sheet)
        whole = plt.figure(figsize=(12.4, 9.4), layout="constrained")
        upper, middle, lower = whole.subfigures(3, 1, height_ratios=(4.6, 2.4, 2.7))
        left, right = upper.subfigures(1, 2)
        first, rest = lower.subfigures(1, 2, width_ratios=(1, 2.6))
        for name, sheet in {
            "energy": left,
            "scf": right,
            "charges": middle,
            "dipoles": first,
            "rdf": rest,
        }.items():
            draw[name](sheet)
        whole.savefig(folder / "report.png", dpi=110)
        plt.close(whole)
    return list(draw)
