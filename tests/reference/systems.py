"""Structures and models of the tests of this folder."""

import numpy as np
import torch
from ase import Atoms
from ase.build import fcc111

from fp_potential.graph import Graph
from fp_potential.reference import ChargeEquilibration, InducedDipoles, ReferenceModel, ReferenceOptions, SplitCharges
from structures import evaluate, salt_water_box, to_graph, water_cluster

SYMBOLS = ("H", "O", "Na", "Cl")


def make(kind: str, *symbols: str, **options) -> ReferenceModel:
    """The known model called ``kind``; of a mixture the first of copper and sodium is the metal."""
    names = symbols or SYMBOLS
    if kind == "dipoles":
        return InducedDipoles(ReferenceOptions.built_in(*names, **options))
    if kind in ("split charges", "mixture"):
        metals = [name for name in names if name in ("Cu", "Na")][:1] if kind == "mixture" else []
        return SplitCharges(ReferenceOptions.built_in(*names, **({"polarizable": True, "metallic": metals} | options)))
    return ChargeEquilibration(ReferenceOptions.built_in(*names, polarizable=kind == "both", **options))


def charged_cluster() -> Atoms:
    """Three waters and two ions in open boundaries."""
    return water_cluster(3) + Atoms("NaCl", [[1.0, 3.1, -1.2], [5.0, -2.9, 0.8]])


def left_handed_box() -> Atoms:
    """The triclinic box with two of its vectors exchanged."""
    atoms = salt_water_box()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


def metal_slab() -> Atoms:
    """Two layers of copper with an ion pair above, in a cell with vacuum."""
    slab = fcc111("Cu", (2, 2, 2), vacuum=5.0, orthogonal=True, periodic=True)
    top = slab.positions[:, 2].max()
    slab += Atoms("NaCl", [[0.3, 0.2, top + 2.4], [2.9, 2.4, top + 2.9]])
    slab.rattle(0.05, rng=np.random.default_rng(4))
    return slab


SYSTEMS = {"triclinic": salt_water_box, "left-handed": left_handed_box, "open": charged_cluster, "metal": metal_slab}


def system(kind: str, boundary: str, **options) -> tuple[ReferenceModel, Graph]:
    """A model and a charged structure; the open one in a field."""
    model = make(kind, *(("Cu", "Na", "Cl") if boundary == "metal" else ()), **options)
    field = [0.02, -0.1, 0.05] if boundary == "open" else [0.0, 0.0, 0.0]
    return model, to_graph(SYSTEMS[boundary](), model, total_charge=0.4, fermi_level=-5.5, external_field=field)


def solved(model: ReferenceModel, graph: Graph, constant_charge: bool = True, **changes) -> dict[str, torch.Tensor]:
    """The engine's solution to 1e-13."""
    settings = {"scf_tolerance": 1e-13, "num_scf_steps": 200, "constant_charge": constant_charge} | changes
    out = evaluate(model, graph, **settings)
    assert out["status"].tolist() == [0]
    return out
