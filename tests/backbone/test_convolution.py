"""The convolution operator against its defining sum, its derivatives, and the block-wise evaluation built on it."""

import pytest
import torch
from torch import Tensor

from figures import at_most
from fp_potential.backbone.convolution import convolve, padded_convolution
from structures import make_model, salt_water_box, to_graph


def paths_of(l_in: int, max_ell: int) -> list[int]:
    blocks = [(l1, l2) for l2 in range(max_ell + 1) for l1 in range(l_in + 1)]
    return [len(range(abs(a - b), min(a + b, max_ell) + 1, 2)) for a, b in blocks]


def arguments(l_in: int, max_ell: int, channels: int, dtype: torch.dtype = torch.float64) -> tuple:
    """Receivers with 0 … 9 neighbours among more atoms than there are receivers."""
    generator = torch.Generator().manual_seed(1)
    first = torch.tensor([0, 3, 3, 12, 13, 17])
    n_edges, n_total, hidden = 17, 8, 6
    paths = paths_of(l_in, max_ell)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(True)

    return (
        random(n_edges, hidden),
        random(hidden, sum(paths) * channels),
        random(n_edges, (max_ell + 1) ** 2),
        random(n_total, (l_in + 1) ** 2, channels),
        torch.randint(n_total, (n_edges,), generator=generator),
        first,
        paths,
    )


def plain_sum(x: Tensor, weight: Tensor, y: Tensor, h: Tensor, sender: Tensor, first: Tensor, paths: list) -> Tensor:
    channels, n = h.shape[2], len(first) - 1
    l_in, max_ell = int(h.shape[1] ** 0.5) - 1, int(y.shape[1] ** 0.5) - 1
    receiver = torch.repeat_interleave(torch.arange(n), first.diff())
    radial = (x @ weight).reshape(len(x), -1, channels)
    rows, path, block = [], 0, 0
    for l2 in range(max_ell + 1):
        for l1 in range(l_in + 1):
            for m2 in range(l2 * l2, (l2 + 1) ** 2):
                for t in range(paths[block]):
                    for m1 in range(l1 * l1, (l1 + 1) ** 2):
                        term = y[:, m2, None] * radial[:, path + t] * h[sender, m1]
                        rows.append(torch.zeros(n, channels, dtype=x.dtype).index_add(0, receiver, term))
            path += paths[block]
            block += 1
    return torch.stack(rows, dim=1)


def differ(found: Tensor, wanted: Tensor) -> Tensor:
    """Relative to the largest component."""
    return ((found - wanted).abs() / wanted.abs().max()).detach()


SHAPES = [(0, 2, 5), (1, 2, 32), (1, 3, 9), (2, 4, 3), (1, 1, 16), (0, 5, 8)]


@pytest.mark.parametrize("function", [convolve, padded_convolution])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_sum_over_edges(function, shape):
    """Values, first derivatives, and derivatives of a function of all of these."""
    a = arguments(*shape)

    def all_orders(f) -> list[Tensor]:
        value = f(*a)
        first = torch.autograd.grad(value.tanh().sum(), a[:4], create_graph=True)
        return [value, *first, *torch.autograd.grad(sum(g.tanh().sum() for g in first), a[:4])]

    for found, wanted in zip(all_orders(function), all_orders(plain_sum), strict=True):
        at_most("convolution against its sum, relative", differ(found, wanted), 1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_several_groups_of_receivers(threads):
    """So many channels that the radial weights of every receiver are made on their own, in one thread or two."""
    a = arguments(1, 1, 8192)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, wanted = (torch.autograd.grad(f(*a).tanh().sum(), a[:4]) for f in (convolve, plain_sum))
    finally:
        torch.set_num_threads(before)
    for x, y in zip(found, wanted, strict=True):
        at_most("convolution against its sum, relative", differ(x, y), 1e-12)


def test_third_derivatives():
    a = arguments(1, 2, 3)
    assert torch.autograd.gradgradcheck(
        lambda *x: torch.autograd.grad(convolve(*x, *a[4:]).square().sum(), x, create_graph=True),
        [x.detach().requires_grad_(True) for x in a[:4]],
    )


def test_single_precision():
    found = convolve(*arguments(1, 2, 20, torch.float32))
    wanted = plain_sum(*arguments(1, 2, 20))
    assert found.dtype == torch.float32
    at_most("convolution in single precision, relative", differ(found, wanted), 2e-6)


def test_without_edges():
    x, weight, y, h, sender, _, paths = arguments(1, 2, 4)
    none = convolve(x[:0], weight, y[:0], h, sender[:0], torch.zeros(4, dtype=torch.int64), paths)
    assert none.shape == (3, 45, 4) and not none.any()
    nobody = convolve(x[:0], weight, y[:0], h[:0], sender[:0], torch.zeros(1, dtype=torch.int64), paths)
    assert nobody.shape == (0, 45, 4)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(16, 6, dtype=torch.float64), "sizes do not fit"),
        (1, torch.zeros(6, 224, dtype=torch.float32), "arrays of one dtype"),
        (2, torch.zeros(17, 8, dtype=torch.float64), "all components up to some l"),
        (4, torch.full((17,), 8), "senders 8 ... 8 for 8 rows"),
        (5, torch.tensor([0, 3, 2, 12, 13, 17]), "must not decrease"),
        (5, torch.tensor([0, 3, 3, 12, 13, 16]), "end with the number of edges"),
        (6, [1, 1], "one number per"),
    ],
)
def test_bad_input(place, value, message):
    a = list(arguments(1, 2, 32))
    a[place] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fixedpoint.convolve(*a)


@pytest.mark.parametrize("edges", [1, 100, 10**6])
def test_blocks_change_nothing(edges):
    """Features and their derivatives by the edge vectors, in blocks of one atom, several, and all."""
    model = make_model()
    graph = to_graph(salt_water_box(), model)
    i, j = graph.edge_index
    vectors = (graph.positions[j] - graph.positions[i] + graph.edge_shifts).requires_grad_(True)
    backbone = model.backbone
    features = backbone(graph, backbone.neighbours(graph, vectors))
    gradients = [torch.randn_like(f) for f in features]
    (wanted,) = torch.autograd.grad(features, [vectors], gradients)
    backbone.cpu_edges = edges
    made = backbone.blocked(graph, vectors.detach())
    n_blocks = len(made.blocks.atoms) - 1
    assert n_blocks == {1: len(graph.batch), 10**6: 1}.get(edges, n_blocks)
    for found, feature in zip(made.features, features, strict=True):
        at_most("features in blocks", differ(found, feature), 1e-13)
    found = backbone.pull_back(graph, vectors.detach(), made, gradients)
    at_most("gradient of features in blocks", differ(found, wanted), 1e-12)
