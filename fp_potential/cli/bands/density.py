"""``fixedpoint bands density RUN OUTPUT``: the charge density of some bands on a grid of the cell."""

from __future__ import annotations

import argparse

from fp_potential.cli.bands.common import add_common, asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    add_common(parser)
    parser.add_argument("output", help="file to write: .cube or .xsf")
    parser.add_argument("--bands", metavar="FIRST:LAST", help="bands, from 0, both included (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Write the density; says how many electrons it holds."""
    from pathlib import Path

    import torch

    from fp_potential.bands import solve
    from fp_potential.bands.density import charge_density, write_density

    found = asked(arguments)
    first, last = _range(arguments.bands, found.n_bands)
    states = solve(found.hamiltonian, found.potential, found.k, found.n_bands)
    occupations = torch.zeros(found.n_bands, dtype=torch.float64)
    occupations[first : last + 1] = 1.0
    density = charge_density(states, occupations)
    write_density(Path(arguments.output), found.hamiltonian.crystal, density)
    electrons = float(density.mean()) * found.hamiltonian.crystal.volume
    print(f"bands {first} … {last}, {len(found.k)} k-points: {electrons:.6f} electrons; wrote {arguments.output}")
    return 0


def _range(text: str | None, n_bands: int) -> tuple[int, int]:
    if text is None:
        return 0, n_bands - 1
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--bands {text}: expected FIRST:LAST, numbers from 0")
    first, last = int(parts[0]), int(parts[-1])
    if not first <= last < n_bands:
        raise ValueError(f"--bands {text}: expected 0 <= FIRST <= LAST < {n_bands}")
    return first, last
