"""Frames with molecules too near to each other, labelled with GFN2-xTB (needs what make_data.py needs).

    python make_crowded_data.py squeezed         clusters with two molecules pushed together: squeezed
    python make_crowded_data.py cut DUMP         clusters around the most crowded oxygens of a LAMMPS dump: geometries
    python make_crowded_data.py label            labels those: crowded
    python make_crowded_data.py contacts DUMP …  ion pairs in contact with what is around them, of dumps, and ions
                                                 of clusters pushed at others and at waters: contacts

Thermal frames say nothing of what a model does between the nearest distances of a liquid and those where atoms touch;
dynamics that finds a hole there does not come out of it.  Files go to the folder given by --out (default: data/).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from classical import molecules_whole, surroundings
from make_data import HERE, LARGEST_FORCE, label_or_nothing, save
from make_response_data import charge_of, labelled, molecules_of

#: frames whose molecules are taken as they are before two are pushed together
SOURCES = ("md_clusters", "clusters_extra", "xtb_ions")
LARGEST_PUSH = 1.1  # Å
NEAREST_ATOMS = 1.15  # Å, between molecules
CROWDED = 2.6  # Å, an oxygen with another one so near is crowded
CONTACT = 3.2  # Å between ions
WHOLE_BOX = 0.5  # part of the crowded oxygens that are taken from each frame


def gap(atoms: Atoms, molecule: np.ndarray, i: int, j: int) -> float:
    """Shortest distance between atoms of two molecules, Å."""
    a, b = atoms.positions[molecule == i], atoms.positions[molecule == j]
    return float(np.linalg.norm(a[:, None] - b[None], axis=2).min())


def pushed(atoms: Atoms, rng: np.random.Generator, ion: bool = False) -> Atoms | None:
    """A copy with one molecule turned by up to 30 degrees and pushed towards one near it; None where atoms touch.

    With ``ion`` it is an ion that is pushed.
    """
    molecule = molecules_of(atoms)
    number = molecule.max() + 1
    if number < 2:
        return None
    i = int(rng.choice(molecule[np.isin(atoms.numbers, (11, 17))])) if ion else int(rng.integers(number))
    near = sorted((gap(atoms, molecule, i, j), j) for j in range(number) if j != i)
    j = near[int(rng.integers(min(3, len(near))))][1]
    result = atoms.copy()
    part = result[molecule == i]
    part.rotate(rng.uniform(0, 30), rng.normal(size=3), center=part.positions[0])
    towards = atoms.positions[molecule == j][0] - part.positions[0]
    part.positions += rng.uniform(0.2, LARGEST_PUSH) * towards / np.linalg.norm(towards)
    result.positions[molecule == i] = part.positions
    gaps = [gap(result, molecule, i, k) for k in range(number) if k != i]
    return result if min(gaps) > NEAREST_ATOMS else None


def squeezed(folder: Path, rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Training frames of `SOURCES` with two of their molecules pushed together; one in five is a test frame."""
    frames: list[Atoms] = []
    for name in SOURCES:
        found = read(folder / f"{name}.extxyz.gz", ":", format="extxyz")
        frames += [frame for frame in found if frame.info["split"] == "train"]
    made = 0
    while made < number:
        source = frames[int(rng.integers(len(frames)))]
        # the order of the others' files: waters, O first, then ions
        atoms = Atoms(source.numbers, source.positions)
        moved = pushed(atoms, rng)
        if moved is None or not molecules_whole(moved):
            continue
        info = dict(n_molecules=int(np.sum(moved.numbers == 8)), traj=9700 + made)
        split = "test" if made % 5 == 4 else "train"
        for frame in labelled(moved, molecules_of(moved), **info, split=split, kind="squeezed"):
            made += 1
            yield frame


def crowding(box: Atoms) -> np.ndarray:
    """Distance of every oxygen to the nearest other one, Å."""
    oxygens = np.flatnonzero(box.numbers == 8)
    distances = box.get_all_distances(mic=True)[np.ix_(oxygens, oxygens)]
    np.fill_diagonal(distances, np.inf)
    return distances.min(1)


def cut(dump: Path, rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Clusters of 6 to 10 waters around the most crowded oxygens, the frames spread evenly."""
    boxes = read(dump, ":", format="lammps-dump-text")
    for index, k in enumerate(np.linspace(0, len(boxes) - 1, number).round().astype(int)):
        box = boxes[k]
        oxygens = np.flatnonzero(box.numbers == 8)
        nearest = crowding(box)
        crowded = np.flatnonzero(nearest < CROWDED)
        few = crowded[np.argsort(nearest[crowded])][: max(1, int(WHOLE_BOX * len(crowded)))]
        chosen = int(rng.choice(few)) if len(few) else int(np.argmin(nearest))
        frame = surroundings(box, int(oxygens[chosen]), int(rng.integers(6, 11)))
        if molecules_whole(frame):
            frame.info |= {"traj": 9900 + index, "split": "test" if index % 6 == 5 else "train"}
            yield frame


def crowded(geometries: list[Atoms]) -> Iterator[Atoms]:
    """The labelled geometries of `cut`."""
    for frame in geometries:
        info = dict(traj=frame.info["traj"], split=frame.info["split"], n_molecules=int(np.sum(frame.numbers == 8)))
        yield from labelled(frame, molecules_of(frame), **info, kind="crowded")


def close_pairs(boxes: list[Atoms], rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Ions that have another one within `CONTACT`, with their nearest 5 to 8 waters, from frames spread evenly."""
    made = 0
    for k in np.linspace(0, len(boxes) - 1, number).round().astype(int):
        box = boxes[k]
        ions = np.flatnonzero(np.isin(box.numbers, (11, 17)))
        distances = box.get_all_distances(mic=True)[np.ix_(ions, ions)] + 100 * np.eye(len(ions))
        near = ions[distances.min(1) < CONTACT]
        centre = int(rng.choice(near if len(near) else ions))
        frame = surroundings(box, centre, int(rng.integers(5, 9)))
        if molecules_whole(frame):
            frame.info |= {"traj": 10200 + made, "split": "test" if made % 6 == 5 else "train"}
            made += 1
            yield frame


def contacts(dumps: list[Path], folder: Path, rng: np.random.Generator, number: int) -> Iterator[Atoms]:
    """Labelled frames of `close_pairs`, then as many of `pushed` ions; charges that GFN2-xTB shares are kept."""
    geometries = []
    for dump in dumps:
        geometries += list(close_pairs(read(dump, ":", format="lammps-dump-text"), rng, number // len(dumps)))
    sources = [
        frame
        for name in ("ions_extra", "xtb_ions", "md_clusters")
        for frame in read(folder / f"{name}.extxyz.gz", ":", format="extxyz")
        if frame.info["split"] == "train" and np.isin(frame.numbers, (11, 17)).any()
    ]
    pairs = [frame for frame in sources if np.isin(frame.numbers, (11, 17)).sum() > 1]
    for index in range(number):
        some = pairs if index % 3 else sources
        source = some[int(rng.integers(len(some)))]
        moved = pushed(Atoms(source.numbers, source.positions), rng, ion=True)
        if moved is not None and molecules_whole(moved):
            moved.info |= {"traj": 10600 + index, "split": "test" if index % 6 == 5 else "train"}
            geometries.append(moved)
    for frame in geometries:
        info = dict(traj=frame.info["traj"], split=frame.info["split"], n_molecules=int(np.sum(frame.numbers == 8)))
        for found in label_or_nothing(frame, charge_of(frame), **info, kind="ion_contact"):
            if np.abs(found.arrays["REF_forces"]).max() < LARGEST_FORCE:
                yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["squeezed", "cut", "label", "contacts"])
    parser.add_argument("dumps", nargs="*", type=Path, help="cut: the dump; contacts: one or more")
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder for the files")
    parser.add_argument("--frames", type=int, default=200, help="squeezed, cut: frames to make")
    parser.add_argument("--prefix", default="crowded", help="cut, label: name of the files")
    arguments = parser.parse_args()
    geometries = arguments.out / f"{arguments.prefix}_geometries.extxyz.gz"
    if arguments.what == "squeezed":
        found = squeezed(arguments.out, np.random.default_rng(20261134), arguments.frames)
        save(arguments.out / "squeezed.extxyz.gz", list(found))
    elif arguments.what == "cut":
        if len(arguments.dumps) != 1:
            parser.error("cut needs a dump")
        save(geometries, list(cut(arguments.dumps[0], np.random.default_rng(20261135), arguments.frames)))
    elif arguments.what == "contacts":
        if not arguments.dumps:
            parser.error("contacts needs a dump")
        found = contacts(arguments.dumps, arguments.out, np.random.default_rng(20261136), arguments.frames)
        save(arguments.out / "contacts.extxyz.gz", list(found))
    else:
        frames = read(geometries, ":", format="extxyz")
        save(arguments.out / f"{arguments.prefix}.extxyz.gz", list(crowded(frames)))


if __name__ == "__main__":
    main()
