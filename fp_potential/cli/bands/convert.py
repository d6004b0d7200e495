"""``fixedpoint bands convert SOURCE OUTPUT``: training file ↔ bundle; bands of other programs into a bundle."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument(
        "source",
        help="a published bundle (folder), a training file (YAML), or bands: data-file-schema.xml or the filband of "
        "Quantum ESPRESSO, eqp.dat or bandstructure.dat of BerkeleyGW",
    )
    parser.add_argument("output", help="training file (.yaml) or folder of the bundle to write")
    parser.add_argument("--inline", action="store_true", help="tables in the training file itself, not by file name")
    group = parser.add_argument_group("bands of other programs")
    group.add_argument("--structure", metavar="FILE", help="the crystal: what ASE reads, or a system_X.par")
    group.add_argument(
        "--kpoints",
        metavar="FILE",
        help="fractional k-points in the order of the bands: a pw.x input with K_POINTS crystal or crystal_b, or rows "
        "k1 k2 k3 [weight]",
    )
    group.add_argument("--max-ke", type=float, metavar="HARTREE", help="cutoff of the plane waves to write")
    group.add_argument("--bands", metavar="FIRST:LAST", help="bands to take, counted from 1; default: all")
    group.add_argument("--mean-field", action="store_true", help="of BerkeleyGW: mean-field in place of GW energies")
    group.add_argument("--spinor", action="store_true", help="bands with spin-orbit coupling: none is listed twice")
    group.add_argument("--shift", type=float, default=0.0, metavar="EV", help="added to all energies")


def run(arguments: argparse.Namespace) -> int:
    """Convert; says what was written."""
    from pathlib import Path

    from fp_potential.train.bands.bundle.convert import to_bundle, to_yaml
    from fp_potential.train.bands.bundle.read import is_bundle, read_bundle
    from fp_potential.train.bands.config import load_config

    source, output = Path(arguments.source), Path(arguments.output)
    if not source.exists():
        raise ValueError(f"{source}: does not exist; expected a bundle, a training file or bands of another program")
    notes: list[str] = []
    if is_bundle(source):
        if output.suffix not in (".yaml", ".yml"):
            raise ValueError(f"output '{output}': a bundle becomes a training file; expected a name that ends in .yaml")
        if output.exists():
            raise ValueError(f"output '{output}' exists; expected a new file")
        to_yaml(read_bundle(source, notes=notes), output, arguments.inline)
    elif source.suffix in (".yaml", ".yml"):
        to_bundle(load_config(source, notes=notes), output)
    else:
        return _of_another_program(arguments, source, output)
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {output}")
    return 0


def _of_another_program(arguments: argparse.Namespace, source, output) -> int:  # type: ignore[no-untyped-def]
    from pathlib import Path

    from fp_potential.train.bands.bundle.other_programs import Choice, add_to_bundle, read

    if arguments.max_ke is None:
        raise ValueError("--max-ke: bands of another program need the cutoff that the bundle will have, in Hartree")
    choice = Choice(
        structure=None if arguments.structure is None else Path(arguments.structure),
        kpoints=None if arguments.kpoints is None else Path(arguments.kpoints),
        bands=arguments.bands,
        mean_field=arguments.mean_field,
        spinor=arguments.spinor,
        shift=arguments.shift,
    )
    number = add_to_bundle(output, read(source, choice), arguments.max_ke)
    print(
        f"wrote system_{number}.par, input_{number}.par, kpoints_{number}.par, expBandStruct_{number}.par in {output}"
    )
    missing = [path.name for path in [output / "NN_config.par"] if not path.is_file()]
    print("a bundle has besides: " + ", ".join([*missing, "init_<atom>Params.par of each species"]))
    return 0
