"""How well a model knows the electrode: on geometries that no training frame shows, over charge and Fermi level.

    python evaluate.py model.pt                 # tables on the held-out geometries, profiles.png
    python evaluate.py model.pt --split train   # the same where the model was trained

Reference and model are compared at the same total charge and at the same Fermi level; the reference of forces at
constant level are the same forces, as both ensembles have one density. dμ/dQ is the inverse of a capacitance: per pair
of neighbouring charges from DFT, from the model at these charges, and from a central difference of the model in their
middle, where dE/dQ + μ says whether the model's level is the derivative of its energy.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase.io import read

from measures import Compared, Model, Slope, added_to, by_geometry, compare, errors, field_inside, rms, slopes
from profiles import Profile, draw, layers, three

HERE = Path(__file__).parent


def print_errors(groups: dict[str, list[Compared]]) -> None:
    """Errors (RMS) of each geometry and of all frames."""
    columns = {f"{name} ({len(group)})": errors(group) for name, group in groups.items()}
    everything = [compared for group in groups.values() for compared in group]
    columns[f"all ({len(everything)})"] = errors(everything)
    print("RMS errors" + " " * 16 + "".join(f"{name:>18}" for name in columns))
    for row in next(iter(columns.values())):
        print(f"{row:<26}" + "".join(f"{values[row]:>18.4g}" for values in columns.values()))


def print_slopes(found: dict[str, list[Slope]], step: float) -> None:
    """dμ/dQ of every pair of neighbouring charges."""
    print(f"\ndμ/dQ [V/e]; the model's own difference with ±{step:g} e in the middle of both charges")
    print(f"{'':<14}{'Q [e]':>18}{'DFT':>10}{'model':>10}{'its own':>10}{'dE/dQ + μ [meV]':>18}")
    for name, rows in found.items():
        for row in rows:
            charges = f"{row.first:.3f} to {row.second:.3f}"
            values = "".join(f"{value:>10.3f}" for value in (row.reference, row.model, row.own))
            print(f"{name:<14}{charges:>18}{values}{1000 * row.defect:>18.2f}")
    every = [row for rows in found.values() for row in rows]
    error, defect = rms([row.model - row.reference for row in every]), 1000 * rms([row.defect for row in every])
    print(f"{'RMS error':<14}{'':>18}{'':>10}{error:>10.3f}{'':>10}{defect:>18.2f}")


def print_profiles(groups: dict[str, list[Profile]], metal: str) -> None:
    """Charges of the layers at up to three total charges, DFT and model."""
    for name, profiles in groups.items():
        parts = layers(profiles[0].atoms, metal)
        print(f"\n{name}: charge of the layers [e], DFT | model")
        print(f"{'':<16}{'atoms':>6}" + "".join(f"{f'Q = {profile.charge:.3f}':>20}" for profile in profiles))
        for layer, atoms in parts.items():
            cells = [f"{p.reference[atoms].sum():.3f} | {p.model[atoms].sum():.3f}" for p in profiles]
            print(f"{layer:<16}{len(atoms):>6}" + "".join(f"{cell:>20}" for cell in cells))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="archive of `fixedpoint export`")
    parser.add_argument("--data", type=Path, default=HERE / "data" / "charged.extxyz.xz")
    parser.add_argument("--split", default="test", help="train, valid or test (default: %(default)s)")
    parser.add_argument("--step", type=float, default=0.02, help="of the model's own differences, e")
    parser.add_argument("--tolerance", type=float, default=1e-8, help="of the self-consistency, e and e Å")
    parser.add_argument("--metal", default="Cu", help="element of the electrode (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=HERE / "profiles.png", help="picture of the charge profiles")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    frames = [atoms for atoms in read(arguments.data, ":") if atoms.info["split"] == arguments.split]
    if not frames:
        parser.error(f"{arguments.data} has no frame with split={arguments.split}")
    model = Model(arguments.model, arguments.tolerance)
    groups = {name: compare(model, group) for name, group in by_geometry(frames).items()}
    print_errors(groups)
    several = {name: group for name, group in groups.items() if len(group) > 1}
    if several:
        print_slopes({name: slopes(model, group, arguments.step) for name, group in several.items()}, arguments.step)
        for name, group in several.items():
            taken = " | ".join(f"{part:.3f}" for part in added_to(group, arguments.metal))
            print(f"{name}: part of the added charge that the metal takes, DFT | model: {taken}")
    inside = field_inside(model, frames[0], arguments.metal)
    print(f"\nthe metal alone, in a field across it: field in its middle / applied {inside:.2e}")
    profiles = {
        name: three([Profile(c.atoms, c.charge, c.atoms.arrays["REF_charges"], c.at_charge.charges) for c in group])
        for name, group in (several or groups).items()
    }
    print_profiles(profiles, arguments.metal)
    draw(profiles, arguments.output, arguments.metal)
    print(f"\nprofiles: {arguments.output}")
    if model.failures:
        print(f"{len(model.failures)} calculations failed and are left out:", *model.failures[:5], sep="\n  ")
    return 0 if all(np.isfinite(c.at_charge.energy) for group in groups.values() for c in group) else 1


if __name__ == "__main__":
    raise SystemExit(main())
