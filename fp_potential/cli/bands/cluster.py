"""``fixedpoint bands cluster SOURCES``: principal components and k-means of the potentials of several runs."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument(
        "sources",
        nargs="+",
        help="potentials of the same species: run folders, checkpoints, bundles, training files, or tables "
        "*_qSpace_pot.par of all species",
    )
    parser.add_argument("--clusters", type=int, metavar="K", help="number of clusters; default: by the silhouette")
    parser.add_argument("--components", type=int, default=2, metavar="N", help="principal components in the table")
    parser.add_argument("--largest", type=float, default=8.0, metavar="Q", help="largest q compared, 1/Bohr")
    parser.add_argument("--seed", type=int, default=0, help="of the starts of k-means")
    parser.add_argument("--output", metavar="DIR", help="folder for clusters.csv and clusters.pdf")


def run(arguments: argparse.Namespace) -> int:
    """Print the table; write it and a picture if asked."""
    from fp_potential.text_tables import aligned
    from fp_potential.train.bands.tools.cluster import clustered, clusters_table, read_curves, write_clusters

    curves = read_curves(arguments.sources, arguments.largest)
    found = clustered(curves, arguments.components, arguments.clusters, arguments.seed)
    print(aligned(clusters_table(found)))
    shares = ", ".join(f"{100 * share:.1f} %" for share in found.shares)
    print(f"variance of v(q) in the components: {shares}; silhouette of the clusters: {found.silhouette:.3f}")
    if arguments.output is not None:
        for path in write_clusters(found, arguments.output):
            print(f"wrote {path}")
    return 0
