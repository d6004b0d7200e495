"""Training and comparison of all clones."""

import csv
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..density.self_consistent import SelfConsistentModel
from ..files import write_whole
from ..reference import ReferenceModel
from ..train.config.load import apply_override
from ..train.config.schema import validate
from ..train.data.frame import Frame
from ..train.data.sets import load_data
from ..train.potential.charging import ChargingCollector, softness_of
from ..train.potential.config import TrainConfig
from ..train.potential.samples import Sample, make_samples
from ..train.potential.trained import find_checkpoint, load_trained
from ..train.run import train
from .compare import compare
from .options import ARCHITECTURES, BY_DATA, FERMI_LEVEL, KEYS, SIGMA, CloningOptions
from .report import Clone, table, write_report
from .structures import has_levels, write_structures


def architecture(name: str, conducting: Sequence[str]) -> dict[str, Any]:
    """Options of a clone's ``model``, if ``conducting`` elements may conduct."""
    changes = deepcopy(ARCHITECTURES[name])
    update = changes["fixedpoint_update_config"]
    if update.get("metallic") == BY_DATA:
        update["metallic"] = list(conducting)
    return changes


def may_conduct(frames: Sequence[Frame]) -> list[str]:
    """Elements that take the charge that is added in ``frames``; all of them, if they do not say it of any."""
    collector, symbols = ChargingCollector(), set()
    for frame in frames:
        collector.add(frame)
        symbols |= set(frame.atoms.symbols)
    charging = collector.finish()
    return sorted(symbol for symbol in symbols if softness_of(charging, symbol)[0] > 0) or sorted(symbols)


def training_config(
    options: CloningOptions, data: Path, changes: dict[str, Any], seed: int, run_dir: Path
) -> TrainConfig:
    """The training file of one clone; ``changes`` of its ``model``."""
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
            # the known model has none, and few structures leave nearer pairs to the test set
            "core_repulsion": 0.0,
            "include_electrostatic_self_interaction": False,
        }
        | changes,
        "training": {"batch_size": 4, "seed": seed, "num_threads": 1, "scf_eval_every": 0, "checkpoint_every": 50},
        "train_schedule": [stage | {"lr_decay": "cosine", "fixed_point_training_options": direct} for stage in stages],
    }
    for override in options.overrides:
        apply_override(content, override)
    return validate(content, TrainConfig, "clone")


def clone(options: CloningOptions, console: Console | None = None, restart: bool = False) -> list[Clone]:
    """Train and compare all clones; the first row is the known model itself.

    Finished trainings in ``run_dir`` are used again.  Writes ``structures.extxyz``, one run folder per clone,
    ``cloning.csv``, ``cloning.json`` and ``table.txt``.
    """
    console = console or Console()
    folder = Path(options.run_dir)
    data = folder / "structures.extxyz"
    known = write_structures(options, data)
    able = may_conduct(load_data(training_config(options, data, {}, 0, folder).data).train)
    rows: list[Clone] = []
    for seed in options.seeds:
        for name in options.clones:
            run_dir = folder / f"{name}-{seed}"
            config = training_config(options, data, architecture(name, able), seed, run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            with open(run_dir / "train.log", "a", encoding="utf-8") as file:
                train(config, Console(file=file, width=200), restart)
            seconds = training_time(run_dir)
            model, state = load_trained(find_checkpoint(run_dir))
            test = test_frames(config, known)
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
    write_report(folder, options, rows)
    return rows


def test_frames(config: TrainConfig, known: ReferenceModel) -> list[Frame]:
    """The structures that clones are compared on, with the Fermi levels of the known model if it has any."""
    data = config.data.model_copy(deep=True)
    if has_levels(known):
        data.keys.fermi_level = FERMI_LEVEL
    return load_data(data).test


def training_time(run_dir: Path) -> float:
    """Seconds spent on the epochs of a run, interruptions left out."""
    with open(run_dir / "log.csv", newline="", encoding="utf-8") as file:
        return sum(float(row["time [s]"]) for row in csv.DictReader(file))


def _samples(frames: Sequence[Frame], model: SelfConsistentModel) -> list[Sample]:
    return make_samples(frames, model.elements, model.cutoff, torch.float64)
