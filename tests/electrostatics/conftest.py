"""The independent reference implementation graph-longrange 0.4.4."""

import sys
import types
import warnings

import pytest
import torch


@pytest.fixture(scope="module")
def graph_longrange():
    """Function (positions, density, cell, k cutoff) -> energy and field features, periodic boundaries."""
    pytest.importorskip("graph_longrange")
    # it imports scatter helpers of mace for its boundary corrections, which the periodic path never calls
    stand_in = {name: types.ModuleType(name) for name in ("mace", "mace.tools", "mace.tools.scatter")}
    stand_in["mace.tools.scatter"].scatter_sum = stand_in["mace.tools.scatter"].scatter_mean = None
    missing = {name: module for name, module in stand_in.items() if name not in sys.modules}
    sys.modules.update(missing)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([slice]):
            warnings.simplefilter("ignore")
            from graph_longrange.energy import GTOElectrostaticEnergy
            from graph_longrange.features import GTOElectrostaticFeatures
            from graph_longrange.kspace import compute_k_vectors_flat
    finally:
        for name in missing:
            sys.modules.pop(name, None)

    def evaluate(positions, density, box, cutoff):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its use of scipy with tensors is deprecated by numpy
                return compute(positions, density, box, cutoff)
        finally:
            torch.set_default_dtype(before)

    def compute(positions, density, box, cutoff):
        reciprocal = 2 * torch.pi * torch.linalg.inv(box).transpose(1, 2)
        batch = torch.zeros(len(positions), dtype=torch.int64)
        k = compute_k_vectors_flat(cutoff, box, reciprocal)
        inputs = (*k, density, positions, batch, torch.det(box), torch.ones(1, 3, dtype=torch.bool))
        shared = {"density_max_l": 1, "density_smearing_width": 1.5, "kspace_cutoff": cutoff, "pbc_handling": "pbc"}
        energy = GTOElectrostaticEnergy(**shared, include_self_interaction=True)
        features = GTOElectrostaticFeatures(
            **shared, feature_max_l=1, feature_smearing_widths=[1.5, 3.0], include_self_interaction=False
        )
        return energy(*inputs), features(*inputs)

    return evaluate
