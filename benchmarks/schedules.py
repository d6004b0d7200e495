"""Training schedules side by side: direct alone, and direct followed by each mode that runs the model's own loop.

    python benchmarks/schedules.py nacl xtb_nacl.extxyz.gz --modes direct unroll_scf implicit linearize_solve
        [--direct 40] [--unrolled 15] [--update OneBodyVariableUpdate] [--channels 16]

All schedules share the same direct epochs. What follows lasts equally long in each: as many epochs as fit into the
processor time of ``--unrolled`` epochs of `unroll_scf` (10 applications, mixing 0.3, from the data), after one epoch of
each mode has been timed. Losses, learning rates (0.005 falling to 1e-4) and weight averages are the same. Errors are
those of the test set through the model's own loop, from its local guess to 1e-8 within 100 applications of linear
mixing 0.2 (as the method runs it) and of the accelerated loop.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from fp_potential.train.config.schema import validate
from fp_potential.train.potential.config import TrainConfig
from fp_potential.train.potential.evaluate import evaluate
from fp_potential.train.potential.trained import find_checkpoint, load_trained, training_summary
from fp_potential.train.run import train
from rich.console import Console

from fp_potential.export import export_model

KEYS = {
    "energy": "REF_energy",
    "forces": "REF_forces",
    "atomic_multipoles": "REF_atomic_multipoles",
    "dipole": "REF_dipole",
    "total_charge": "total_charge",
    "electric_field": "external_field",
}
LOSS = {"energy_per_atom": 2000.0, "forces": 100.0, "atomic_multipoles": 5000.0, "dipole_per_atom": 500.0}
UNROLL = {
    "num_scf_steps": 10,
    "mixing_parameter": 0.3,
    "initial_density": "from_data",
    "initial_fermi_level": "from_data",
}
EXACT = {"num_scf_steps": 100, "mixing_parameter": 0.25, "scf_tolerance": 1e-6}
OPTIONS: dict[str, dict[str, Any]] = {
    "direct": {"mode": "direct"},
    "unroll_scf": {"mode": "unroll_scf", "scf": UNROLL},
    "implicit": {"mode": "implicit", "scf": EXACT},
    "linearize_solve": {"mode": "linearize_solve", "scf": EXACT},
}


def configuration(arguments: argparse.Namespace, folder: Path, mode: str, epochs: int) -> TrainConfig:
    """Direct epochs, then ``epochs`` of ``mode``."""
    direct = {"name": "direct", "epochs": arguments.direct, "lr": 0.01, "loss": LOSS}
    direct["fixed_point_training_options"] = OPTIONS["direct"]
    second = {"name": mode, "epochs": epochs, "lr": 0.005, "lr_final": 1e-4, "loss": LOSS}
    second["fixed_point_training_options"] = OPTIONS[mode]
    return validate(
        {
            "run_dir": str(folder),
            "data": {
                "files": [str(Path(name).absolute()) for name in arguments.files],
                "keys": {k: v for k, v in KEYS.items() if k != "electric_field" or arguments.field},
                "split": {"key": "split"},
                "valid_fraction": 0.0,
            },
            "model": {
                "num_channels": arguments.channels,
                "radial_MLP": [32, 32],
                "fixedpoint_update_config": {"type": arguments.update},
            },
            "training": {
                "batch_size": 8,
                "group_by_size": True,
                "num_threads": 1,
                "default_dtype": "float32",
                "seed": arguments.seed,
                "scf_eval_every": 0,
            },
            "train_schedule": [direct, second] if epochs else [direct],
        },
        TrainConfig,
        "benchmark",
    )


def run(arguments: argparse.Namespace, folder: Path, mode: str, epochs: int) -> float:
    """Train on from the direct epochs; returns the processor time of the second stage (s)."""
    config = configuration(arguments, folder, mode, epochs)
    begin = time.process_time()
    with open(os.devnull, "w") as nowhere:
        train(config, Console(file=nowhere))
    return time.process_time() - begin


def errors(arguments: argparse.Namespace, folder: Path, scf: dict[str, Any]) -> tuple[list[float], float, float]:
    """RMSE (meV/atom, meV/Å, me, me·Å), mean applications and percentage converged on the test set."""
    path = find_checkpoint(folder)
    model, state = load_trained(path)
    archive = folder / "model.pt"
    export_model(model, archive, training=training_summary(state, "average"))
    result = evaluate(archive, arguments.files, {"num_scf_steps": 100, "scf_tolerance": 1e-8, **scf}, "test")
    values = [result.errors.rmse_mae(name) for name in ("energy", "forces", "charge", "atomic_dipole")]
    loop = result.errors.scf()
    assert loop is not None
    return [pair[0] if pair else float("nan") for pair in values], loop[0], loop[2]


def main() -> None:
    """Train every schedule and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--modes", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument("--direct", type=int, default=40, help="epochs of the direct stage")
    parser.add_argument("--unrolled", type=int, default=15, help="epochs of unroll_scf; the other modes last as long")
    parser.add_argument("--update", default="OneBodyVariableUpdate")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--field", action="store_true", help="the files hold the physical field as external_field")
    parser.add_argument("--folder", type=Path, default=Path("runs/schedules"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, torch {torch.__version__}, one thread; {arguments.name}, {arguments.update}, "
        f"{arguments.channels} channels",
        flush=True,
    )
    base = arguments.folder / arguments.name
    shutil.rmtree(base, ignore_errors=True)
    shared = run(arguments, base / "shared", "direct", 0)
    print(f"direct: {arguments.direct} epochs, {shared:.0f} s of processor time", flush=True)

    def continued(mode: str, epochs: int, purpose: str) -> tuple[Path, float]:
        folder = base / f"{mode}_{purpose}"
        shutil.copytree(base / "shared", folder)
        return folder, run(arguments, folder, mode, epochs)

    # what a call costs beside its epochs (reading, statistics, test table) is in both of these
    overhead = run(arguments, base / "shared", "direct", 0)
    timed = {mode: [continued(mode, 1, f"timed_{k}")[1] for k in range(2)] for mode in arguments.modes}
    cost = {mode: min(seconds) - overhead for mode, seconds in timed.items()}
    budget = arguments.unrolled * cost.get("unroll_scf", max(cost.values()))
    print(
        f"{'second stage':<18}{'epochs':>7}{'s':>7}{'s/epoch':>9}{'meV/atom':>10}{'meV/Å':>8}{'me':>7}{'me·Å':>7}"
        f"{'linear 0.2':>14}{'accelerated':>14}",
        flush=True,
    )
    for mode in arguments.modes:
        epochs = max(1, round(budget / cost[mode]))
        folder, spent = continued(mode, epochs, "trained")
        values, steps, converged = errors(arguments, folder, {"solver": "anderson"})
        _, linear_steps, linear = errors(arguments, folder, {"solver": "linear", "mixing_parameter": 0.2})
        print(
            f"{mode:<18}{epochs:>7}{spent - overhead:>7.0f}{cost[mode]:>9.2f}"
            f"{values[0]:>10.2f}{values[1]:>8.1f}{values[2]:>7.2f}{values[3]:>7.2f}"
            f"{f'{linear:.0f} % ({linear_steps:.0f})':>14}{f'{converged:.0f} % ({steps:.0f})':>14}",
            flush=True,
        )
    print("converged: percent (mean applications); errors of the accelerated loop", file=sys.stdout)


if __name__ == "__main__":
    main()
