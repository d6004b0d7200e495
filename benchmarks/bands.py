"""Time and memory of bands and their gradients, against full diagonalisation with torch's derivative through it.

    python benchmarks/bands.py [--parts epoch perovskite growth] [--points 61] [--cutoffs 2 3 4 5 7 10] [--small]

epoch: bands of InAs, InP, GaAs and GaP at k from L to Gamma to X, cutoff 6 Ha, published basis, 16 bands of a network
of 3 × 20 neurons, squared deviation from flat bands and its gradient. "full" builds each matrix with its graph and
calls `torch.linalg.eigvalsh`; the network is evaluated at every pair of waves of each k, as the published code does
(there once more per atom), or at every shell |G - G'|. perovskite: 32 bands of CsPbI3 at R with spin-orbit and
non-local terms, cutoff 10 Ha (5034 components), from scratch and at the neighbouring k. growth: the same by cutoff,
iterative and dense, and with which power of the number of components the times of both grow between cutoffs.
--small takes 3 k-points and cutoffs up to 3 Ha: a test of the program in seconds.

Times are processor seconds (of all threads) and, in brackets, seconds; memory is the peak of the process so far.
"""

import argparse
import platform
import resource
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from fp_potential.bands import (
    Crystal,
    Hamiltonian,
    NeuralForm,
    PlaneWaves,
    Pseudopotential,
    Terms,
    ZeroForm,
    band_energies,
    solve,
)

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
III_V = {("In", "As"): 11.4485278, ("In", "P"): 11.0902357, ("Ga", "As"): 10.683, ("Ga", "P"): 10.2980625}
PEROVSKITE = {
    "Pb": (88.83, 2.605, 4.2869, 0.5195, 0.0, 7.7899, 1.064, -0.00808, 0.0),
    "I": (113.756, 2.1413, 2.8422, 0.5671, 0.0, 3.0344, 0.0451, 0.0022, 0.0),
    "Cs": (0.0, 0.73523927, 2.46919399, 1.33888287, 0.0, 0.0, 0.0, 0.0, 0.0),
}
R = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and seconds of a call."""
    processor, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - processor, time.perf_counter() - wall


def memory() -> float:
    """Peak resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def show(name: str, cost: tuple[float, float]) -> None:
    """One row of the table."""
    print(f"{name:58s} {cost[0]:9.2f} ({cost[1]:.2f}) s   {memory():7.0f} MB", flush=True)


def path(points: int) -> torch.Tensor:
    """k from L to Gamma to X ``(points, 3)``."""
    there = torch.linspace(1.0, 0.0, points // 3, dtype=torch.float64)[:, None] * torch.tensor([[0.5, 0.5, 0.5]])
    n = points - len(there)
    back = torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64)[1:, None] * torch.tensor([[0.0, 0.5, 0.5]])
    return torch.cat([there, back])


def by_pairs(hamiltonian: Hamiltonian, k: torch.Tensor, potential: Pseudopotential) -> torch.Tensor:
    """H ``(N, N)`` of a local potential, which is evaluated at every pair of waves."""
    basis, crystal = hamiltonian.basis, hamiltonian.crystal
    differences = basis.vectors[:, None] - basis.vectors[None]
    v = potential.local(differences.norm(dim=2).reshape(-1)).reshape(*differences.shape[:2], -1)
    phases = differences @ (crystal.positions @ crystal.cell).T
    structure = torch.polar(torch.ones_like(phases), phases) / crystal.volume
    rows = [potential.species.index(kind) for kind in crystal.species]
    kinetic = 0.5 * ((basis.vectors + hamiltonian.cartesian(k)) ** 2).sum(1)
    return (v[:, :, rows] * structure).sum(2) + torch.diag(kinetic)


def epoch(points: int) -> None:
    """Bands and gradient of the four crystals."""
    kinds, k = ("In", "Ga", "As", "P"), path(points)
    potential = Pseudopotential(kinds, NeuralForm([20, 20, 20], 4, generator=torch.Generator().manual_seed(0)))
    crystals = [Crystal(a * FCC, pair, np.array([[0.125] * 3, [-0.125] * 3])) for pair, a in III_V.items()]
    hamiltonians = [Hamiltonian(crystal, PlaneWaves(crystal, 6.0, "published")) for crystal in crystals]

    def ours() -> None:
        for hamiltonian in hamiltonians:
            (band_energies(hamiltonian, potential, k, 16) ** 2).sum().backward()

    def full(by_pair: bool) -> None:
        for hamiltonian in hamiltonians:
            for point in k:
                matrix = by_pairs(hamiltonian, point, potential) if by_pair else hamiltonian.matrix(point, potential)[0]
                (2.0 * torch.linalg.eigvalsh(matrix)[:8] ** 2).sum().backward()

    print(f"\nepoch: 4 crystals, {points} k, plane waves {[len(h.basis) for h in hamiltonians]}")
    gradients, costs = [], []
    rows: tuple[tuple[str, Callable[[], None]], ...] = (
        ("Hellmann–Feynman, only the bands asked for", ours),
        ("full, network at every pair of waves", lambda: full(True)),
        ("full, network at every shell", lambda: full(False)),
    )
    for name, call in rows:
        potential.zero_grad()
        costs.append(timed(call))
        show(name, costs[-1])
        gradients.append(torch.cat([p.grad.flatten() for p in potential.parameters() if p.grad is not None]))
    print(f"full, by processor time: {costs[1][0] / costs[0][0]:.1f} and {costs[2][0] / costs[0][0]:.1f} times")
    print(f"gradients differ by {float((gradients[0] - gradients[1]).norm() / gradients[1].norm()):.1e} (relative)")


def perovskite(max_ke: float) -> tuple[Hamiltonian, Pseudopotential]:
    """Cubic CsPbI3."""
    positions = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]])
    crystal = Crystal(11.884 * np.eye(3), ("Pb", "I", "I", "I", "Cs"), positions)
    parameters = torch.tensor([PEROVSKITE[kind] for kind in crystal.kinds], dtype=torch.float64)
    terms = Terms(analytic=True, spin_orbit=True, nonlocal_=True)
    return Hamiltonian(crystal, PlaneWaves(crystal, max_ke)), Pseudopotential(
        crystal.kinds, ZeroForm(3), parameters, terms
    )


def one_k(max_ke: float, dense: bool) -> tuple[int, float, float | None]:
    """From scratch, at the neighbouring k, its gradient, and by LAPACK; components and times of the two methods."""
    states = []
    found = perovskite(max_ke)
    hamiltonian, potential = found
    name = f"CsPbI3, cutoff {max_ke:g} ({hamiltonian.dimension(potential)} components)"
    show(f"{name}, basis", timed(lambda: perovskite(max_ke)))
    scratch = timed(lambda: states.append(solve(*found, R, 32, "iterative")))
    show(f"{name}, from scratch", scratch)
    show(f"{name}, neighbouring k", timed(lambda: states.append(solve(*found, 0.98 * R, 32, "iterative", states[0]))))
    show(f"{name}, gradient", timed(lambda: states[0].bands().sum().backward()))
    whole = None
    if dense:
        whole = timed(lambda: states.append(solve(*found, R, 32, "dense")))
        show(f"{name}, dense", whole)
        difference = (states[0].bands() - states[-1].bands()).detach().abs().max()
        print(f"bands differ by {float(difference):.1e} Ha")
    return hamiltonian.dimension(potential), scratch[0], None if whole is None else whole[0]


def power(before: tuple[int, float], now: tuple[int, float]) -> float:
    """Of the number of components, with which a time grows."""
    return float(np.log(now[1] / before[1]) / np.log(now[0] / before[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["epoch", "perovskite", "growth"])
    parser.add_argument("--points", type=int, default=61, help="k-points of the epoch")
    parser.add_argument("--cutoffs", nargs="+", type=float, default=[2.0, 3.0, 4.0, 5.0, 7.0], help="of growth, Ha")
    parser.add_argument("--small", action="store_true", help="a test of the program in seconds")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.points, arguments.cutoffs = 3, [2.0, 3.0]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if "perovskite" in arguments.parts:
        print("\nperovskite")
        one_k(3.0 if arguments.small else 10.0, dense=False)
    if "epoch" in arguments.parts:
        epoch(arguments.points)
    if "growth" in arguments.parts:
        print("\ngrowth")
        found = [one_k(cutoff, dense=cutoff <= 5.0) for cutoff in arguments.cutoffs]
        for (n0, iterative0, dense0), (n, iterative, dense) in pairwise(found):
            text = f"from {n0} to {n} components: iterative ^{power((n0, iterative0), (n, iterative)):.1f}"
            if dense0 is not None and dense is not None:
                text += f", dense ^{power((n0, dense0), (n, dense)):.1f}"
            print(text)


if __name__ == "__main__":
    main()
