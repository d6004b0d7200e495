"""``fixedpoint bands cluster TABLE ...``: principal components and clusters of local potentials."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument("tables", nargs="+", help="two or more tables of q and v(q), *_qSpace_pot.dat of several runs")
    parser.add_argument("--clusters", type=int, default=2, metavar="N", help="number of clusters (k-means)")
    parser.add_argument("--q-max", type=float, default=8.0, metavar="1/BOHR", help="largest q that counts")
    parser.add_argument("--seed", type=int, default=0, help="of the first centres of the clusters")


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each table: its components along the first two directions, and its cluster."""
    from pathlib import Path

    from fp_potential.train.bands.cluster import cluster, read_curves

    curves = read_curves([Path(name) for name in arguments.tables], arguments.q_max)
    found = cluster(curves, arguments.clusters, arguments.seed)
    share = ", ".join(f"{100 * part:.1f} %" for part in found.variance[:3])
    print(f"variance of the first components: {share}")
    for name, row, label in zip(arguments.tables, found.components, found.labels, strict=True):
        print(f"{name}  {row[0]:12.5f} {row[1] if len(row) > 1 else 0.0:12.5f}  cluster {label}")
    return 0
