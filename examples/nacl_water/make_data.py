"""Makes the reference data of this example with GFN2-xTB (needs tblite, ase, numpy, scipy).

    python make_data.py clusters             neutral, in a field, charged: xtb_water_{neutral,field,charged}
    python make_data.py ions                 Na+, Cl-, Na+Cl- in clusters of 2, 4, 6 waters: xtb_ions
    python make_data.py extra_clusters       more neutral clusters for training: clusters_extra (--trajectories 240)
    python make_data.py extra_ions           more ions in clusters for training: ions_extra (--trajectories 74)
    python make_data.py box16                16-water periodic boxes, one trajectory: xtb_water_box16
    python make_data.py extra                more boxes, with and without an ion pair: box_extra
    python make_data.py sample MODEL OUT     geometries from MD of such boxes with a trained model (model.pt)
    python make_data.py cut DUMP OUT         clusters around ions and waters of a LAMMPS dump (element x y z)
    python make_data.py label IN OUT         labels any geometries, for example those of sample and cut

Files go to the folder given by --out (default: data/) as gzipped extended XYZ.  Seeds are fixed.  A whole
trajectory is either in the training or in the test set (of box16, which is one trajectory, the last fifth is
the test set).  `extra` writes after every trajectory and carries
on where it was stopped.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

from classical import WaterAndIons, molecules_whole, solution_box, surroundings, trajectory
from xtb_labels import LABEL_FAILURES, Xtb, label

HERE = Path(__file__).resolve().parent
ION_SETS = ((["Na"], 1), (["Cl"], -1), (["Na", "Cl"], 0))
# The energy of ionised water (some 12 eV) and its hole are not functions of geometry and total charge that this model
# has; with full weight these few frames would outweigh all others in the loss.
CHARGED_WEIGHTS = {"config_weight": 0.001, "config_energy_weight": 0.0}
LARGEST_FORCE = 25.0  # eV/Angstrom: `label` leaves frames above it out


def save(path: Path, frames: list[Atoms]) -> None:
    """Writes through a temporary file, so that a stopped run leaves the previous state whole."""
    temporary = path.with_name("part_" + path.name)
    write(temporary, frames, format="extxyz")
    temporary.replace(path)
    print(f"{path}: {len(frames)} frames", flush=True)


def cluster(n_sites: int, rng: np.random.Generator, nearest: float = 2.75) -> Atoms:
    """Waters at random in a sphere of the liquid's density, no two centres nearer than `nearest`."""
    radius = (3 * n_sites / (4 * np.pi * 0.026)) ** (1 / 3)
    centres: list[np.ndarray] = []
    while len(centres) < n_sites:
        point = rng.uniform(-radius, radius, 3)
        if np.linalg.norm(point) <= radius and all(np.linalg.norm(point - c) > nearest for c in centres):
            centres.append(point)
    atoms = Atoms()
    for centre in centres:
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(centre - water.get_center_of_mass())
        atoms += water
    return atoms


def xtb_trajectory(
    atoms: Atoms, charge: float, n_frames: int, rng: np.random.Generator, interval: int = 40
) -> list[Atoms]:
    """Snapshots of GFN2-xTB MD at 400 K, `interval` steps of 0.5 fs apart; ends early when a molecule comes apart."""
    atoms.calc = Xtb(charge)
    frames: list[Atoms] = []
    try:
        FIRE(atoms, logfile=None).run(fmax=0.5, steps=80)
        MaxwellBoltzmannDistribution(atoms, temperature_K=400, rng=rng)
        dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=400, friction=0.02 / units.fs, rng=rng, fixcm=False)
        dynamics.run(200)
        for _ in range(n_frames):
            dynamics.run(interval)
            if not molecules_whole(atoms):
                break
            frames.append(Atoms(atoms.numbers, atoms.positions))
    except LABEL_FAILURES as error:
        print(f"trajectory stopped after {len(frames)} frames: {error}", flush=True)
    return frames


def make_clusters(out: Path, seed: int = 20261120) -> None:
    """2 to 8 waters: neutral; 40 frames again in a field of 0.05-0.3 V/Angstrom, 40 with charge +-1."""
    rng = np.random.default_rng(seed)
    geometries, traj = [], 0
    for n, n_frames in ((2, 20), (3, 15), (4, 15), (6, 15), (8, 15)):
        for repeat in range(4):
            split = "test" if repeat == 3 else "train"
            for frame in xtb_trajectory(cluster(n, rng), 0.0, n_frames, rng):
                frame.info.update(n_molecules=n, traj=traj, split=split)
                geometries.append(frame)
            traj += 1
    neutral = [label(g, **g.info, kind="cluster") for g in geometries]
    order = rng.permutation(len(geometries))
    in_field, charged = [], []
    for k in order[:40]:
        direction = rng.normal(size=3)
        field = direction * rng.choice([0.05, 0.1, 0.2, 0.3]) / np.linalg.norm(direction)
        in_field.append(label(geometries[k], field=field, **geometries[k].info, kind="cluster_field"))
    for k in order[40:]:
        if len(charged) == 40:
            break
        charge = 1.0 if len(charged) % 2 == 0 else -1.0
        info = geometries[k].info | CHARGED_WEIGHTS
        charged += label_or_nothing(geometries[k], charge, **info, kind="cluster_charged")
    for name, frames in (("neutral", neutral), ("field", in_field), ("charged", charged)):
        save(out / f"xtb_water_{name}.extxyz.gz", frames)


def ion_trajectory(ions: list[str], charge: float, n: int, rng: np.random.Generator, **info) -> list[Atoms]:
    """Six labelled frames (fewer if a molecule comes apart) of the ions among n waters."""
    sites = cluster(n + len(ions), rng, nearest=3.0)
    atoms = sites[3 * len(ions) :]
    for k, ion in enumerate(ions):
        atoms += Atoms(ion, [sites.positions[3 * k]])
    info |= dict(n_molecules=n, kind="ions_" + "".join(ions))
    return [label(frame, charge, **info) for frame in xtb_trajectory(atoms, charge, 6, rng)]


def make_ions(out: Path, seed: int = 20261121) -> None:
    """Na+, Cl- and the pair, each in 2, 4 and 6 waters, four trajectories each."""
    rng = np.random.default_rng(seed)
    frames, traj = [], 2000
    for ions, charge in ION_SETS:
        for n in (2, 4, 6):
            for repeat in range(4):
                split = "test" if repeat == 3 else "train"
                frames += ion_trajectory(ions, charge, n, rng, traj=traj, split=split)
                traj += 1
    save(out / "xtb_ions.extxyz.gz", frames)


def extra_ions(index: int) -> list[Atoms]:
    """Training frames like those of `make_ions`: Na+, Cl- and the pair in turn, in 1 to 6 waters."""
    ions, charge = ION_SETS[index % 3]
    n = (2, 4, 3, 6, 1, 5)[index // 3 % 6]
    rng = np.random.default_rng([20261123, index])
    return ion_trajectory(ions, charge, n, rng, traj=5000 + index, split="train")


def extra_clusters(index: int) -> list[Atoms]:
    """Training frames like the neutral ones of `make_clusters`: two frames 0.1 ps apart of 2 to 8 waters.

    Many short trajectories, most of them large: the error of a cluster's energy is mostly that of its arrangement of
    hydrogen bonds, which one trajectory does not change.
    """
    n = (8, 6, 7, 8, 4, 5, 8, 3, 7, 2)[index % 10]
    rng = np.random.default_rng([20261124, index])
    info = dict(n_molecules=n, traj=6000 + index, split="train", kind="cluster")
    return [label(frame, **info) for frame in xtb_trajectory(cluster(n, rng), 0.0, 2, rng, interval=200)]


def make_trajectories(path: Path, make: Callable[[int], list[Atoms]], n_trajectories: int) -> None:
    """Trajectories 0, 1, ... of `make` in one file, written after each; what is there is not made again."""
    frames = read(path, ":", format="extxyz") if path.exists() else []
    done = {int(atoms.info["traj"]) % 1000 for atoms in frames}
    for index in range(n_trajectories):
        if index not in done:
            frames += make(index)
            save(path, frames)


def make_box16(out: Path, n_frames: int = 30, seed: int = 7) -> None:
    """16 waters at the liquid's density, one SPC/Fw trajectory at 400 K; its last fifth is the test set."""
    rng = np.random.default_rng(seed)
    geometries = trajectory(solution_box(16, 0, rng), WaterAndIons(), 400, n_frames, rng, equilibration_steps=4000)
    frames: list[Atoms] = []
    for i, geometry in enumerate(geometries):
        split = "test" if i >= 0.8 * n_frames else "train"
        frames += label_or_nothing(geometry, n_molecules=16, traj=1000 + i // 10, split=split, kind="box16")
        save(out / "xtb_water_box16.extxyz.gz", frames)


def extra_plan(index: int) -> dict:
    """Contents and conditions of trajectory `index` of `make_extra`; three in five have an ion pair.

    Covered: O-H lengths from that of GFN2-xTB to that of SPC/Fw, 300-450 K, density +-4 %, ion pairs from
    contact to half the box, and (one frame in two) a random displacement of every atom on top of the
    thermal ones.
    """
    rng = np.random.default_rng([20261122, index])
    with_ions = index % 5 in (0, 2, 4)
    distances = (2.5, 2.8, 3.4, 4.2, 5.0, 5.8)
    return dict(
        rng=rng,
        n_waters=(14, 15, 16)[index % 3] if with_ions else 16,
        n_pairs=int(with_ions),
        density_scale=rng.uniform(0.96, 1.04),
        temperature=rng.uniform(300, 450),
        bond_length=(0.955, 0.97, 0.985, 1.005)[index % 4],
        angle=rng.uniform(106, 113),
        ion_distance=distances[(index // 5 * 3 + index % 5 // 2) % 6] if with_ions else None,
        split="test" if index % 6 == 4 else "train",
    )


def make_extra(out: Path, n_trajectories: int, n_frames: int = 5) -> None:
    """`n_trajectories` short classical trajectories of boxes of 44 to 50 atoms, `n_frames` of each."""
    path = out / "box_extra.extxyz.gz"
    frames = read(path, ":", format="extxyz") if path.exists() else []
    done = {atoms.info["traj"] for atoms in frames}
    for index in range(n_trajectories):
        if 3000 + index in done:
            continue
        plan = extra_plan(index)
        rng, n_pairs = plan["rng"], plan["n_pairs"]
        atoms = solution_box(plan["n_waters"], n_pairs, rng, plan["density_scale"])
        force_field = WaterAndIons(plan["bond_length"], plan["angle"], plan["ion_distance"])
        geometries = trajectory(atoms, force_field, plan["temperature"], n_frames, rng)
        for i, geometry in enumerate(geometries):
            if i % 2:
                geometry.positions += rng.normal(scale=0.03, size=geometry.positions.shape)
            info = dict(n_molecules=plan["n_waters"], traj=3000 + index, split=plan["split"])
            frames += label_or_nothing(geometry, **info, kind="box_NaCl" if n_pairs else "box16")
        save(path, frames)


def label_or_nothing(atoms: Atoms, charge: float = 0.0, **info) -> list[Atoms]:
    """The labelled frame in a list, or an empty list (and a message) when GFN2-xTB does not converge."""
    try:
        return [label(atoms, charge, **info)]
    except LABEL_FAILURES as error:
        print(f"left out: {atoms.get_chemical_formula()} {info}: {error}", flush=True)
        return []


def sample_frames(model: Path, target: Path, n_trajectories: int, n_frames: int = 5) -> None:
    """Geometries that a trained model visits: boxes as in `make_extra`, then Langevin MD with the model.

    0.2 ps to leave the classical geometries, then a frame every 0.1 ps. A trajectory ends where a molecule comes apart.
    """
    from fp_potential.calculator import FixedPointCalculator

    calculator = FixedPointCalculator(model, total_charge=0.0)
    frames: list[Atoms] = []
    for index in range(n_trajectories):
        plan = extra_plan(1000 + index)
        rng, n_pairs = plan["rng"], plan["n_pairs"]
        atoms = solution_box(plan["n_waters"], n_pairs, rng, plan["density_scale"])
        atoms = next(trajectory(atoms, WaterAndIons(0.965, 108.0), plan["temperature"], 1, rng))
        atoms.info.update(n_molecules=plan["n_waters"], traj=4000 + index, split=plan["split"])
        atoms.info.update(kind="box_NaCl" if n_pairs else "box16", total_charge=0.0)
        try:
            for frame in trajectory(atoms, calculator, plan["temperature"], n_frames, rng, 200, 200, relax=20):
                frames.append(frame)
        except RuntimeError as error:
            print(f"trajectory {index}: {error}", flush=True)
        save(target, frames)


def cut_clusters(dump: Path, target: Path, n_clusters: int, first_traj: int = 8000) -> None:
    """Every ion with its nearest 5 to 8 waters, and two waters with their nearest 5 to 7, of frames of a LAMMPS dump.

    The frames are spread evenly; `n_clusters` is the number to end with.  Another ion that is nearer than the farthest
    water comes along, so the total charge is that of the ions in the cluster.  The environments are those that dynamics
    visits, at the cost of a cluster's label.
    """
    rng = np.random.default_rng([20261126, n_clusters])
    boxes = read(dump, ":", format="lammps-dump-text")
    per_frame = np.count_nonzero(np.isin(boxes[0].numbers, (11, 17))) + 2
    clusters: list[Atoms] = []
    for number, k in enumerate(np.linspace(0, len(boxes) - 1, n_clusters // per_frame).round().astype(int)):
        box = boxes[k]
        oxygens, ions = np.flatnonzero(box.numbers == 8), np.flatnonzero(np.isin(box.numbers, (11, 17)))
        for centre in (*ions, *rng.choice(oxygens, 2, replace=False)):
            waters = int(rng.integers(5, 9))
            cluster = surroundings(box, int(centre), waters)
            found = [symbol for symbol in cluster.symbols if symbol in ("Na", "Cl")]
            symbols = "".join(sorted(found, reverse=True))
            cluster.info.update(
                n_molecules=waters,
                traj=first_traj + number,
                split="train",
                kind=f"ions_{symbols}" if symbols else "cluster",
                total_charge=float(found.count("Na") - found.count("Cl")),
            )
            if molecules_whole(cluster):
                clusters.append(cluster)
    save(target, clusters)


def label_frames(source: Path, target: Path) -> None:
    """Labels every frame of an extended XYZ file; split, kind, traj and total_charge are carried over.

    A frame without `total_charge` counts as neutral, one without `split` as training, one without `kind`
    gets "md" and one without `traj` 4000.  Frames already in `target` are not computed again, so a stopped
    run can be repeated.
    """
    done = read(target, ":", format="extxyz") if target.exists() else []
    known = {int(atoms.info["source_frame"]) for atoms in done}
    for i, atoms in enumerate(read(source, ":", format="extxyz")):
        if i in known:
            continue
        info = {key: atoms.info[key] for key in ("n_molecules", "temperature") if key in atoms.info}
        info.update(split=atoms.info.get("split", "train"), kind=atoms.info.get("kind", "md"))
        info.update(traj=atoms.info.get("traj", 4000), source_frame=i)
        labelled = label_or_nothing(atoms, float(atoms.info.get("total_charge", 0.0)), **info)
        if labelled and (force := np.abs(labelled[0].arrays["REF_forces"]).max()) > LARGEST_FORCE:
            print(f"left out: frame {i}, a force of {force:.0f} eV/Angstrom", flush=True)
            continue
        done += labelled
        save(target, done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what",
        choices=["clusters", "ions", "extra_clusters", "extra_ions", "box16", "extra", "sample", "cut", "label"],
    )
    parser.add_argument(
        "files", nargs="*", type=Path, help="sample: model and output file; label: input and output file"
    )
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder for the files")
    parser.add_argument(
        "--trajectories", type=int, default=44, help="extra, extra_ions, extra_clusters, sample: how many"
    )
    parser.add_argument("--clusters", type=int, default=120, help="cut: how many")
    arguments = parser.parse_args()
    if arguments.what in ("sample", "cut", "label"):
        if len(arguments.files) != 2:
            parser.error(f"{arguments.what} needs two files, the one to read and the one to write")
        if arguments.what == "sample":
            sample_frames(*arguments.files, arguments.trajectories)
        elif arguments.what == "cut":
            cut_clusters(*arguments.files, arguments.clusters)
        else:
            label_frames(*arguments.files)
    elif arguments.what == "extra_ions":
        make_trajectories(arguments.out / "ions_extra.extxyz.gz", extra_ions, arguments.trajectories)
    elif arguments.what == "extra_clusters":
        make_trajectories(arguments.out / "clusters_extra.extxyz.gz", extra_clusters, arguments.trajectories)
    elif arguments.what == "extra":
        make_extra(arguments.out, arguments.trajectories)
    else:
        {"clusters": make_clusters, "ions": make_ions, "box16": make_box16}[arguments.what](arguments.out)


if __name__ == "__main__":
    main()
