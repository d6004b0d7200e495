"""``fixedpoint import-mace water.model start.pt``: a mace-torch model's weights as the start of a training."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help=".model file of mace-torch (MACE or ScaleShiftMACE), which must be installed")
    parser.add_argument("output", help="file to write")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="the file comes from someone you trust: it is a pickle, and reading it runs whatever code it holds",
    )
    parser.add_argument("--elements", nargs="+", metavar="X", help="symbols of the elements to keep (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights that mace-torch does not have")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what the training file needs."""
    import yaml
    from ase.data import atomic_numbers, chemical_symbols

    from fp_potential.train.errors import InputError, nearest
    from fp_potential.train.potential.initialise.mace_weights import load_mace

    for symbol in arguments.elements or []:
        if symbol not in chemical_symbols[1:]:
            raise InputError(f"--elements {symbol}: no element; {nearest(symbol, chemical_symbols[1:])}")
    elements = [atomic_numbers[symbol] for symbol in arguments.elements] if arguments.elements else None
    weights = load_mace(arguments.model, elements, arguments.trust, arguments.seed)
    weights.save(arguments.output)
    print(f"{arguments.output}: backbone and energy read-outs of {arguments.model}")
    print("".join(f"- {remark}\n" for remark in weights.remarks), end="")
    energies = {chemical_symbols[z]: energy for z, energy in weights.atomic_energies.items()}
    print(
        "\nThe training file must have these options of the model; with these E0s energies are those of mace-torch:\n"
    )
    print(yaml.safe_dump({"model": weights.options, "statistics": {"E0s": energies}}, sort_keys=False), end="")
    return 0
