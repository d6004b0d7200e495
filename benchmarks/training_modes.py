"""Memory and time of a training step in each mode: loss of energies and forces, forward and backward.

    python benchmarks/training_modes.py water_boxes.extxyz slab.extxyz.gz

Batches of 8 frames of the first file and of 1 of the second, with a freshly initialised model of the architecture of
examples/nacl_water/train.yaml. Every case runs in a process of its own, so that its peak is its own. Columns: the SCF
steps that the mode is given; applications of the map it made; the residual of the density it found; structures that
had to be unrolled for want of a solution; resident memory before the step and at its peak; time of a step, the faster
of ``--repeats`` after one that is not counted.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from fp_potential.train.data.read import read_frames
from fp_potential.train.potential.batch import Batch
from fp_potential.train.potential.config import Keys, LossWeights
from fp_potential.train.potential.losses import weighted_loss
from fp_potential.train.potential.modes import density as densities
from fp_potential.train.potential.modes.predict import MODES, predict
from fp_potential.train.potential.samples import batch_samples, make_samples
from fp_potential.train.potential.statistics import collect
from fp_potential.train.potential.trained import build_model
from fp_potential.train.trainer.memory import keep_freed_memory

from fp_potential.options import ModelOptions, ModelStatistics, SCFOptions

EXAMPLE = Path(__file__).parent.parent / "examples/nacl_water/train.yaml"
#: keys of the files; what a file does not hold is not needed
KEYS = {"energy": "REF_energy", "forces": "REF_forces", "total_charge": "total_charge"}
#: RMS of field features of real charges, for a model that has seen none: V and V times the factors of the receivers
NORMS = [15.0, 10.0, 0.5, 0.25]
TERMS = LossWeights(energy_per_atom=1.0, forces=1.0).terms()


def load(case: dict[str, Any], cutoff: float, dtype: torch.dtype) -> tuple[Batch, list[int], float]:
    """The first frames of a file, each repeated along its first vector; elements; average number of neighbours."""
    frames = read_frames([case["path"]], Keys(**KEYS), demanded=("forces",))[: case["frames"]]
    for frame in frames:
        frame.atoms = frame.atoms.repeat((case["copies"], 1, 1))
        frame.labels["forces"] = np.tile(frame.labels["forces"], (case["copies"], 1))
    sums = collect(frames, cutoff)
    elements = sums.numbers()
    samples = make_samples(frames, elements, cutoff, dtype)
    return batch_samples(samples, range(len(samples))), elements, sums.average_neighbours()


def resident() -> float:
    """Resident memory of this process, MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def one_case(case: dict[str, Any]) -> dict[str, Any]:
    """A model, a batch and a few steps in this process."""
    keep_freed_memory()
    torch.set_num_threads(case["threads"])
    if case["dense"] is not None:
        densities.DENSE_ATOMS = 10**9 if case["dense"] else 0
    dtype = getattr(torch, case["dtype"])
    options = ModelOptions(**case["model"])
    batch, elements, neighbours = load(case, options.r_max, dtype)
    statistics = ModelStatistics(
        atomic_energies=dict.fromkeys(elements, 0.0), avg_num_neighbors=neighbours, field_feature_norms=NORMS
    )
    torch.manual_seed(0)
    model = build_model(options, elements, statistics, dtype)
    scf = SCFOptions(num_scf_steps=case["steps"], mixing_parameter=0.3, scf_tolerance=1e-6)
    # a density of the right kind for the mode that starts from one
    start = torch.zeros(batch.graph.positions.shape[0], 4, dtype=dtype)
    mode = case["mode"]
    before, times = resident(), []
    for repeat in range(case["repeats"] + 1):
        begin = time.perf_counter()
        output = predict(model, batch.graph, mode, None if mode == "direct" else scf, start, None, True, False, True)
        loss = weighted_loss(output, batch, TERMS)[0]
        loss.backward()
        if repeat or not case["repeats"]:
            times.append(time.perf_counter() - begin)
        row = {name: output[name] for name in ("scf_steps", "residual", "fallback")}
        del output, loss
    return {
        "atoms": int(batch.num_atoms.max()),
        "applications": int(row["scf_steps"].max()),
        "residual": float(row["residual"].max()),
        "unrolled": int(row["fallback"].sum()),
        "seconds": min(times),
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", nargs="?", help="frames of which 8 make a batch")
    parser.add_argument("slab", nargs="?", help="frames of which the first is a batch")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 30, 100], help="SCF steps")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--update", help="fixedpoint_update_config as YAML, in place of the example's")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--repeats", type=int, default=2, help="steps to take the faster of")
    parser.add_argument("--head_scale", type=float, help="fixedpoint_initial_charge_head_scale")
    parser.add_argument("--crossover", action="store_true", help="linearize_solve with and without a matrix, by size")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_case(json.loads(arguments.one))))
        return
    if not arguments.batch and not arguments.slab:
        parser.error("give at least one file of frames")
    model = yaml.safe_load(EXAMPLE.read_text())["model"]
    if arguments.update:
        model["fixedpoint_update_config"] = yaml.safe_load(arguments.update)
    if arguments.head_scale:
        model["fixedpoint_initial_charge_head_scale"] = arguments.head_scale
    threads = torch.get_num_threads()
    print(
        f"{platform.node() or 'this machine'}, {cpu()}, {threads} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {arguments.dtype}, {model['fixedpoint_update_config']}"
    )
    fixed = {"model": model, "dtype": arguments.dtype, "repeats": arguments.repeats, "threads": threads}
    print(
        f"{'batch':>9}  {'mode':<29}{'steps':>6}{'applied':>8}{'residual':>10}{'unrolled':>9}"
        f"{'before, MB':>11}{'peak, MB':>10}{'s/step':>8}"
    )
    for case in crossover_cases(arguments) if arguments.crossover else cases(arguments):
        command = [sys.executable, __file__, "--one", json.dumps(case | fixed)]
        done = subprocess.run(command, capture_output=True, text=True)
        shown = "–" if case["mode"] == "direct" else case["steps"]
        name = case["mode"] + {None: "", True: ", dense", False: ", matrix-free"}[case["dense"]]
        if done.returncode:
            reason = "killed: out of memory?" if done.returncode < 0 else done.stderr.strip().splitlines()[-1]
            print(f"{case['frames']:>9}  {name:<29}{shown:>6}  {reason}", flush=True)
            continue
        r = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{case['frames']:>3} × {r['atoms']:>3}  {name:<29}{shown:>6}{r['applications']:>8}{r['residual']:>10.1e}"
            f"{r['unrolled']:>9}{r['before']:>11.0f}{r['peak']:>10.0f}{r['seconds']:>8.2f}",
            flush=True,
        )


def cases(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Modes and steps for both files."""
    for path, frames in ((arguments.batch, 8), (arguments.slab, 1)):
        for mode in arguments.modes if path else ():
            for steps in arguments.steps if mode != "direct" else arguments.steps[:1]:
                yield {"path": path, "frames": frames, "copies": 1, "mode": mode, "steps": steps, "dense": None}


def crossover_cases(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One to six copies of a frame side by side, and the slab, with and without a matrix."""
    for path, copies in [*((arguments.batch, k) for k in range(1, 7)), (arguments.slab, 1)]:
        for dense in (True, False) if path else ():
            common = {"mode": "linearize_solve", "steps": 100, "dense": dense}
            yield {"path": path, "frames": 1, "copies": copies} | common


def cpu() -> str:
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
