"""The backbone with the weights of mace-torch models, against mace-torch itself."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.potential.initialise.mace_weights import load_mace

from figures import at_most
from mace_models import PLAIN, STRUCTURES, build, make_mace, our_energy, their_energy
from structures import evaluate, to_graph

#: arguments of mace-torch's constructors, apart from those of `make_mace`
MODELS: dict[str, dict[str, Any]] = {
    "MACE": {},
    "ScaleShiftMACE": {"scale_shift": (1.7, 0.3), "correlation": 3},
    "first block without residual": {"first": PLAIN, "scale_shift": (0.8, -0.2), "avg_num_neighbors": 0.3},
    "no block with residual": {"first": PLAIN, "interaction": PLAIN, "num_interactions": 3, "avg_num_neighbors": 0.3},
    "l up to 3 in messages": {"max_ell": 3, "correlation": 3},
    "l up to 2 in features": {"hidden_irreps": "6x0e+6x1o+6x2e", "correlation": 3},
    "l up to 4 in messages": {"max_ell": 4, "num_interactions": 1},
    "scalar features": {"hidden_irreps": "8x0e", "max_ell": 3},
    "three layers, all l in the last": {"num_interactions": 3, "keep_last_layer_irreps": True},
    "correlation by layer": {"correlation": [3, 1]},
    "one layer": {"num_interactions": 1, "scale_shift": (1.3, 0.1)},
    "product the same for all elements": {"use_agnostic_product": True},
    "only the last read-out": {"use_last_readout_only": True, "num_interactions": 3},
}


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_energy_and_forces_are_those_of_mace(settings: dict[str, Any]) -> None:
    module = make_mace(**settings)
    model = build(load_mace(module))
    for atoms in STRUCTURES.values():
        energy, forces = their_energy(module, atoms)
        ours, our_forces = our_energy(model, atoms)
        assert np.abs(forces).max() > 0.1
        at_most("mace: energy, eV", abs(ours - energy), 1e-10)
        at_most("mace: forces, eV/Å", np.abs(our_forces - forces), 1e-9)


def test_self_consistent_model_reports_it_as_its_local_energy() -> None:
    module = make_mace(scale_shift=(1.7, 0.3))
    model = build(load_mace(module))
    atoms = STRUCTURES["molecules"]
    out = evaluate(model, to_graph(atoms, model))
    assert out["energy_local"].item() == pytest.approx(their_energy(module, atoms)[0], abs=1e-10)


def test_a_choice_of_elements() -> None:
    module = make_mace(scale_shift=(1.7, 0.3), first=PLAIN, avg_num_neighbors=0.3)
    model = build(load_mace(module, elements=[8, 1]))
    assert model.elements == [1, 8] and model.atomic_energies == pytest.approx([-1.0, -4.0])
    atoms = STRUCTURES["molecules"]
    at_most("mace: energy, eV", abs(our_energy(model, atoms)[0] - their_energy(module, atoms)[0]), 1e-10)
    with pytest.raises(InputError, match=r"lacks the elements with atomic numbers \[6\]; it has \[1, 8, 11, 17\]"):
        load_mace(module, elements=[1, 6])


def test_another_basis_of_the_product() -> None:
    """The reduced coupling coefficients of accelerated models: fewer, orthogonal, in any order."""
    module = make_mace(correlation=3, max_ell=3)
    rng = torch.Generator().manual_seed(0)
    for product in module.products:
        for contraction in product.symmetric_contractions.contractions:
            weights = [contraction.weights_max, *contraction.weights][::-1]
            for order, weight in enumerate(weights, start=1):
                full = getattr(contraction, f"U_matrix_{order}")
                reduced = reduce_basis(full.numpy(), order)
                setattr(contraction, f"U_matrix_{order}", torch.tensor(reduced))
                weight.data = torch.randn(4, reduced.shape[-1], 8, generator=rng, dtype=torch.float64)
    assert module.products[0].symmetric_contractions.contractions[0].U_matrix_3.shape[-1] < 23
    model = build(load_mace(module))
    for atoms in STRUCTURES.values():
        energy, forces = their_energy(module, atoms)
        ours, our_forces = our_energy(model, atoms)
        at_most("mace: energy, eV", abs(ours - energy), 1e-10)
        at_most("mace: forces, eV/Å", np.abs(our_forces - forces), 1e-9)


def reduce_basis(couplings: np.ndarray, order: int) -> np.ndarray:
    """An orthonormal basis of the symmetric part of the couplings' span, in their layout."""
    n = couplings.shape[-2]
    tensor = couplings.reshape((-1,) + (n,) * order + couplings.shape[-1:])
    permuted = [tensor.transpose(0, *(1 + i for i in p), order + 1) for p in permutations(range(order))]
    symmetric = np.mean(permuted, axis=0).reshape(-1, tensor.shape[-1])
    vectors, values, _ = np.linalg.svd(symmetric, full_matrices=False)
    return vectors[:, values > 1e-8].reshape(couplings.shape[:-1] + (-1,))


def test_single_precision() -> None:
    """A model of single precision is that model to single precision; its cutoff is the number that was typed."""
    module = make_mace(torch.float32, r_max=4.3)
    weights = load_mace(module)
    assert weights.options["r_max"] == 4.3 and all(w.dtype == torch.float64 for w in weights.state.values())
    energy, forces = their_energy(module, STRUCTURES["crystal"])
    ours, our_forces = our_energy(build(weights), STRUCTURES["crystal"])
    at_most("mace: energy of a float32 model, relative", abs(ours - energy) / abs(energy), 1e-6)
    at_most("mace: forces of a float32 model, eV/Å", np.abs(our_forces - forces), 1e-5)
