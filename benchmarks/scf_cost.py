"""Cost of one SCF iteration beside the backbone's, and memory against the number of iterations.

    python benchmarks/scf_cost.py [--atoms 648] [--train examples/nacl_water/train.yaml]

A box of water, float64, one thread, weights at random (times do not depend on them) in the architecture of the training
file.  The backbone's forward-backward is `local` (features, local energy and density, response of every atom) and the
derivatives of a random sum of these by the positions.  An iteration is everything the loop does between two
densities: field, update, Fermi level, residual, Anderson step; it is the difference between loops of 24 and 4
applications with a tolerance that is never met, divided by 20.  Memory is the largest resident set of a fresh process
that runs an energy and forces with that many applications.
"""

import argparse
import platform
import resource
import subprocess
import sys

import torch
import yaml

from fp_potential.density.problem import own_start
from fp_potential.density.self_consistent import strained
from fp_potential.graph import Graph, graph_from_atoms
from fp_potential.model import FixedPointPotential
from fp_potential.options import ModelOptions, ModelStatistics
from fp_potential.scf.settings import LoopSettings

from common import SIZES, seconds, water  # isort: skip

UPDATES = {
    "one-body, affine": {},
    "symmetric": {"type": "SymmetricUpdate"},
    "one-body MLP": {"nonlinearity_cls": "MLPNonLinearity"},
    "many-body": {"type": "ManyBodyUpdate"},
}
NEVER = 1e-300


def build(options: dict, update: str, atoms: int) -> tuple[FixedPointPotential, Graph]:
    """A model of the architecture with this update, and the box."""
    torch.manual_seed(0)
    model_options = ModelOptions(**(options | {"fixedpoint_update_config": UPDATES[update]}))
    statistics = ModelStatistics(
        atomic_energies={1: 0.0, 8: 0.0, 11: 0.0, 17: 0.0},
        avg_num_neighbors=20.0,
        field_feature_norms=[10.0] * len(model_options.field_feature_widths)
        + [0.7] * len(model_options.field_feature_widths),
    )
    model = FixedPointPotential(model_options, [1, 8, 11, 17], statistics).to(torch.float64)
    model.requires_grad_(False)
    graph = graph_from_atoms(water(SIZES[atoms]), model.elements, model.cutoff, torch.float64)
    return model, graph


def evaluate(model: FixedPointPotential, graph: Graph, steps: int, forces: bool) -> dict[str, torch.Tensor]:
    """The loop with exactly ``steps`` applications."""
    settings = LoopSettings(steps, NEVER, 0.3, "anderson")
    return model.evaluate(graph, settings, own_start(graph.positions), True, forces, forces)


def backbone(model: FixedPointPotential, graph: Graph) -> None:
    """Forward and backward of everything that is computed once per geometry."""
    positions = graph.positions.detach().requires_grad_(True)
    strain = torch.zeros_like(graph.cell).requires_grad_(True)
    _, vectors, _ = strained(graph, positions, strain)
    local = model.local(graph, vectors)
    tensors = [local.energy, local.density, *local.response[:6]]
    used = [t for t in tensors if isinstance(t, torch.Tensor) and t.requires_grad]
    torch.autograd.grad([t.square().sum() for t in used], [positions, strain])


def memory(steps: int, arguments: argparse.Namespace) -> float:
    """Largest resident set, MiB, of a process with loops of ``steps`` applications."""
    command = [sys.executable, __file__, "--atoms", str(arguments.atoms), "--train", arguments.train]
    done = subprocess.run([*command, "--memory_of", str(steps)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--atoms", type=int, choices=list(SIZES), default=648)
    parser.add_argument("--train", default="examples/nacl_water/train.yaml", help="its `model` section is used")
    parser.add_argument("--memory_of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with open(arguments.train) as file:
        options = yaml.safe_load(file)["model"]
    options["field_feature_norms"] = None
    if arguments.memory_of is not None:
        model, graph = build(options, "one-body, affine", arguments.atoms)
        evaluate(model, graph, arguments.memory_of, True)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(f"{platform.machine()}, torch {torch.__version__}, one thread, float64, {arguments.atoms} atoms")
    print(f"{'update':18} {'backbone':>12} {'iteration':>12} {'share':>8}")
    print(f"{'':18} {'[ms]':>12} {'[ms]':>12} {'[%]':>8}")
    for update in UPDATES:
        model, graph = build(options, update, arguments.atoms)
        base = seconds(lambda m=model, g=graph: backbone(m, g))  # type: ignore[misc]
        shares = []
        for _ in range(5):
            long = seconds(lambda m=model, g=graph: evaluate(m, g, 24, False), 1)  # type: ignore[misc]
            short = seconds(lambda m=model, g=graph: evaluate(m, g, 4, False), 1)  # type: ignore[misc]
            shares.append((long - short) / 20)
        iteration = sorted(shares)[2]
        print(f"{update:18} {1e3 * base:12.1f} {1e3 * iteration:12.2f} {100 * iteration / base:8.2f}", flush=True)
    few, many = memory(10, arguments), memory(200, arguments)
    change = 100 * (many / few - 1)
    print(f"largest resident set with num_scf_steps 10: {few:.0f} MiB, 200: {many:.0f} MiB ({change:+.1f} %)")


if __name__ == "__main__":
    main()
