"""Cloning: fitted point by point to a known model, does a fixed-point model reproduce it when it is iterated?

Small potentials are trained in mode ``direct``, p = G(p*) at the reference density and total charge, on densities,
energies and forces that come from exact solutions of charge equilibration.  Then they are compared with these on other
structures twice: point by point, as they were trained, and by their own self-consistent solution.  A map with a small
error at every point can still be wrong at its fixed point, where errors are multiplied by (1 - J)^-1, or have none.

The Fermi level is not among the labels.  At a given level a change of the geometry changes the charge of G(p*), and
the derivative of its energy is not the force, not even for the known model itself; at a given charge it is.  So the
level of a clone is defined up to a constant, which its comparison leaves out.

The clone has the known model's Gaussians and leaves self-interactions out of energy and field, so that the known model
is among those it can represent: p_loc = -χ/η, one matrix -1/η per atom, and a non-local energy bilinear in Δp and v.
There is no repulsion: nothing but the self-consistent density is to be learnt.
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write
from pydantic import Field
from rich.console import Console

from . import __version__
from .graph import graph_from_atoms
from .options import SCFOptions
from .reference import ChargeEquilibration, ReferenceOptions, exact_solution
from .scf.spectrum import jacobian_spectrum
from .self_consistent import SelfConsistentModel
from .train.archive import find_checkpoint, load_trained, solve
from .train.config import TrainConfig
from .train.data import Sample, batch_samples, make_samples
from .train.frames import Frame, load_data
from .train.load import apply_override
from .train.metrics import StructureErrors, align
from .train.modes import predict
from .train.progress import write_whole
from .train.run import train
from .train.schema import Section, validate

#: whether the charge falls with the Fermi level on every atom by construction (`monotone_charge`)
ARCHITECTURES = {"constrained": True, "unconstrained": False}
#: elements of the built-in structures, with their share
COMPOSITION = {"H": 0.35, "O": 0.25, "Na": 0.2, "Cl": 0.2}
#: sites per axis, distance between them and displacement of the atoms, Å
SITES, SPACING, DISPLACEMENT = (2, 2, 3), 3.0, 0.2
#: width of all Gaussians, Å
SIGMA = 1.5
#: the loop whose solution is compared
SCF = SCFOptions(num_scf_steps=200, scf_tolerance=1e-9)
#: keys of the structures' file that are trained on, and that of the Fermi level
FERMI_LEVEL = "REF_fermi_level"
KEYS = {
    "energy": "REF_energy",
    "forces": "REF_forces",
    "atomic_multipoles": "REF_atomic_multipoles",
    "total_charge": "total_charge",
    "external_field": "external_field",
}


class CloningOptions(Section):
    """What is cloned, on which structures, and how long."""

    teacher: Literal["charges", "both"] = "charges"
    """Charge equilibration, without or with induced dipoles."""
    structures: list[str] = Field(default=[])
    """Files of structures (anything ASE reads; total charge and external field F from their info); none: random."""
    train_frames: int = Field(default=64, gt=1)
    """Structures to train on; the next ``test_frames`` are compared."""
    test_frames: int = Field(default=16, gt=0)
    """Structures to compare on."""
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    """Seeds of the initial weights: one clone of each architecture for each."""
    density_epochs: int = Field(default=80, gt=0)
    """Epochs with losses on densities and energies."""
    force_epochs: int = Field(default=40, ge=0)
    """Further epochs with a loss on forces, too."""
    overrides: list[str] = Field(default=[])
    """``section.option=value`` of the training file, as for ``fixedpoint train``."""
    run_dir: str = "clone"
    """Folder of the structures, the runs and the report."""


@dataclass(frozen=True)
class Errors:
    """Root mean squares over all structures compared; charges also at their worst."""

    charge: float  #: e
    largest_charge: float  #: e
    atomic_dipole: float  #: e Å
    energy: float  #: eV per atom
    forces: float  #: eV/Å


@dataclass(frozen=True)
class Comparison:
    """A model beside the known one, point by point and self-consistently."""

    pointwise: Errors
    self_consistent: Errors
    fermi_level: float  #: standard deviation of the error of the self-consistent level, eV
    applications: float  #: of the map, mean
    most_applications: int
    converged: float  #: fraction of the structures
    smallest_eigenvalue: float  #: real part, of the Jacobian of the map, over all structures
    largest_eigenvalue: float


@dataclass(frozen=True)
class Clone:
    """One row of the report."""

    model: str
    seed: int | None
    seconds: float  #: of training
    comparison: Comparison


# ---- structures and labels ------------------------------------------------------------------------------------------


def random_structures(number: int, seed: int) -> list[Atoms]:
    """Atoms of `COMPOSITION` near the sites of a sheared grid, neutral; every other one open and in a field.

    They are no molecules or crystals: what is cloned are constants of the elements, and every structure has others
    at other distances.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SITES), indexing="ij"), -1).reshape(-1, 3)
    structures = []
    for index in range(number):
        cell = SPACING * (np.eye(3) + rng.normal(0, 0.06, (3, 3)))
        kept = grid[np.sort(rng.permutation(len(grid))[: rng.integers(len(grid) - 3, len(grid) + 1)])]
        positions = kept @ cell + np.clip(rng.normal(0, DISPLACEMENT, kept.shape), -0.45, 0.45)
        symbols = rng.choice(list(COMPOSITION), size=len(kept), p=list(COMPOSITION.values()))
        atoms = Atoms(symbols, positions=positions, info={"total_charge": 0.0})
        if index % 2:
            atoms.info["external_field"] = rng.normal(0, 0.1, 3)
        else:
            atoms.set_cell(np.array(SITES)[:, None] * cell)
            atoms.pbc = True
        structures.append(atoms)
    return structures


def read_structures(files: Sequence[str], number: int) -> list[Atoms]:
    """The first ``number`` structures of ``files``, dealt in a fixed random order, without their labels."""
    found: list[Atoms] = []
    for name in files:
        content = read(name, ":")
        found += content if isinstance(content, list) else [content]
    if len(found) < number:
        raise ValueError(f"{', '.join(files)}: {len(found)} structures, {number} are needed; use fewer frames")
    structures = []
    for index in np.random.default_rng(0).permutation(len(found))[:number]:
        atoms = found[index]
        plain = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        plain.info["total_charge"] = float(atoms.info.get("total_charge", 0.0))
        if "external_field" in atoms.info:
            plain.info["external_field"] = np.asarray(atoms.info["external_field"], dtype=float)
        structures.append(plain)
    return structures


def labelled(model: ChargeEquilibration, atoms: Atoms) -> Atoms:
    """``atoms`` with the exact solution of ``model`` as labels."""
    charge, field = atoms.info["total_charge"], atoms.info.get("external_field", np.zeros(3))
    graph = graph_from_atoms(
        atoms, model.elements, model.cutoff, torch.float64, total_charge=charge, external_field=field
    )
    exact = exact_solution(model, graph)
    atoms.info |= {"REF_energy": exact.energy.item(), FERMI_LEVEL: exact.fermi_level.item()}
    atoms.arrays["REF_forces"] = exact.forces.numpy()
    atoms.arrays["REF_atomic_multipoles"] = exact.density.numpy()
    return atoms


def write_structures(options: CloningOptions, path: Path) -> ChargeEquilibration:
    """Label the structures, write them with their set, and return the known model."""
    number = options.train_frames + options.test_frames
    given = bool(options.structures)
    structures = read_structures(options.structures, number) if given else random_structures(number, 0)
    symbols = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    known = ReferenceOptions.built_in(
        *symbols,
        polarizable=options.teacher == "both",
        atomic_multipoles_smearing_width=SIGMA,
        repulsion_energy=0.0,
    )
    model = ChargeEquilibration(known.without_self_interaction())
    for index, atoms in enumerate(structures):
        labelled(model, atoms).info["split"] = "train" if index < options.train_frames else "test"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, structures, format="extxyz")
    return model


# ---- training -------------------------------------------------------------------------------------------------------


def training_config(options: CloningOptions, data: Path, monotone: bool, seed: int, run_dir: Path) -> TrainConfig:
    """The training file of one clone."""
    # densities of 1 me count as much as forces of 1 eV/Å: they must not be given up for the energy
    loss, direct = {"atomic_multipoles": 1000.0, "energy_per_atom": 0.01}, {"mode": "direct"}
    stages: list[dict[str, Any]] = [
        {"name": "density", "epochs": options.density_epochs, "lr": 0.03, "lr_final": 0.001, "loss": loss}
    ]
    if options.force_epochs:
        loss = loss | {"forces": 0.001}
        stages.append({"name": "forces", "epochs": options.force_epochs, "lr": 0.03, "lr_final": 0.0001, "loss": loss})
    content: dict[str, Any] = {
        "run_dir": str(run_dir),
        "data": {"files": [str(data)], "keys": dict(KEYS), "split": {"key": "split"}, "valid_fraction": 0.0},
        "model": {
            "r_max": 4.5,
            "num_channels": 8,
            "max_ell": 1,
            "correlation": 1,
            "num_interactions": 1,
            "radial_MLP": [16],
            "readout_channels": 8,
            "atomic_multipoles_smearing_width": SIGMA,
            "field_feature_widths": [SIGMA],
            "use_linear_local_charges": True,
            "include_electrostatic_self_interaction": False,
            "fixedpoint_update_config": {"monotone_charge": monotone},
        },
        "training": {"batch_size": 4, "seed": seed, "num_threads": 1, "scf_eval_every": 0, "checkpoint_every": 50},
        "train_schedule": [stage | {"lr_decay": "cosine", "fixed_point_training_options": direct} for stage in stages],
    }
    for override in options.overrides:
        apply_override(content, override)
    return validate(content, TrainConfig, "clone")


# ---- comparison -----------------------------------------------------------------------------------------------------


def compare(model: SelfConsistentModel, samples: Sequence[Sample]) -> Comparison:
    """A model beside the labels of ``samples``, point by point and self-consistently."""
    batch = batch_samples(samples, range(len(samples)))
    point = predict(
        model,  # type: ignore[arg-type]
        batch.graph,
        "direct",
        None,
        batch.labels.multipoles,
        None,
        forces=True,
        stress=False,
        training=False,
    )
    solution = solve(model, batch.graph, SCF)  # type: ignore[arg-type]
    lowest, highest = zip(*(eigenvalue_range(model, sample) for sample in samples), strict=True)
    steps, status = solution["scf_steps"], solution["status"]
    level = (solution["fermi_level"] - batch.labels.fermi_level).std(unbiased=False)
    return Comparison(
        _errors(point, samples),
        _errors(solution, samples),
        float(level),
        float(steps.double().mean()),
        int(steps.max()),
        float((status == 0).double().mean()),
        float(np.min(lowest)),
        float(np.max(highest)),
    )


def eigenvalue_range(model: SelfConsistentModel, sample: Sample) -> tuple[float, float]:
    """Smallest and largest real part of the eigenvalues of the map's Jacobian at constant charge; NaN without one."""
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    settings = (SCF.num_scf_steps, SCF.scf_tolerance, SCF.mixing_parameter, SCF.solver)
    problem = model.solve(sample.graph, settings, True, False, nothing, nothing[:, 0]).fixed
    try:
        spectrum = jacobian_spectrum(model.solver.density_map, problem)
    except ValueError:
        return float("nan"), float("nan")
    return spectrum.smallest, spectrum.largest


def _errors(output: dict[str, torch.Tensor], samples: Sequence[Sample]) -> Errors:
    batch = batch_samples(samples, range(len(samples)))
    sums = StructureErrors()
    parts = {name: output[name] for name in ("energy", "forces", "density", "dipole", "fermi_level")}
    sums.add(parts, batch, ["all"] * len(samples))
    pairs = {name: sums.rmse_mae(name) for name in ("charge", "atomic_dipole", "energy", "forces")}
    rms = {name: pair[0] / 1000 for name, pair in pairs.items() if pair}
    largest = (output["density"] - batch.labels.multipoles)[:, 0].abs().max()
    return Errors(largest_charge=float(largest), **rms)


def clone(options: CloningOptions, console: Console | None = None, restart: bool = False) -> list[Clone]:
    """Train and compare all clones; the first row is the known model itself.

    Finished trainings in ``run_dir`` are used again.  Writes ``structures.extxyz``, one run folder per clone,
    ``cloning.csv``, ``cloning.json`` and ``table.txt``.
    """
    console = console or Console()
    folder = Path(options.run_dir)
    data = folder / "structures.extxyz"
    known = write_structures(options, data)
    rows: list[Clone] = []
    for seed in options.seeds:
        for name, monotone in ARCHITECTURES.items():
            run_dir = folder / f"{name}-{seed}"
            config = training_config(options, data, monotone, seed, run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            with open(run_dir / "train.log", "a", encoding="utf-8") as file:
                train(config, Console(file=file, width=200), restart)
            seconds = training_time(run_dir)
            model, state = load_trained(find_checkpoint(run_dir))
            test = test_frames(config)
            if not rows:
                rows.append(Clone("known model", None, 0.0, compare(known, _samples(test, known))))
            rows.append(Clone(name, seed, seconds, compare(model, _samples(test, model))))
            row = rows[-1].comparison
            console.print(
                f"{name}, seed {seed}: {state['epoch']} epochs, {seconds:.0f} s; charges point by point "
                f"{1000 * row.pointwise.charge:.2f} me, self-consistent {1000 * row.self_consistent.charge:.2f} me",
                highlight=False,
                soft_wrap=True,
            )
    write_whole(folder / "table.txt", table(rows) + "\n")
    _write_report(folder, options, rows)
    return rows


def test_frames(config: TrainConfig) -> list[Frame]:
    """The structures that clones are compared on, with their Fermi levels."""
    data = config.data.model_copy(deep=True)
    data.keys.fermi_level = FERMI_LEVEL
    return load_data(data).test


def training_time(run_dir: Path) -> float:
    """Seconds spent on the epochs of a run, interruptions left out."""
    with open(run_dir / "log.csv", newline="", encoding="utf-8") as file:
        return sum(float(row["time [s]"]) for row in csv.DictReader(file))


def _samples(frames: Sequence[Frame], model: SelfConsistentModel) -> list[Sample]:
    return make_samples(frames, model.elements, model.cutoff, torch.float64)


# ---- report ---------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Clone]) -> str:
    """The report as text, one row per clone; errors are root mean squares."""
    head = [
        "model",
        "seed",
        "point-wise charge [me] (largest)",
        "SCF charge [me] (largest)",
        "point-wise forces [meV/Å]",
        "SCF forces [meV/Å]",
        "SCF energy [meV/atom]",
        "applications (max)",
        "converged [%]",
        "eigenvalues of J",
    ]
    lines = [head]
    for row in rows:
        c = row.comparison
        point, scf = c.pointwise, c.self_consistent
        lines.append(
            [
                row.model,
                "-" if row.seed is None else str(row.seed),
                f"{1000 * point.charge:.2f} ({1000 * point.largest_charge:.2f})",
                f"{1000 * scf.charge:.2f} ({1000 * scf.largest_charge:.2f})",
                f"{1000 * point.forces:.1f}",
                f"{1000 * scf.forces:.1f}",
                f"{1000 * scf.energy:.2f}",
                f"{c.applications:.1f} ({c.most_applications})",
                f"{100 * c.converged:.0f}",
                f"{c.smallest_eigenvalue:.2f} ... {c.largest_eigenvalue:.2f}",
            ]
        )
    return align(lines)


def flat(row: Clone) -> dict[str, Any]:
    """One row with plain names and values, errors in e, e Å, eV and eV/Å."""
    content = asdict(row)
    comparison = content.pop("comparison")
    for part in ("pointwise", "self_consistent"):
        content |= {f"{part}_{name}": value for name, value in comparison.pop(part).items()}
    return content | comparison


def _write_report(folder: Path, options: CloningOptions, rows: Sequence[Clone]) -> None:
    flat_rows = [{name: _finite(value) for name, value in flat(row).items()} for row in rows]
    with open(folder / "cloning.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat_rows[0]))
        writer.writeheader()
        writer.writerows(flat_rows)
    software = {"fp_potential": __version__, "torch": torch.__version__, "python": platform.python_version()}
    report = {"options": options.model_dump(), "software": software, "rows": flat_rows}
    write_whole(folder / "cloning.json", json.dumps(report, indent=1) + "\n")


def _finite(value: Any) -> Any:
    """None in place of numbers that JSON does not have."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
