"""Frames that decide whether a model insulates, labelled with GFN2-xTB (needs what make_data.py needs).

    python make_response_data.py chains          chains and slabs of 8-24 waters in fields: chains_field
    python make_response_data.py fragments       waters, clusters and ions 5-40 Å apart, most in fields: fragments_field
    python make_response_data.py dissociation    an ion pair pulled apart to 20 Å, an ion leaving water: dissociation
    python make_response_data.py sample MODEL    geometries of 12-20 waters, some with an ion pair, from MD with MODEL
    python make_response_data.py large           labels those: large_clusters

Files go to the folder given by --out (default: data/).  --seed and --frames make other sets than those shipped, and
--prefix gives them other names.  Every frame has an array `fragment` that numbers molecules and ions.

In fields the tops of the bands of distant molecules differ by field times distance: beyond the gap GFN2-xTB moves
electrons from end to end, as it must. So the voltage over a frame is at most `LARGEST_VOLTAGE`, and frames in which
fragments far apart have no whole charges are left out. GFN2-xTB has no ion pair at large distances: the lowest empty
orbital of Na+ lies below the highest filled one of Cl-, also with eight waters around them, and they keep 0.6 to 0.8 e
at 20 Å. Its paths end where their charges are no longer whole.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

from classical import molecules_whole
from make_data import HERE, LARGEST_FORCE, cluster, label_or_nothing, save, xtb_trajectory

LARGEST_VOLTAGE = 4.0  # V over the length of a frame
ION_CHARGE = {"Na": 1.0, "Cl": -1.0}
DISTANCES = (2.4, 2.7, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0)  # Å, from ion to ion
#: charge by which fragments may differ from whole ones, those in touch, and those further apart than `APART`, e
TOUCHING_ERROR, APART_ERROR = 0.3, 0.05
APART = 4.0  # Å between nearest atoms


def molecules_of(atoms: Atoms) -> np.ndarray:
    """Number of the molecule or ion of every atom; the two H of a water follow its O."""
    return np.cumsum(atoms.numbers != 1) - 1


def charge_of(atoms: Atoms) -> float:
    """Total charge of the ions, e."""
    return float(sum(ION_CHARGE.get(symbol, 0.0) for symbol in atoms.symbols))


def labelled(atoms: Atoms, fragment: np.ndarray, field: np.ndarray | None = None, **info) -> list[Atoms]:
    """The labelled frame in a list, or an empty one where GFN2-xTB fails, forces are huge or charges are not whole."""
    frames = label_or_nothing(atoms, charge_of(atoms), field=field, **info)
    for frame in frames:
        frame.arrays["fragment"] = fragment
        charges = np.bincount(fragment, frame.arrays["REF_charges"])
        formal = np.bincount(fragment, [ION_CHARGE.get(symbol, 0.0) for symbol in frame.symbols])
        different = fragment[:, None] != fragment
        distances = frame.get_all_distances()
        error = APART_ERROR if distances[different].min() > APART else TOUCHING_ERROR
        wrong, force = np.abs(charges - formal).max(), np.abs(frame.arrays["REF_forces"]).max()
        if wrong > error or force > LARGEST_FORCE:
            print(f"left out: {frame.symbols} {info}: fragments off by {wrong:.2f} e, force {force:.0f} eV/Å")
            return []
    return frames


def turned_water(rng: np.random.Generator) -> Atoms:
    """A water in any direction, displaced as at some 400 K."""
    water = molecule("H2O")
    water.rotate(rng.uniform(0, 360), rng.normal(size=3))
    water.positions += rng.normal(scale=0.025, size=(3, 3)) - water.get_center_of_mass()
    return water


def random_field(rng: np.random.Generator, direction: np.ndarray, length: float, largest: float) -> np.ndarray:
    """Along ``direction``, between a third of and all that ``length`` allows."""
    size = rng.uniform(0.3, 1.0) * min(largest, LARGEST_VOLTAGE / max(length, 1.0))
    return rng.choice([-1.0, 1.0]) * size * direction / np.linalg.norm(direction)


def chains(rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Chains, and slabs of one or two layers, along x, in fields along x and across."""
    for index in range(number):
        n = int(rng.integers(8, 25))
        shape = ((n, 1, 1), (n // 2, 2, 1), (n // 3, 3, 1), (n // 4, 2, 2))[index % 4]
        spacing = rng.uniform(2.8, 3.4)
        atoms = Atoms()
        for site in product(*map(range, shape)):
            water = turned_water(rng)
            water.translate(spacing * np.array(site) + rng.normal(scale=0.1, size=3))
            atoms += water
        direction = np.eye(3)[0] if index % 3 else rng.normal(size=3)
        field = random_field(rng, direction, spacing * shape[0], 0.15)
        split = "test" if index % 5 == 4 else "train"
        info = dict(n_molecules=len(atoms) // 3, traj=9000 + index, split=split, kind="chain_field")
        yield from labelled(atoms, molecules_of(atoms), field, **info)


def piece(ion: str | None, waters: int, rng: np.random.Generator) -> Atoms | None:
    """A relaxed fragment around its ion, or its first oxygen, at the origin: one frame of MD at 400 K."""
    sites = cluster(waters + bool(ion), rng, nearest=2.6 if ion else 2.75)
    atoms = sites
    if ion:
        atoms = Atoms(ion, [sites.positions[0]]) + sites[3:]
        waters_first = [*range(1, len(atoms)), 0]
        atoms = atoms[waters_first]
    if len(atoms) == 1:
        return Atoms(atoms.symbols, [[0.0, 0.0, 0.0]])
    found = xtb_trajectory(atoms, ION_CHARGE.get(ion or "", 0.0), 1, rng, interval=20)
    if not found:
        return None
    found[0].positions -= found[0].positions[-1 if ion else 0]
    return found[0]


def fragments(rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Two to four fragments along a line, one frame in four without a field."""
    for index in range(number):
        atoms, fragment, length = Atoms(), [], 0.0
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        for k in range(int(rng.integers(2, 5))):
            ion = (None, None, "Na", "Cl")[rng.integers(4)] if index % 2 else None
            part = piece(ion, int(rng.integers(2, 5)) if ion else int(rng.integers(1, 4)), rng)
            if part is None:
                continue
            length += float(rng.uniform(5.0, 18.0)) * (k > 0)
            part.rotate(rng.uniform(0, 360), rng.normal(size=3))
            part.translate(length * direction)
            atoms += part
            fragment += [k] * len(part)
        field = None
        if index % 4 != 3:
            along = direction if index % 3 else rng.normal(size=3)
            field = random_field(rng, along, length + 4.0, 0.1)
        split = "test" if index % 5 == 4 else "train"
        info = dict(n_molecules=int(np.sum(atoms.numbers == 8)), traj=9200 + index, split=split)
        yield from labelled(atoms, np.unique(fragment, return_inverse=True)[1], field, **info, kind="fragments_field")


def facing(part: Atoms, direction: np.ndarray) -> Atoms:
    """``part``, whose ion is at the origin, turned so that its waters are opposite to ``direction``."""
    others = part.positions[np.linalg.norm(part.positions, axis=1) > 1e-6]
    if len(others):
        part.rotate(others.mean(0), -direction)
    return part


def nearest_between(a: Atoms, b: Atoms) -> float:
    """Shortest distance between atoms of two parts, Å."""
    return float(np.linalg.norm(a.positions[:, None] - b.positions[None], axis=2).min())


def dissociation(rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Paths of an ion pair with waters, of an ion and of a water that leave 2 to 6 waters."""
    axis = np.array([1.0, 0.0, 0.0])
    for index in range(number):
        kind, waters = ("pair", "Na", "Cl", "water")[index % 4], int(rng.integers(2, 7))
        if kind == "pair":
            parts = piece("Na", waters, rng), piece("Cl", int(rng.integers(2, 7)), rng)
        else:
            bare = int(rng.integers(0, 3))
            parts = piece(None if kind == "water" else kind, max(bare, kind == "water"), rng), piece(None, waters, rng)
        if parts[0] is None or parts[1] is None:
            continue
        left, right = facing(parts[0], axis), facing(parts[1], -axis)
        split = "test" if index % 5 == 2 else "train"
        for distance in DISTANCES:
            moved = right.copy()
            moved.translate(distance * axis)
            if nearest_between(left, moved) < 1.7:
                continue
            atoms = left + moved
            info = dict(n_molecules=int(np.sum(atoms.numbers == 8)), traj=9400 + index, split=split, distance=distance)
            frames = labelled(atoms, np.repeat([0, 1], [len(left), len(right)]), **info, kind="dissociation")
            if not frames and distance >= APART:
                break
            yield from frames


def sample(model: Path, rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Clusters of 12 to 20 waters, one in four with an ion pair: relaxed, 0.25 ps at 400 K; not labelled."""
    from fp_potential.calculator import FixedPointCalculator

    calculator = FixedPointCalculator(model, total_charge=0.0)
    for index in range(number):
        n, ions = int(rng.integers(12, 21)), ["Na", "Cl"] if index % 4 == 3 else []
        sites = cluster(n + len(ions), rng)
        atoms = sites[3 * len(ions) :]
        for k, ion in enumerate(ions):
            atoms += Atoms(ion, [sites.positions[3 * k]])
        atoms.calc = calculator
        FIRE(atoms, logfile=None).run(fmax=0.5, steps=80)
        MaxwellBoltzmannDistribution(atoms, temperature_K=400, rng=rng)
        Langevin(atoms, 0.5 * units.fs, temperature_K=400, friction=0.02 / units.fs, rng=rng, fixcm=False).run(500)
        if molecules_whole(atoms):
            split = "test" if index % 4 == 1 or index % 8 == 3 else "train"
            info = {"traj": 9600 + index, "split": split, "n_molecules": n, "total_charge": 0.0}
            frame = Atoms(atoms.numbers, atoms.positions)
            frame.info |= info
            yield frame


def large(geometries: list[Atoms]) -> Iterator[Atoms]:
    """The labelled geometries of `sample`."""
    for frame in geometries:
        info = {key: frame.info[key] for key in ("traj", "split", "n_molecules")}
        yield from labelled(frame, molecules_of(frame), **info, kind="large_cluster")


#: command -> file, its frames (or paths), and the first part of their seed
SETS: dict[str, tuple[str, Callable[[np.random.Generator, int], Iterator[Atoms]], int, int]] = {
    "chains": ("chains_field", chains, 50, 20261130),
    "fragments": ("fragments_field", fragments, 60, 20261131),
    "dissociation": ("dissociation", dissociation, 20, 20261132),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SETS, "sample", "large"])
    parser.add_argument("model", nargs="?", type=Path, help="sample: the model")
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder for the files")
    parser.add_argument("--seed", type=int, default=0, help="second part of the seed")
    parser.add_argument("--frames", type=int, help="frames or paths to make, before any are left out")
    parser.add_argument("--prefix", default="", help="of the files' names")
    arguments = parser.parse_args()

    def write(name: str, frames: Iterator[Atoms]) -> None:
        done: list[Atoms] = []
        for frame in frames:
            done.append(frame)
            if len(done) % 10 == 0:
                save(arguments.out / f"{arguments.prefix}{name}.extxyz.gz", done)
        save(arguments.out / f"{arguments.prefix}{name}.extxyz.gz", done)

    if arguments.what == "sample":
        if arguments.model is None:
            parser.error("sample needs a model")
        rng = np.random.default_rng([20261133, arguments.seed])
        write("large_geometries", sample(arguments.model, rng, arguments.frames or 36))
    elif arguments.what == "large":
        geometries = read(arguments.out / f"{arguments.prefix}large_geometries.extxyz.gz", ":", format="extxyz")
        write("large_clusters", large(geometries))
    else:
        name, make, number, seed = SETS[arguments.what]
        write(name, make(np.random.default_rng([seed, arguments.seed]), arguments.frames or number))


if __name__ == "__main__":
    main()
