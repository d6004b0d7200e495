"""Makes output/report.html and its PNGs from the run of `in.nacl_water`, and prints a summary.

    python report.py [output] [--reference data] [--tolerance 1e-6] [--temperature 300]

The page is one file: figures are inside it.  The outlines in the charge and dipole figures are the
reference method's own charges on the periodic frames of the training data.
"""

import argparse
import base64
import sys
from pathlib import Path
from string import Template

import numpy as np
from rich.console import Console
from rich.table import Table

import analysis
import figures

HERE = Path(__file__).resolve().parent
CAPTIONS = {
    "energy": (
        "Energy and temperature",
        "The conserved energy is the total energy plus that of the thermostat: it stays constant only if "
        "the forces are the exact derivative of the energy, self-consistency included.",
    ),
    "scf": (
        "Self-consistency",
        "In every step the charge density is iterated until the map reproduces it. Top: how many "
        "applications of the map that took. Bottom: mean |G(p) − p| when it stopped.",
    ),
    "charges": (
        "Atomic charges",
        "Charges of the self-consistent density. Outline: GFN2-xTB on the small periodic boxes of the training data.",
    ),
    "dipoles": (
        "Dipoles of the water molecules",
        "From the atomic charges and dipoles of each molecule, about its centre of mass. Outline: the same "
        "of GFN2-xTB.",
    ),
    "rdf": (
        "Structure",
        "Radial distribution functions up to half the box; neighbours are counted up to the minimum after the "
        "first peak.",
    ),
}


def collect(folder: Path, reference: Path) -> tuple[dict, dict]:
    """Columns of the steps, and everything computed from the frames."""
    steps = analysis.read_steps(folder / "steps.dat")
    frames = analysis.read_frames(folder / "frames.lammpstrj")
    known = analysis.reference_frames(reference)
    run = analysis.run_summary(folder / "log.lammps")
    return steps, {
        **run,
        "frames": len(frames),
        "charges": analysis.charges_by_element(frames),
        "dipoles": analysis.water_dipoles(frames),
        "reference_charges": analysis.charges_by_element(known) if known else {},
        "reference_dipoles": analysis.water_dipoles(known) if known else np.zeros(0),
        "rdf": {pair: analysis.radial_distribution(frames, *pair) for pair in figures.RDF_PAIRS},
    }


def summary(steps: dict, results: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of (what, value) for the screen and for the page."""
    atoms, time = results["atoms"], steps["time"]
    slope, noise = analysis.drift(time, steps["conserved"], atoms)
    length = (time[-1] - time[0]) * 1e-3
    micro = 1e6 * results["seconds"] / results["steps"] / atoms
    per_day = length / max(results["seconds"], 1e-9) * 86.4 * results["steps"] / max(len(time) - 1, 1)
    run = [
        ("atoms", f"{atoms}"),
        ("length", f"{length:.2f} ps, {results['steps']} steps"),
        ("ranks × threads", f"{results['ranks']} × {results['threads']}"),
        ("wall time", f"{results['seconds']:.0f} s"),
        ("speed", f"{micro:.0f} µs/atom/step, {per_day:.3f} ns/day"),
    ]
    dynamics = [
        ("temperature", f"{steps['temperature'].mean():.0f} ± {steps['temperature'].std():.0f} K"),
        ("energy drift", f"{slope:+.3f} meV/atom/ps"),
        ("energy fluctuation", f"{noise:.3f} meV/atom"),
    ]
    count, residual, charge = steps["scf_steps"], steps["residual"], steps["total_charge"]
    scf = [
        ("iterations per step", f"{count.mean():.1f}, at most {count.max():.0f}"),
        ("largest residual", f"{residual.max():.1e} e, e Å"),
        ("total charge off by", f"{np.abs(charge - np.round(charge[0])).max():.0e} e"),
    ]
    chemistry = [
        (f"charge of {element}", f"{q.mean():+.3f} ± {q.std():.3f} e") for element, q in results["charges"].items()
    ]
    chemistry.append(("dipole of water", f"{results['dipoles'].mean():.2f} ± {results['dipoles'].std():.2f} D"))
    structure = []
    for (first, second), data in results["rdf"].items():
        peak, height, neighbours = analysis.first_shell(*data)
        structure.append((f"{first}–{second}", f"peak {peak:.2f} Å, height {height:.1f}, {neighbours:.1f} neighbours"))
    return [
        ("Run", run), ("Dynamics", dynamics), ("Self-consistency", scf), ("Charges", chemistry),
        ("Structure", structure)
    ]  # fmt: skip


def print_summary(sections, page: Path) -> None:
    table = Table(title="NaCl in water", title_justify="left", show_header=False, pad_edge=False)
    table.add_column("what")
    table.add_column("value")
    for name, rows in sections:
        table.add_section()
        table.add_row(f"[bold]{name}[/bold]", "")
        for what, value in rows:
            table.add_row(what, value)
    console = Console()
    console.print(table)
    console.print(f"Report: {page}", soft_wrap=True)


def write_page(folder: Path, sections, names: list[str]) -> Path:
    """The page with its figures as data URIs."""
    cards = "\n".join(
        f"<section class=card><h2>{name}</h2><dl>"
        + "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for what, value in rows)
        + "</dl></section>"
        for name, rows in sections
    )
    blocks = []
    for name in names:
        title, text = CAPTIONS[name]
        image = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        blocks.append(
            f'<figure id="{name}"><h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{image}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    template = Template((HERE / "report_template.html").read_text(encoding="utf-8"))
    page = folder / "report.html"
    page.write_text(template.substitute(cards=cards, figures="\n".join(blocks)), encoding="utf-8")
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "output", help="where the run wrote its files")
    parser.add_argument("--reference", type=Path, default=HERE / "data", help="folder of the reference data")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="SCF tolerance of the run, drawn as a line")
    parser.add_argument("--temperature", type=float, default=300.0, help="of the thermostat, K, drawn as a line")
    arguments = parser.parse_args()
    try:
        steps, results = collect(arguments.folder, arguments.reference)
    except analysis.InputError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    names = figures.save_all(arguments.folder, steps, results, arguments.tolerance, arguments.temperature)
    sections = summary(steps, results)
    print_summary(sections, write_page(arguments.folder, sections, names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
