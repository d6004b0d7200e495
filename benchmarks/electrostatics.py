"""Time and memory of the electrostatics: growth with the number of atoms, and beside other programs.

    python benchmarks/electrostatics.py [--sizes 1029 8232 65856 526848] [--accuracy 1e-5]
    python benchmarks/electrostatics.py --others
    python benchmarks/electrostatics.py --crossover
    python benchmarks/electrostatics.py --memory

Boxes of water with charges and dipoles, sigma 1.5 Å, features of widths 1.5 and 3.0 Å, one thread unless said.  An
application is field features from a density; what the geometry alone decides is prepared before, and timed apart.
Times are medians, of processor time for one thread; ratios are of calls in the same run.  The error is the relative
rms error of the forces of E_C, against the exact sum over reciprocal vectors up to 3 000 atoms, against a mesh of 1e-9
above.
"""

import argparse
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from fp_potential.electrostatics import Electrostatics
from fp_potential.units import GRADIENT_FEATURE, SCALAR_FEATURE

from common import water  # isort: skip
from electrostatics_others import GraphLongrange, nvalchemi, torch_pme  # isort: skip

SIGMA, WIDTHS = 1.5, [1.5, 3.0]
CUTOFF_FACTOR = 1.5  # of the k-sum: the default of the model
APPLICATIONS = 10
REFERENCE_ACCURACY, EXACT_ATOMS = 1e-9, 3000
GROWTH_TIME = 2.0  # s of calls of each size at least: those of small boxes take a millisecond
ENOUGH = 10.0  # s of one program's calls after which no more are made


def operator(method: str, accuracy: float) -> Electrostatics:
    """The operator of the example's architecture."""
    e = Electrostatics(SIGMA, WIDTHS, CUTOFF_FACTOR, False, True)
    e.set_kspace(method, accuracy)
    return e


class System:
    """A box of water, or a droplet cut from one, with charges and dipoles."""

    def __init__(self, atoms: Atoms, dtype: torch.dtype, device: str = "cpu", densities: int = APPLICATIONS) -> None:
        g = torch.Generator().manual_seed(1)
        charges = torch.tensor(np.where(atoms.numbers == 8, -0.7, 0.35))
        self.densities = []
        for _ in range(densities):
            density = 0.05 * torch.randn(len(atoms), 4, dtype=torch.float64, generator=g)
            density[:, 0] = charges
            self.densities.append(density.to(device, dtype))
        self.positions = torch.tensor(atoms.positions).to(device, dtype)
        self.cell = torch.tensor(atoms.cell.array).to(device, dtype).unsqueeze(0)
        self.pbc = torch.tensor(np.array([atoms.pbc])).to(device)
        self.batch = torch.zeros(len(atoms), dtype=torch.int64, device=device)
        self.readout = torch.randn(len(atoms), len(WIDTHS), 4, dtype=torch.float64, generator=g).to(device, dtype)

    def prepare(self, e: Electrostatics, positions: Tensor | None = None):  # type: ignore[no-untyped-def]
        """The cache of one geometry."""
        x = self.positions if positions is None else positions
        return e.prepare(x, self.cell, self.pbc, self.batch, False)

    def energy(self, e: Electrostatics, cache, density: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        """E_C."""
        return 0.5 * (density * e.potentials(cache, density, False)).sum()

    def forces(self, e: Electrostatics) -> Tensor:
        """Of E_C, with preparation."""
        x = self.positions.clone().requires_grad_(True)
        return -torch.autograd.grad(self.energy(e, self.prepare(e, x), self.densities[0]), x)[0]

    def work(self, e: Electrostatics) -> tuple[Tensor, Tensor]:
        """Preparation, one application per density, energy: read-out of all, and forces of that."""
        x = self.positions.clone().requires_grad_(True)
        cache = self.prepare(e, x)
        total = self.energy(e, cache, self.densities[0])
        for density in self.densities:
            total = total + (self.readout * e.field(cache, density, False)).sum()
        return total.detach(), torch.autograd.grad(total, x)[0]


def box(atoms: int) -> Atoms:
    """About as many atoms of water, in a periodic box; large ones are copies side by side."""
    edge = max(1, round((atoms / 3) ** (1 / 3)))
    copies = 1
    while edge > 7 and edge % 2 == 0:
        edge, copies = edge // 2, copies * 2
    return water((edge, edge, edge)).repeat((copies, copies, copies))


def droplet(atoms: int) -> Atoms:
    """A compact cluster of exactly 3 · (atoms // 3) atoms of water, no axis periodic."""
    molecules = atoms // 3
    out = water((round(molecules ** (1 / 3) + 1.5),) * 3)
    centre = out.positions[::3] - out.positions[::3].mean(0)
    kept = np.argsort((centre**2).sum(1), kind="stable")[:molecules]
    out = out[np.sort(np.concatenate([3 * kept + k for k in range(3)]))]
    out.pbc = False
    return out


def stopwatch() -> Callable[[], float]:
    """Processor time where all work is done by one thread: other programs do not lengthen it much."""
    return time.perf_counter if torch.cuda.is_available() or torch.get_num_threads() > 1 else time.process_time


def medians(*functions: Callable[[], object], repeats: int = 5, least: float = 0.0) -> list[float]:
    """Median times of calls taken in turns after a warm-up: ``repeats`` of each, ``least`` seconds of all at least."""
    on_gpu, clock = torch.cuda.is_available(), stopwatch()
    times: list[list[float]] = [[] for _ in functions]
    calls = 0
    while calls <= repeats or sum(map(sum, times)) < least:
        for row, function in zip(times, functions, strict=True):
            begin = clock()
            function()
            if on_gpu:
                torch.cuda.synchronize()
            if calls > 0:
                row.append(clock() - begin)
        calls += 1
    return [statistics.median(row) for row in times]


def force_error(atoms: Atoms, system: System, e: Electrostatics) -> float:
    """Relative rms error of the forces of E_C."""
    exact = operator("reciprocal" if len(atoms) <= EXACT_ATOMS else "mesh", REFERENCE_ACCURACY)
    expected = System(atoms, torch.float64, densities=1).forces(exact)
    return float((system.forces(e).cpu().double() - expected).norm() / expected.norm())


def growth(arguments: argparse.Namespace) -> None:
    """µs per atom and application, by number of atoms."""
    print(f"\nmesh, kspace_accuracy {arguments.accuracy:g}; µs per atom; growth: application against the first size")
    print(f"{'':8} {'atoms':>8} {'order':>5} {'points':>12} {'error':>9} {'prepare':>9} {'apply':>9} {'growth':>7} ")
    for dtype in (torch.float64, torch.float32):
        first = None
        for atoms in arguments.sizes:
            structure = box(atoms)
            system = System(structure, dtype, arguments.device, densities=1)
            n = len(structure)
            e = operator("mesh", arguments.accuracy)
            with torch.no_grad():
                cache = system.prepare(e)
                prepare, apply = medians(
                    lambda s=system, e=e: s.prepare(e),  # type: ignore[misc]
                    lambda s=system, e=e, c=cache: e.field(c, s.densities[0], False),  # type: ignore[misc]
                    repeats=arguments.repeats,
                    least=GROWTH_TIME,
                )
            each = 1e6 * apply / n
            first = first or each
            order, shape = cache.meshes[0].order, "×".join(str(points) for points in cache.meshes[0].layout.shape)
            error = f"{force_error(structure, system, e):9.1e}" if n <= arguments.largest_error else f"{'':9}"
            print(
                f"{str(dtype)[6:]:8} {n:8d} {order:5d} {shape:>12} {error} {1e6 * prepare / n:9.2f} {each:9.2f} "
                f"{each / first:7.2f}",
                flush=True,
            )


def memory(arguments: argparse.Namespace) -> None:
    """Peak of resident memory per atom, of fresh processes."""
    print("\nlargest resident set above that before the first preparation, kB per atom, float64")
    print(f"{'atoms':>8} {'ten applications':>18} {'with forces':>12}")
    for atoms in arguments.sizes:
        command = [sys.executable, __file__, "--memory-of", str(atoms), "--accuracy", str(arguments.accuracy)]
        each = []
        for forces in ([], ["--forces"]):
            done = subprocess.run([*command, *forces], capture_output=True, text=True, check=True)
            each.append(float(done.stdout))
        print(f"{atoms:8d} {each[0]:18.1f} {each[1]:12.1f}", flush=True)


def memory_of(arguments: argparse.Namespace) -> None:
    """Print what one box takes, kB per atom."""
    e = operator("mesh", arguments.accuracy)
    System(box(192), torch.float64).work(e)
    system = System(box(arguments.memory_of), torch.float64, densities=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if arguments.forces:
        system.densities = system.densities * APPLICATIONS
        system.work(e)
    else:
        with torch.no_grad():
            cache = system.prepare(e)
            for _ in range(APPLICATIONS):
                e.field(cache, system.densities[0], False)
            system.energy(e, cache, system.densities[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((peak - before) / len(system.positions))


def others(arguments: argparse.Namespace) -> None:
    """Side by side with other programs."""
    for grid in ((9, 9, 9), (16, 16, 8)):
        system, e = System(water(grid), torch.float64), operator("mesh", arguments.accuracy)
        compare_forward(system, e, arguments.repeats)
        theirs = GraphLongrange.installed(SIGMA, WIDTHS, e.kspace_cutoff)
        print(f"preparation, {APPLICATIONS} applications, energy; forward and backward")
        if theirs is None:
            print("graph-longrange is not installed")
        else:
            compare_work(system, e, theirs, arguments.repeats)


def compare_forward(system: System, e: Electrostatics, repeats: int) -> None:
    """One application beside one of a PME; lists of neighbours are made before."""
    x, cell, density = system.positions, system.cell[0], system.densities[0]
    charges, n = density[:, 0].clone(), len(x)
    width = math.hypot(SIGMA, WIDTHS[0])
    with torch.no_grad():
        cache = system.prepare(e)
        rows: list[tuple[str, Callable[[], object] | None]] = [
            ("mesh, application: charges and dipoles, 2 widths", lambda: e.field(cache, density, False)),
            ("mesh, preparation", lambda: system.prepare(e)),
            ("torch-pme, PME: point charges", torch_pme(x, cell, charges, None, 0.9)),
            ("torch-pme, its mesh alone: charges, 1 width", torch_pme(x, cell, charges, width, 0.9)),
            ("nvalchemi-toolkit-ops, PME: point charges", nvalchemi(x, cell, charges, 1.0)),
        ]
        present = [function for _, function in rows if function is not None]
        times = iter(medians(*present, repeats=repeats))
    print(f"\n{n} atoms, float64, forward only, kspace_accuracy {e.accuracy:g}")
    print(f"{'':54} {'µs/atom':>9} {'/ first':>8}")
    first = None
    for name, function in rows:
        if function is None:
            print(f"{name:54} not installed")
            continue
        t = next(times)
        first = first or t
        print(f"{name:54} {1e6 * t / n:9.2f} {t / first:8.2f}", flush=True)


def compare_work(system: System, e: Electrostatics, theirs: GraphLongrange, repeats: int) -> None:
    """The same sums and forces by the mesh, our k-sum and graph-longrange: times, and by how much they differ."""
    n = len(system.positions)
    # its features are scaled, and ordered (scalars, vectors) over widths
    scale = torch.tensor([[SCALAR_FEATURE] + [GRADIENT_FEATURE * w] * 3 for w in WIDTHS], dtype=torch.float64)
    scaled = system.readout / scale
    readout = torch.cat([scaled[:, :, 0], scaled[:, :, 1:].reshape(n, -1)], dim=1)
    exact = operator("reciprocal", 1e-5)
    calls: list[tuple[str, Callable[[], tuple[Tensor, Tensor]]]] = [
        ("mesh", lambda: system.work(e)),
        ("sum over reciprocal vectors", lambda: system.work(exact)),
        ("graph-longrange", lambda: theirs.work(system.positions, system.cell[0], system.densities, readout)),
    ]
    clock, results, times = stopwatch(), [], []
    for _, function in calls:
        taken: list[float] = []
        while not taken or (len(taken) < repeats and sum(taken) < ENOUGH):
            begin = clock()
            result = function()
            taken.append(clock() - begin)
        results.append(result)
        times.append(statistics.median(taken))
    for (name, _), (_, forces), t in zip(calls, results, times, strict=True):
        difference = float((forces - results[-1][1]).norm() / results[-1][1].norm())
        print(f"{name:54} {1e6 * t / n:9.2f} {t / times[0]:8.2f}   forces differ by {difference:.1e} from the last")


def crossover(arguments: argparse.Namespace) -> None:
    """The mesh beside the exact methods for small structures."""
    print(f"\npreparation, {APPLICATIONS} applications, energy; forward and backward; ms")
    automatic = operator("auto", arguments.accuracy)
    sizes = [24, 81, 192, 375, 648, 1029, 1536]
    for title, method, make in (("TTT", "reciprocal", box), ("FFF", "open", droplet)):
        print(f"{title:8} {'atoms':>8} {method:>12} {'mesh':>12} {'ratio':>8}  auto takes")
        for atoms in sizes:
            system = System(make(atoms), torch.float64, arguments.device)
            exact, mesh = operator(method, arguments.accuracy), operator("mesh", arguments.accuracy)
            a, b = medians(
                lambda s=system, e=exact: s.work(e),  # type: ignore[misc]
                lambda s=system, e=mesh: s.work(e),  # type: ignore[misc]
                repeats=arguments.repeats,
            )
            print(
                f"{'':8} {len(system.positions):8d} {1e3 * a:12.2f} {1e3 * b:12.2f} {a / b:8.2f}  "
                f"{'mesh' if len(system.prepare(automatic).meshes) else method}",
                flush=True,
            )


def processor() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1029, 8232, 65856, 526848], help="numbers of atoms")
    parser.add_argument("--accuracy", type=float, default=1e-5, help="kspace_accuracy of the mesh")
    parser.add_argument("--largest-error", type=int, default=70000, help="most atoms for which the error is measured")
    parser.add_argument("--repeats", type=int, default=5, help="calls per time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="for the growth and the crossover")
    parser.add_argument(
        "--others", action="store_true", help="beside torch-pme, nvalchemi-toolkit-ops, graph-longrange"
    )
    parser.add_argument("--crossover", action="store_true", help="beside the exact methods, small structures")
    parser.add_argument("--memory", action="store_true", help="memory per atom")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--forces", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of is not None:
        memory_of(arguments)
        return
    print(
        f"{processor()}, Python {platform.python_version()}, torch {torch.__version__}, {arguments.threads} thread(s), "
        f"{arguments.device}"
    )
    asked = [arguments.others, arguments.crossover, arguments.memory]
    for wanted, table in zip([not any(asked), *asked], (growth, others, crossover, memory), strict=True):
        if wanted:
            table(arguments)


if __name__ == "__main__":
    main()
