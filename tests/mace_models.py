"""Models of mace-torch, their energies, and those of models with their weights."""

import os
import warnings
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fp_potential.train.potential.initialise.mace_weights import MaceWeights
from torch import nn

from fp_potential.model import FixedPointPotential
from fp_potential.options import ModelOptions, ModelStatistics
from structures import salt_water_box, to_graph, water_cluster

RESIDUAL, PLAIN = "RealAgnosticResidualInteractionBlock", "RealAgnosticInteractionBlock"
ELEMENTS = [1, 8, 11, 17]
STRUCTURES = {"molecules": water_cluster(), "crystal": salt_water_box()}


@lru_cache(maxsize=1)
def mace_torch() -> SimpleNamespace:
    """mace-torch's modules and data; its import changes how torch loads files, which must not reach other tests."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    with torch.serialization.safe_globals([slice]):
        from e3nn import o3
    from mace import data, modules, tools

    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before
    return SimpleNamespace(data=data, modules=modules, tools=tools, o3=o3)


def make_mace(dtype: torch.dtype = torch.float64, **changes: Any) -> nn.Module:
    """A small model with random weights; ``first`` and ``interaction`` are names of blocks."""
    settings = {"hidden_irreps": "8x0e+8x1o", "MLP_irreps": "5x0e", "max_ell": 2, "correlation": 2} | changes
    first, block = settings.pop("first", RESIDUAL), settings.pop("interaction", RESIDUAL)
    scale_shift = settings.pop("scale_shift", None)
    mace = mace_torch()
    blocks = mace.modules.interaction_classes
    settings = {
        "r_max": 4.0,
        "num_bessel": 5,
        "num_polynomial_cutoff": 6,
        "interaction_cls_first": blocks[first],
        "interaction_cls": blocks[block],
        "num_interactions": 2,
        "num_elements": len(ELEMENTS),
        "atomic_numbers": ELEMENTS,
        "atomic_energies": np.array([[-1.3, -4.3, -0.5, -4.5]]),
        "avg_num_neighbors": 1.1,
        "gate": nn.functional.silu,
        "radial_MLP": [12, 10],
    } | settings
    for name in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        if settings.get(name):
            settings[name] = mace.o3.Irreps(settings[name])
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.manual_seed(3)
    try:
        with warnings.catch_warnings():
            # e3nn compiles every layer, and torch complains about annotations in its constructors
            warnings.filterwarnings("ignore", "The TorchScript type system doesn't support", UserWarning)
            if scale_shift is None:
                return mace.modules.MACE(**settings)
            scale, shift = scale_shift
            return mace.modules.ScaleShiftMACE(**settings, atomic_inter_scale=scale, atomic_inter_shift=shift)
    finally:
        torch.set_default_dtype(default)


def their_energy(module: nn.Module, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy and forces by mace-torch, with its own neighbour list."""
    mace = mace_torch()
    default = torch.get_default_dtype()
    torch.set_default_dtype(next(module.parameters()).dtype)
    try:
        table = mace.tools.AtomicNumberTable([int(z) for z in module.atomic_numbers])
        configuration = mace.data.config_from_atoms(atoms)
        item = mace.data.AtomicData.from_config(configuration, z_table=table, cutoff=float(module.r_max))
        batch = next(iter(mace.tools.torch_geometric.dataloader.DataLoader([item], batch_size=1)))
        out = module(batch.to_dict())
    finally:
        torch.set_default_dtype(default)
    return out["energy"].item(), out["forces"].detach().numpy()


def build(weights: MaceWeights, **options: Any) -> FixedPointPotential:
    """A model with the imported weights, and random ones for the density."""
    settings = ModelOptions(**weights.options, **options)
    statistics = ModelStatistics(
        atomic_energies=weights.atomic_energies,
        avg_num_neighbors=weights.options["avg_num_neighbors"],
        field_feature_norms=[1.0] * (2 * len(settings.field_feature_widths)),
    )
    model = FixedPointPotential(settings, weights.elements, statistics).double()
    weights.check(settings, model.elements)
    weights.fill(model)
    return model


def our_energy(model: FixedPointPotential, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Local energy with E0s and its forces."""
    graph = to_graph(atoms, model)
    positions = graph.positions.clone().requires_grad_(True)
    i, j = graph.edge_index
    energy = model.local(graph, positions[j] - positions[i] + graph.edge_shifts).energy.sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    e0 = dict(zip(model.elements, model.atomic_energies, strict=True))
    return energy.item() + sum(e0[z] for z in atoms.numbers), -gradient.numpy()
