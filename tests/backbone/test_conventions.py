"""MACE's conventions, against e3nn and against plain sums over neighbours."""

import math

import numpy as np
import pytest
import torch

from fp_potential.backbone.radial import BesselBasis
from fp_potential.backbone.spherical_harmonics import spherical_harmonics
from fp_potential.coupling import clebsch_gordan, silu_norm, symmetric_basis
from fp_potential.options import ModelOptions
from structures import make_model, salt_water_box, to_graph


@pytest.fixture(scope="module")
def o3():
    with torch.serialization.safe_globals([slice]):
        from e3nn import o3
    return o3


def test_spherical_harmonics_are_e3nn_s(o3) -> None:
    r = torch.randn(20, 3, dtype=torch.float64)
    unit = r / r.norm(dim=1, keepdim=True)
    ours = spherical_harmonics(unit, 4)
    theirs = o3.spherical_harmonics([0, 1, 2, 3, 4], unit[:, [1, 2, 0]], normalize=True, normalization="component")
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_radial_basis() -> None:
    basis = BesselBasis(4.0, 3, 5)
    r = torch.tensor([1.3, 3.9999, 4.0, 4.2], dtype=torch.float64)
    values = basis(r)
    u = 1.3 / 4.0
    cutoff = 1 - 21 * u**5 + 35 * u**6 - 15 * u**7
    expected = [math.sqrt(0.5) * math.sin(n * math.pi * u) / 1.3 * cutoff for n in (1, 2, 3)]
    assert torch.allclose(values[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert values[1].abs().max() < 1e-10 and (values[2:] == 0).all()


def test_silu_norm() -> None:
    x = torch.linspace(-12, 12, 200001, dtype=torch.float64)
    weight = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
    second_moment = torch.trapezoid(torch.nn.functional.silu(x) ** 2 * weight, x).item()
    # e3nn, and so every MACE model, takes the constant from a million samples
    assert silu_norm() == pytest.approx(second_moment**-0.5, rel=5e-3)


@pytest.mark.parametrize("l_out", [0, 1])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_symmetric_basis_is_equivariant(o3, l_out: int, order: int) -> None:
    monomials, coefficients = symmetric_basis(2, l_out, order)
    rng = np.random.default_rng(0)
    x = rng.normal(size=9)
    rotation = o3.rand_matrix(1, dtype=torch.float64)[0]
    d = np.zeros((9, 9))
    for ell in range(3):
        s = slice(ell * ell, (ell + 1) ** 2)
        d[s, s] = o3.Irrep(ell, 1).D_from_matrix(rotation).numpy()
    d_out = o3.Irrep(l_out, 1).D_from_matrix(rotation).numpy()

    def contract(a: np.ndarray) -> np.ndarray:
        return np.einsum("p,pmk->mk", np.prod(a[monomials], axis=1), coefficients)

    assert np.allclose(contract(d @ x), d_out @ contract(x), atol=1e-10)
    assert coefficients.shape[2] == {(0, 1): 1, (0, 2): 3, (0, 3): 11, (1, 1): 1, (1, 2): 4, (1, 3): 21}[l_out, order]


def test_interaction_is_the_sum_over_neighbours() -> None:
    """The convolution against the defining sum, path by path."""
    model = make_model()
    graph = to_graph(salt_water_box(), model)
    layer = model.backbone.layers[1].interaction
    i, j = graph.edge_index
    vectors = graph.positions[j] - graph.positions[i] + graph.edge_shifts
    distance = vectors.norm(dim=1)
    c = layer.channels
    h = torch.randn(graph.positions.shape[0], 4, c, dtype=torch.float64)
    from fp_potential.backbone.neighbours import sorted_neighbours

    unit = vectors / distance.unsqueeze(1)
    tables = sorted_neighbours(graph.edge_index, unit, model.backbone.basis(distance), 2, len(h))
    with torch.no_grad():
        fast = layer(h, graph.species, tables)
        y = spherical_harmonics(unit, 2)
        radial = layer.radial(model.backbone.basis(distance)).split(c, dim=1)
        up = layer.linear_up(h, graph.species)[j]
        paths: list[list[torch.Tensor]] = [[], [], []]
        index = 0
        for l1, l2 in layer.blocks:
            for l3 in range(abs(l1 - l2), min(l1 + l2, 2) + 1):
                if (l1 + l2 + l3) % 2:
                    continue
                a, b = up[:, l1**2 : (l1 + 1) ** 2], y[:, l2**2 : (l2 + 1) ** 2]
                edge = torch.einsum("euc,ev,uvw,ec->ewc", a, b, clebsch_gordan(l1, l2, l3), radial[index])
                paths[l3].append(torch.zeros(len(h), 2 * l3 + 1, c, dtype=torch.float64).index_add(0, i, edge))
                index += 1
        slow = [
            torch.cat(blocks, dim=2) @ layer.weights[l3] * layer.scales[l3] * layer.inverse_neighbours
            for l3, blocks in enumerate(paths)
        ]
    assert torch.allclose(fast, torch.cat(slow, dim=1), atol=1e-12)


def test_features_have_no_larger_l_than_messages() -> None:
    with pytest.raises(ValueError, match=r"`max_L` \(2\) must not exceed `max_ell` \(1\)"):
        ModelOptions(max_L=2, max_ell=1)
