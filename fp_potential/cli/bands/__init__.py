"""``fixedpoint bands <tool>``: tools for pseudopotentials fitted to band structures.

A tool is a module here with ``add_arguments(parser)`` and ``run(arguments) -> int | None``, as commands are.
"""

from __future__ import annotations

import argparse
import importlib

#: tool -> what it does; the module is fp_potential.cli.bands.<tool>
TOOLS = {
    "eval": "bands on any k-points and their errors; gaps, deformation potentials, effective masses",
    "plot": "pictures of bands, potentials and costs from files",
    "density": "the charge density of bands, as a cube or xsf file",
    "decompose": "what T, V_loc, V_nl and V_so contribute to the bands",
    "cluster": "principal components and k-means of the potentials of several runs",
    "ensemble": "several seeds of one training file: mean and spread of bands and potentials",
    "convert": "a training file as a published bundle, and back; bands of other programs into a bundle",
    "primitive": "the primitive cell of a crystal",
    "keys": "the keys of published settings files, and what they are here",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tools, each with its arguments."""
    tools = parser.add_subparsers(dest="tool", required=True, metavar="tool")
    for name, text in TOOLS.items():
        module = importlib.import_module(f"{__package__}.{name}")
        tool = tools.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.add_arguments(tool)
        tool.add_argument("--traceback", action="store_true", help="show where an error was raised")
        tool.set_defaults(run=module.run)


def run(arguments: argparse.Namespace) -> int:
    """Run the tool."""
    return int(arguments.run(arguments) or 0)
