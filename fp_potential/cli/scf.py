"""``fixedpoint scf model.pt structure.xyz``: the self-consistent loop of one structure, application by application."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fp_potential.cli.response import add_response_options, response_settings, response_text
from fp_potential.cli.scf_options import (
    add_kspace_options,
    add_scf_options,
    finite,
    given_kspace,
    given_scf_options,
)

if TYPE_CHECKING:
    import numpy as np

    from fp_potential.density.trace import LoopTrace
    from fp_potential.options import SCFOptions
    from fp_potential.scf.convergence import SCFRun
    from fp_potential.scf.diagnosis import Diagnosis
    from fp_potential.scf.spectrum import Spectrum
    from fp_potential.train.data.frame import Frame

SCF_OPTIONS = (
    "solver",
    "mixing_parameter",
    "num_scf_steps",
    "scf_tolerance",
    "initial_density",
    "initial_fermi_level",
    "constant_charge",
    "use_autograd_forces",
    "history",
)
#: keys of the structure file where the model's training names none
KEYS = {
    "total_charge": "total_charge",
    "electric_field": "electric_field",
    "fermi_level": "fermi_level",
    "atomic_multipoles": "REF_atomic_multipoles",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help="model archive (fixedpoint export)")
    parser.add_argument("structure", help="extended XYZ file")
    parser.add_argument("--frame", type=int, default=0, metavar="N", help="which frame of the file; -1 is the last")
    add_scf_options(parser, SCF_OPTIONS)
    add_kspace_options(parser)
    held = parser.add_mutually_exclusive_group()
    held.add_argument("--total_charge", type=finite, metavar="Q", help="e (default: the frame's, else 0)")
    held.add_argument("--constant_fermi", type=finite, metavar="MU", help="fix the Fermi level, eV, not the charge")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="key of the file, in place of the training's: atomic_multipoles=REF_atomic_multipoles, total_charge=Q",
    )
    parser.add_argument("--plot", metavar="FILE", help="write a figure of the residuals and the spectrum (png, pdf)")
    parser.add_argument(
        "--no_spectrum", action="store_true", help="leave the spectrum out; unstable solutions then go unnoticed"
    )
    add_response_options(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(arguments: argparse.Namespace) -> int:
    """Trace, explain; the exit status is 1 unless the loop converged to a stable solution."""
    import torch
    from ase.data import atomic_numbers

    from fp_potential.density.trace import trace_loop
    from fp_potential.electrostatics.memory import demand_memory, mesh_memory
    from fp_potential.export import load_model
    from fp_potential.graph import to_device
    from fp_potential.options.kspace import KSpace
    from fp_potential.scf.diagnosis import diagnose
    from fp_potential.train.potential.samples import make_sample
    from fp_potential.train.potential.structure_solver import structure_solver, tight

    wanted = response_settings(arguments)
    kspace = given_kspace(arguments)
    module, metadata = load_model(arguments.model, arguments.device)
    own = KSpace.of(module)
    kspace.apply(module)
    frame, keys, notes = _frame(arguments, metadata)
    options, level = _options(arguments, metadata, frame, keys)
    if arguments.total_charge is not None:
        frame.total_charge = arguments.total_charge
    start_level = frame.labels["fermi_level"]
    frame.labels["fermi_level"] = level
    dtype = getattr(torch, metadata["dtype"])
    elements = [atomic_numbers[symbol] for symbol in metadata["elements"]]
    device = torch.device(arguments.device)
    graph = to_device(make_sample(frame, elements, float(metadata["cutoff"]), dtype).graph, device)
    start = begin = None
    if options.initial_density == "from_data":
        start = torch.tensor(_multipoles(frame, str(keys["atomic_multipoles"])), dtype=dtype, device=device)
    if options.initial_fermi_level == "from_data":
        begin = torch.tensor([float(start_level)], dtype=dtype, device=device)

    idle = options.idle(given_scf_options(arguments, SCF_OPTIONS), bool(module.model.solver.density_map.affine))
    notes += [f"note: {sentence}" for sentence in idle + kspace.idle(own)]
    found = mesh_memory(module.model.electrostatics, graph.positions, graph.cell[0], graph.pbc[0])
    empty = demand_memory(found, device)
    notes += [f"WARNING: {empty}"] if empty else []
    print("\n".join([*notes, *_header(frame, options, arguments)]))
    trace = trace_loop(module.model, graph, options, start, begin, with_spectrum=not arguments.no_spectrum)
    print("\n".join(_table(trace, options.constant_charge)))
    for sentence in _far(frame, metadata, trace).values():
        print(f"WARNING: far outside the training of this model: {sentence}")
    if trace.spectrum is not None:
        print("\n".join(["", *_figures(trace.spectrum, trace.run)]))
    diagnosis = diagnose(trace.run, trace.spectrum)
    print(f"\n{diagnosis.text()}")
    if arguments.plot:
        plot(trace, diagnosis, arguments.plot)
        print(f"{arguments.plot}: written")
    if wanted is not None:
        given = given_scf_options(arguments, SCF_OPTIONS)
        asked = {name: value for name, value in given.items() if name in ("scf_tolerance", "num_scf_steps")}
        loop = tight(options, metadata).model_copy(update=asked)
        charge = frame.total_charge if options.constant_charge else float(trace.charges[-1])
        print("\n" + response_text(structure_solver(module, metadata, loop, device), frame, charge, wanted))
    return 0 if diagnosis.converged else 1


def _options(
    arguments: argparse.Namespace, metadata: dict[str, Any], frame: Frame, keys: dict[str, str | None]
) -> tuple[SCFOptions, float | None]:
    """Options of the loop, and the Fermi level that is held.

    Raises:
        ValueError: options that contradict one another or need a level that nobody gives.
    """
    from fp_potential.options import SCFOptions

    given = given_scf_options(arguments, SCF_OPTIONS)
    mu, label = arguments.constant_fermi, frame.labels["fermi_level"]
    if mu is not None and given.get("constant_charge") is True:
        raise ValueError("--constant_fermi holds the Fermi level, --constant_charge true the charge: leave one out")
    if arguments.total_charge is not None and given.get("constant_charge") is False:
        raise ValueError("--total_charge holds the charge, --constant_charge false the level: leave one out")
    if mu is not None or arguments.total_charge is not None:
        given["constant_charge"] = mu is None
    options = SCFOptions(**metadata["scf"]).changed(given, "--")
    if options.history != metadata["scf"]["history"]:
        raise ValueError(
            f"--history {options.history}: it is {metadata['scf']['history']} in this archive and fixed at export"
        )
    missing = f"the frame has no number under '{keys['fermi_level']}' (--key fermi_level=KEY names another)"
    if not options.constant_charge and mu is None and label is None:
        raise ValueError(f"to hold a Fermi level give --constant_fermi MU, or --total_charge Q for a charge: {missing}")
    if options.initial_fermi_level == "from_data" and label is None:
        raise ValueError(f"--initial_fermi_level from_data: {missing}")
    return options, None if options.constant_charge else float(label if mu is None else mu)


def _frame(arguments: argparse.Namespace, metadata: dict[str, Any]) -> tuple[Frame, dict[str, str | None], list[str]]:
    """The frame asked for, the keys it was read with, and what is to be said of that."""
    from fp_potential.distances import closest
    from fp_potential.train.data.neighbours import frame_neighbours, pair_distances
    from fp_potential.train.data.read import read_frames, reading_notes
    from fp_potential.train.potential.config import Keys
    from fp_potential.train.potential.evaluate import data_options, data_units

    trained = data_options(metadata, arguments.key)[0].model_dump(exclude_none=True)
    wanted = {**KEYS, "external_field": None}
    keys = {name: trained.get(name, default) for name, default in wanted.items()}
    if keys["external_field"] is not None:
        keys["electric_field"] = None
    units = data_units(metadata)
    frames = read_frames([arguments.structure], Keys(**keys), demanded=(), units=units)
    if not -len(frames) <= arguments.frame < len(frames):
        raise ValueError(f"--frame {arguments.frame}: {arguments.structure} has {len(frames)} frames, counted from 0")
    frame = frames[arguments.frame]
    notes = reading_notes([frame], Keys(**keys), units)
    pairs, cells = frame_neighbours(frame, float(metadata["cutoff"]))
    near = closest(frame.atoms.numbers, pairs, pair_distances(frame, pairs, cells))
    if arguments.use_autograd_forces is not None:
        notes.append("note: --use_autograd_forces changes forces only, of which this command prints none")
    return frame, keys, notes + ([f"WARNING: {near}"] if near else [])


def _far(frame: Frame, metadata: dict[str, Any], trace: LoopTrace) -> dict[str, str]:
    """What of the frame, and of the end of its loop, is far outside the training."""
    from fp_potential.distances import shortest_by_elements
    from fp_potential.train.data.neighbours import frame_neighbours, pair_distances
    from fp_potential.training_ranges import far_density, far_distances, far_inputs, ranges_of

    ranges, atoms = ranges_of(metadata), frame.atoms
    if not ranges:
        return {}
    pairs, cells = frame_neighbours(frame, float(metadata["cutoff"]))
    shortest = shortest_by_elements(atoms.numbers, pairs, pair_distances(frame, pairs, cells))
    charge, level = float(trace.charges[-1]), float(trace.levels[-1])
    iterates = trace.run.iterates
    return {
        **far_inputs(ranges, charge, level, frame.external_field, len(atoms)),
        **far_distances(ranges, shortest),
        **({} if iterates is None else far_density(ranges, atoms.numbers, iterates[-1])),
    }


def _multipoles(frame: Frame, key: str) -> np.ndarray:
    multipoles = frame.labels["atomic_multipoles"]
    if multipoles is None:
        present = ", ".join(sorted(set(frame.atoms.arrays) - {"numbers", "positions"})) or "none"
        raise ValueError(
            f"{frame.source}: --initial_density from_data needs the array '{key}' with columns q d_y d_z d_x "
            f"(--key atomic_multipoles=NAME names another); arrays present: {present}"
        )
    return multipoles


def _header(frame: Frame, options: SCFOptions, arguments: argparse.Namespace) -> list[str]:
    if options.constant_charge:
        held = f"total charge {frame.total_charge:g} e"
        if "total_charge" not in frame.given and arguments.total_charge is None:
            held += " (the frame gives none)"
    else:
        held = f"Fermi level {frame.labels['fermi_level']:g} eV"
    solver = options.solver + (f", mixing_parameter {options.mixing_parameter:g}" if options.solver == "linear" else "")
    start = "the local guess" if options.initial_density == "local_guess" else "the reference multipoles"
    return [
        f"{frame.source}: {len(frame.atoms)} atoms, {held}",
        f"solver {solver}; from {start}; at most {options.num_scf_steps} applications to {options.scf_tolerance:g}",
        "",
    ]


def _table(trace: LoopTrace, constant_charge: bool) -> list[str]:
    name = "E(p)" if constant_charge else "Omega(p)"
    lines = [
        f"{'application':>11} {'residual':>10} {'charge':>13} {'Fermi level':>13} {name:>17}",
        f"{'':>11} {'e, eÅ':>10} {'e':>13} {'eV':>13} {'eV':>17}",
    ]
    rows = zip(trace.run.history, trace.charges, trace.levels, trace.energies, strict=True)
    for number, (residual, charge, level, energy) in enumerate(rows, 1):
        # adding zero takes the sign off rounded zeros
        lines.append(f"{number:11d} {residual:10.3e} {round(charge, 6) + 0.0:13.6f} {level:13.6f} {energy:17.6f}")
    lines.append(
        f"energy {trace.energy:.6f} eV, corrected by the adjoint (its residual: {trace.adjoint_residual:.1e}, relative)"
    )
    return lines


def _figures(spectrum: Spectrum, run: SCFRun) -> list[str]:
    """The spectrum, and what it means for solvers."""
    from fp_potential.scf.spectrum import linear_applications

    reduction = run.tolerance / max(float(run.history[0]), run.tolerance)
    krylov = spectrum.krylov_applications(reduction)
    lines = [
        f"spectrum of the map's Jacobian at the last density ({spectrum.applications} applications of its transpose)",
        f"  smallest real part   {spectrum.smallest:9.4f} ± {spectrum.smallest_error:.0e}",
        f"  largest real part    {spectrum.largest:9.4f} ± {spectrum.largest_error:.0e}   (1 or more: unstable)",
        f"  largest modulus      {spectrum.modulus:9.4f}",
        f"applications from this start to {run.tolerance:g}, estimated from it",
        "  Anderson, GMRES      " + (f"more than {spectrum.applications}" if krylov is None else f"{krylov}"),
    ]
    best = spectrum.best_linear_mixing()
    if best is None:
        lines.append("  linear               never converges")
    else:
        lines.append(
            f"  linear, at best      {linear_applications(best[1], reduction):.0f} with mixing_parameter {best[0]:.2g} "
            f"(factor {best[1]:.3f} per application); diverges above {spectrum.largest_stable_mixing():.2g}"
        )
    if run.solver == "linear":
        factor = spectrum.linear_factor(run.mixing)
        count = f"{linear_applications(factor, reduction):.0f}" if factor < 1.0 else "diverges"
        lines.append(f"  linear, as here      {count} with {run.mixing:g} (factor {factor:.3f} per application)")
    if not spectrum.converged:
        lines.append("  the ends are not found to the usual accuracy: read them with their errors")
    return lines


def plot(trace: LoopTrace, diagnosis: Diagnosis, path: str) -> None:
    """Figure of the residuals (logarithmic) and, where known, the spectrum; the ending of ``path`` is the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fp_potential.files import naming

    run, spectrum = trace.run, trace.spectrum
    figure = Figure(figsize=(9.0 if spectrum is not None else 5.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot(1, 2 if spectrum is not None else 1, 1)
    left.semilogy(range(1, len(run.history) + 1), run.history, "o-", markersize=3)
    left.axhline(run.tolerance, color="0.5", linestyle="--", linewidth=1)
    left.set_xlabel("applications of the map")
    left.set_ylabel("mean residual (e, eÅ)")
    left.set_title(f"{run.solver}: {diagnosis.kind.value}", fontsize=10)
    if spectrum is not None:
        right = figure.add_subplot(1, 2, 2)
        right.plot(spectrum.values.real, spectrum.values.imag, ".", markersize=5)
        right.axvline(1.0, color="0.5", linestyle="--", linewidth=1)
        right.set_xlabel("real part")
        right.set_ylabel("imaginary part")
        right.set_title("eigenvalues of the map's Jacobian; unstable from 1", fontsize=10)
    with naming(path):
        figure.savefig(path)
