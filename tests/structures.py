"""Structures and small models that all tests share."""

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from fp_potential.density.density_model import LocalState
from fp_potential.density.problem import SCFProblem, own_start
from fp_potential.graph import Graph, graph_from_atoms
from fp_potential.model import FixedPointPotential
from fp_potential.options import ModelOptions, ModelStatistics
from fp_potential.scf.settings import LoopSettings, Start
from fp_potential.scf.status import CONVERGED

ELEMENTS = [1, 8, 11, 17]

#: fixedpoint_update_config of every kind of update
UPDATES = {
    "one-body": {"polarize_symmetric_sites": False},
    "one-body MLP": {"nonlinearity_cls": "MLPNonLinearity"},
    "many-body": {"type": "ManyBodyUpdate"},
    "skip path": {"polarize_symmetric_sites": True},
    "monotone": {"monotone_charge": True, "nonlinearity_cls": "MLPNonLinearity"},
    "monotone affine": {"monotone_charge": True},
    "symmetric": {"type": "SymmetricUpdate"},
    "split charge": {"type": "SplitChargeUpdate"},
    "insulator": {"type": "SplitChargeUpdate", "metallic": "none"},
    "tanh": {"potential_embedding_cls": "TanhPotentialEmbedding"},
    "many-body MLP": {
        "type": "ManyBodyUpdate",
        "nonlinearity_cls": "MLPNonLinearity",
        "correlation": 2,
        "potential_embedding_cls": "BiasedLinearPotentialEmbedding",
    },
}

#: those without a Fermi level: constant charge only
INSULATORS = ("insulator",)


def make_model(seed: int = 0, dtype: torch.dtype = torch.float64, **options) -> FixedPointPotential:
    """A model with random weights and a density that responds noticeably."""
    torch.manual_seed(seed)
    settings = {"num_channels": 6, "radial_MLP": [16], "readout_channels": 6, "r_max": 4.0}
    settings |= {"fixedpoint_initial_charge_head_scale": 0.2, **options}
    opts = ModelOptions(**settings)
    energies = {1: -13.0, 8: -430.0, 11: -5.0, 17: -450.0}
    norms = ([9.0] * len(opts.field_feature_widths) + [0.6] * len(opts.field_feature_widths))[: opts.number_of_norms]
    statistics = ModelStatistics(
        atomic_energies=energies, avg_num_neighbors=15.0, field_feature_norms=norms, fermi_level_offset=-2.0
    )
    return FixedPointPotential(opts, ELEMENTS, statistics).to(dtype)


def soften(model: FixedPointPotential, factor: float) -> FixedPointPotential:
    """``model`` with the response of its density multiplied by ``factor``, and with it J."""
    update = model.solver.density_map.response
    with torch.no_grad():
        update.scalars.skip_bias.mul_(factor)
        update.scalars.skip_weight.mul_(factor)
        update.output.element_readout.mul_(factor)
    return model


def water_cluster(n: int = 3, seed: int = 1) -> Atoms:
    """``n`` water molecules in open boundaries, without symmetry."""
    rng = np.random.default_rng(seed)
    out = Atoms()
    for k in range(n):
        w = molecule("H2O")
        w.rotate(rng.uniform(0, 360), rng.normal(size=3))
        w.translate([2.9 * k, 0.6 * (k % 2), 0.3 * k])
        out += w
    out.rattle(0.05, seed=seed)
    return out


def salt_water_box(seed: int = 2, triclinic: bool = True, edge: float = 6.4) -> Atoms:
    """A periodic box shorter than twice the cutoff: six waters, one Na+ and one Cl-."""
    rng = np.random.default_rng(seed)
    out = Atoms()
    for k in range(8):
        site = np.array([k % 2, (k // 2) % 2, k // 4]) * edge / 2
        if k == 0:
            part = Atoms("Na", [[0, 0, 0]])
        elif k == 7:
            part = Atoms("Cl", [[0, 0, 0]])
        else:
            part = molecule("H2O")
            part.rotate(rng.uniform(0, 360), rng.normal(size=3))
        part.translate(site)
        out += part
    out.rattle(0.05, seed=seed)
    tilt = 1.0 if triclinic else 0.0
    out.set_cell(np.array([[edge, 0, 0], [0.7 * tilt, edge, 0], [-0.4 * tilt, 0.5 * tilt, edge]]))
    out.pbc = True
    return out


def salt_water(pbc: str, seed: int = 2) -> Atoms:
    """`salt_water_box` periodic along the axes with T (a slab: TTF, a wire: TFF); vectors of open axes are zero."""
    out = salt_water_box(seed)
    out.pbc = [letter == "T" for letter in pbc]
    out.cell[~out.pbc] = 0.0
    return out


def to_graph(atoms: Atoms, model: FixedPointPotential, **inputs) -> Graph:
    """A structure as the model's input, in the model's dtype."""
    dtype = next(model.parameters()).dtype
    return graph_from_atoms(atoms, model.elements, model.cutoff, dtype, **inputs)


def local_state(model: FixedPointPotential, atoms: Atoms) -> LocalState:
    """What the geometry alone decides."""
    graph = to_graph(atoms, model)
    i, j = graph.edge_index
    return model.local(graph, graph.positions[j] + graph.edge_shifts - graph.positions[i])


def evaluate(model: FixedPointPotential, graph: Graph, **changes) -> dict[str, torch.Tensor]:
    """`FixedPointPotential.evaluate` with tight defaults; ``changes`` by the names of the archive's arguments."""
    dtype = next(model.parameters()).dtype
    settings = {
        "num_scf_steps": 80,
        "scf_tolerance": 1e-11,
        "mixing_parameter": 0.3,
        "solver": "anderson",
        "constant_charge": True,
        "response_forces": True,
        "compute_forces": True,
        "initial_density": torch.zeros(0, 4, dtype=dtype),
        "initial_level": torch.zeros(0, dtype=dtype),
    }
    given = settings | changes
    loop = LoopSettings(*(given[name] for name in LoopSettings._fields))
    start = Start(given["initial_density"], given["initial_level"])
    return model.evaluate(
        graph, loop, start, given["constant_charge"], given["response_forces"], given["compute_forces"]
    )


def solved(
    model: FixedPointPotential, graph: Graph, constant_charge: bool = True, converges: bool = True
) -> tuple[SCFProblem, Tensor, Tensor]:
    """The problem linearised at its solution, the solution, and its level."""
    settings = LoopSettings(80, 1e-11, 0.3, "anderson")
    end = model.solve(graph, settings, own_start(graph.positions), constant_charge, False)
    assert not converges or end.result.status.tolist() == [CONVERGED]
    return end.fixed, end.result.x, end.result.level


def dense_jacobian(model: FixedPointPotential, problem: SCFProblem, density: Tensor, level: Tensor) -> np.ndarray:
    """dG/dp by central differences."""
    n, step = density.numel(), 1e-4
    columns = []
    for k in range(n):
        change = torch.zeros(n, dtype=density.dtype)
        change[k] = step
        change = change.reshape(density.shape)
        up = model.solver.density_map(problem, density + change, level)[0]
        down = model.solver.density_map(problem, density - change, level)[0]
        columns.append(((up - down) / (2 * step)).detach().reshape(-1))
    return torch.stack(columns, dim=1).numpy()
