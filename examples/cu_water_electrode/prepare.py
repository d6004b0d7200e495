"""The data of this example from frames of TRECI: keys, levels that were not printed, splits by whole geometry.

    python prepare.py write FOLDER      # data/*.extxyz.xz from FOLDER/cu111_water_*_train.extxyz.gz
    python prepare.py water             # data/water.extxyz.xz from the other two
    python prepare.py check             # what the files hold, and whether energies and Fermi levels belong together

TRECI (github.com/michelegiovannibianchi/TRECI, MIT, data/LICENSE-TRECI) has VASP calculations (R2SCAN) of Cu(111)
between layers of water in a cell that is periodic in three directions, neutral ones and ones at given electrode
potentials. The frames read here hold its numbers under plain names: TOTEN (`REF_energy`), forces, Bader charges, NELECT
as total charge, the grand-canonical energy as published, the potential, and the Fermi level where an OUTCAR printed it.

What is changed. Positions, cells and energies stay.
- Forces are rounded to 1e-4 eV/Å, charges to 1e-5 e, and keys that are not needed are gone.
- ``geometry`` says which frames have the same positions at different charges; they are always in one set.
- Total charges below 1e-4 e (rounding of Bader charges) are zero.
- ``kind`` is ``pinned`` for neutral frames of a charged electrode's geometries: their levels lie at states of water.
- ``REF_fermi_level`` of the steps of a potential search without a printed level is computed from the published numbers
  (``level_from`` is ``published``; the others are ``OUTCAR``): see `published_level`.

Bader charges say nothing of atomic dipoles, and without a label water ends up many times too polarizable. So there are
groups of waters, cut from training frames, whose polarizability is that of so many molecules: 1.470 Å³ each, measured
in the gas (Murphy, J. Chem. Phys. 67, 5897 (1977), doi:10.1063/1.434794), in all directions.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

HERE = Path(__file__).parent
CHARGED, NEUTRAL, WATER = (HERE / "data" / f"{name}.extxyz.xz" for name in ("charged", "neutral", "water"))
TEST = ("m125_case_1", "m175_case_0")
VALID = ("pzc_case_3", "neutral_100", "neutral_104", "neutral_21")
POLARIZABILITY = 1.470 * 0.069446  # e Å²/V, of a water molecule
MOLECULES, GROUPS = 6, 30  # waters of a group, and groups
SHE = 4.44  # eV, the absolute potential of the standard hydrogen electrode used in TRECI
TARGETS = {"m05": -3.94, "m075": -3.69, "m1": -3.44, "m125": -3.19, "m15": -2.94, "m175": -2.69, "m2": -2.44}


def smearing(frames: list[Atoms], charge: float) -> float:
    """Energy without the entropy of smearing minus TOTEN (eV), interpolated in charge over frames of one geometry."""
    known = []
    for atoms in frames:
        info = atoms.info
        plain = info["energy_as_published"] if info["total_charge"] == 0 else info.get("E_wo_entropy")
        if plain is not None:
            known.append((info["total_charge"], plain - info["REF_energy"]))
    return float(np.interp(charge, *zip(*sorted(known), strict=True)))


def published_level(atoms: Atoms, frames: list[Atoms]) -> float:
    """The Fermi level (eV) of a charged frame from published numbers.

    A search for the potential whose level is t (`TARGETS`) publishes E₀ + Q (t - s), with E₀ the energy without the
    entropy of smearing and s the shift between the level of the cell and the one against vacuum, and the potential
    U = -(μ + s) - 4.44 V. The first gives s, the second μ. E₀ - TOTEN, some 100 meV that vary by 10 to 30 over all
    charges of a geometry, is interpolated where it is not known.
    """
    info = atoms.info
    charge = info["total_charge"]
    plain = info["REF_energy"] + smearing(frames, charge)
    shift = TARGETS[info["label"]] - (info["energy_as_published"] - plain) / charge
    return -(info["U_vs_SHE"] + SHE) - shift


def slim(atoms: Atoms, **info) -> Atoms:
    """Structure, forces, charges, and ``info``."""
    out = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    out.arrays["REF_forces"] = np.round(atoms.arrays["REF_forces"], 4)
    out.arrays["REF_charges"] = np.round(atoms.arrays["REF_charges"], 5)
    charge = float(atoms.info["total_charge"])
    geometry = info["geometry"]
    out.info = {
        "geometry": geometry,
        "split": "test" if geometry in TEST else "valid" if geometry in VALID else "train",
        **info,
        "REF_energy": float(atoms.info["REF_energy"]),
        "total_charge": charge if abs(charge) > 1e-4 else 0.0,
    }
    return out


def charged_frames(source: list[Atoms]) -> list[Atoms]:
    """Frames with Fermi levels, those of a geometry together and by charge."""
    groups: dict[str, list[Atoms]] = {}
    for atoms in source:
        groups.setdefault(atoms.info["case"], []).append(atoms)
    frames = []
    for case, group in groups.items():
        group.sort(key=lambda atoms: -atoms.info["total_charge"])
        for atoms in group:
            if np.abs(atoms.positions - group[0].positions).max() > 1e-6:
                raise SystemExit(f"prepare.py: the frames of {case} have different positions")
            level = atoms.info.get("REF_fermi_level")
            given = "OUTCAR" if level is not None else "published"
            level = round(float(published_level(atoms, group) if level is None else level), 4)
            # without charge the level of a charged electrode's geometry is pinned at states of the water
            uncharged = "neutral" if case.startswith("pzc") else "pinned"
            kind = "charged" if atoms.info["total_charge"] else uncharged
            extra = {} if case.startswith("pzc") else {"U_vs_SHE": round(float(atoms.info["U_vs_SHE"]), 4)}
            frames.append(slim(atoms, geometry=case, kind=kind, REF_fermi_level=level, level_from=given, **extra))
    return frames


def neutral_frames(source: list[Atoms]) -> list[Atoms]:
    """Frames without Fermi levels: every one a geometry of its own."""
    return [slim(atoms, geometry=f"neutral_{atoms.info['frame']}", kind="no_level") for atoms in source]


def waters(frames: list[Atoms], number: int, rng: np.random.Generator) -> list[Atoms]:
    """``number`` groups of `MOLECULES` neighbouring waters, away from copper and whole, with their polarizability."""
    groups: list[Atoms] = []
    while len(groups) < number:
        atoms = frames[rng.integers(len(frames))]
        oxygen, hydrogen, copper = (np.flatnonzero(atoms.numbers == z) for z in (8, 1, 29))
        centre = rng.choice(oxygen)
        chosen = oxygen[np.argsort(atoms.get_distances(centre, oxygen, mic=True))[:MOLECULES]]
        rows, positions = [], []
        for o in chosen:
            own = hydrogen[np.argsort(atoms.get_distances(o, hydrogen, mic=True))[:2]]
            at = atoms.positions[centre] + atoms.get_distance(centre, o, mic=True, vector=True)
            rows += [o, *own]
            positions += [at, *(at + atoms.get_distances(o, own, mic=True, vector=True))]
        far = min(atoms.get_distances(o, copper, mic=True).min() for o in chosen) > 4.0
        whole = max(np.linalg.norm(positions[k] - positions[k - k % 3]) for k in range(len(rows))) < 1.25
        if not (far and whole) or len(set(rows)) < len(rows):
            continue
        group = Atoms(atoms.numbers[rows], np.array(positions) - positions[0])
        group.info = {
            "geometry": atoms.info["geometry"], "split": "train", "kind": "water", "total_charge": 0.0,
            "REF_polarizability": np.round(MOLECULES * POLARIZABILITY * np.eye(3), 5),
        }  # fmt: skip
        groups.append(group)
    return groups


def check() -> None:
    """Print the levels of every geometry and what the energies say of them: -dE/dQ is the level."""
    worst, geometries = 0.0, {}
    for atoms in read(CHARGED, ":"):
        geometries.setdefault(atoms.info["geometry"], []).append(atoms)
    for geometry, frames in geometries.items():
        infos = [atoms.info for atoms in frames]
        print(f"{geometry} ({infos[0]['split']}): {len(infos)} charges")
        for first, second in pairwise(infos):
            step = second["total_charge"] - first["total_charge"]
            levels = first["REF_fermi_level"], second["REF_fermi_level"]
            by_energy = -(second["REF_energy"] - first["REF_energy"]) / step
            charges = f"{first['total_charge']:7.3f} to {second['total_charge']:6.3f} e"
            slope = (levels[1] - levels[0]) / step
            print(f"  Q {charges}: mean level {np.mean(levels):.4f}, -dE/dQ {by_energy:.4f} eV, dμ/dQ {slope:6.3f} V/e")
            if abs(step) < 0.3:
                worst = max(worst, abs(by_energy - np.mean(levels)))
        if len(frames) > 2:
            print(f"  of the charge added after the second: {spill(frames[1], frames[-1])}")
    print(f"steps below 0.3 e: -dE/dQ is the mean level to {1000 * worst:.1f} meV")
    counts = {split: 0 for split in ("train", "valid", "test")}
    for atoms in [*read(CHARGED, ":"), *read(NEUTRAL, ":")]:
        counts[atoms.info["split"]] += 1
    print("frames:", ", ".join(f"{name} {count}" for name, count in counts.items()))


def spill(first: Atoms, last: Atoms) -> str:
    """Where the charge is that ``last`` has more than ``first``, in one geometry: copper, waters by O-Cu distance."""
    added = last.info["total_charge"] - first.info["total_charge"]
    parts = (last.arrays["REF_charges"] - first.arrays["REF_charges"]) / added
    distances = first.get_all_distances(mic=True)
    copper, oxygen, hydrogen = (first.numbers == z for z in (29, 8, 1))
    bound = np.flatnonzero(oxygen)[np.argmin(distances[np.ix_(hydrogen, oxygen)], axis=1)]
    water = parts.copy()
    np.add.at(water, bound, parts[hydrogen])
    away = distances[:, copper].min(1)
    bins = []
    for near, far in pairwise((0.0, 3.0, 3.5, 4.0, 5.0, 6.0, 99.0)):
        chosen = oxygen & (away >= near) & (away < far)
        bins.append(f"{near:g}-{far:g} Å: {water[chosen].sum():.3f} on {chosen.sum()}")
    return f"copper {parts[copper].sum():.3f}; waters with O-Cu at " + ", ".join(bins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "water", "check"))
    parser.add_argument("folder", nargs="?", type=Path, help="of the frames of TRECI")
    arguments = parser.parse_args()
    if arguments.what == "write":
        if arguments.folder is None:
            parser.error("write needs the folder of the frames of TRECI")
        names = "constant_potential", "neutral"
        charged, neutral = (read(arguments.folder / f"cu111_water_{name}_train.extxyz.gz", ":") for name in names)
        write(CHARGED, charged_frames(charged), format="extxyz")
        write(NEUTRAL, neutral_frames(neutral), format="extxyz")
    if arguments.what in ("write", "water"):
        frames = [atoms for path in (CHARGED, NEUTRAL) for atoms in read(path, ":") if atoms.info["split"] == "train"]
        write(WATER, waters(frames, GROUPS, np.random.default_rng(1)), format="extxyz")
    check()


if __name__ == "__main__":
    main()
