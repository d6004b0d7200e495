"""Boxes of water and a stopwatch for the benchmarks."""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io.lammpsdata import write_lammps_data

SIZES = {192: (4, 4, 4), 648: (6, 6, 6), 1536: (8, 8, 8)}
SPACING = 3.106  # Å between molecules: water at 1.0 g/cm3


def water(grid: tuple[int, int, int], seed: int = 0) -> Atoms:
    """Water molecules on a grid, turned at random: the density of the liquid, and no contacts that upset a model."""
    rng = np.random.default_rng(seed)
    out = Atoms()
    for site in np.ndindex(*grid):
        w = molecule("H2O")
        w.rotate(rng.uniform(0, 360), rng.normal(size=3))
        w.translate(np.array(site) * SPACING)
        out += w
    out.set_cell(np.diag(grid) * SPACING)
    out.pbc = True
    return out


def dynamics_of_water(
    folder: Path,
    unit: tuple[int, int, int],
    elements: list[str],
    replicas: tuple[int, ...],
    style: str,
    step: float,
) -> str:
    """Commands of LAMMPS up to the first ``run``: a box of ``unit`` molecules, replicated, at constant energy, with
    timesteps of ``step`` ps.

    ``style`` are the commands of the pair style; the box's data file goes into ``folder``.
    """
    data = folder / "box.data"
    write_lammps_data(data, water(unit), specorder=elements, atom_style="charge", masses=True)
    return f"""units metal
atom_style charge
newton on
read_data {data}
replicate {" ".join(map(str, replicas))}
{style}
velocity all create 300 1 mom yes loop geom
neighbor 1.0 bin
timestep {step}
fix 1 all nve
"""


def fastest(*functions: Callable[[], object], rounds: int = 12) -> list[float]:
    """Shortest time of each call, taken in turns after two warm-ups: for differences on a machine that is not quiet."""
    times = [math.inf] * len(functions)
    for k in range(rounds + 2):
        for number, function in enumerate(functions):
            begin = time.perf_counter()
            function()
            if k >= 2:
                times[number] = min(times[number], time.perf_counter() - begin)
    return times


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Median time of a call after two warm-ups."""
    times = []
    for k in range(repeats + 2):
        begin = time.perf_counter()
        function()
        if k >= 2:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)
