"""He and Xavier variances; parameters by name, shape and rows."""

import math

import pytest
import torch
from fp_potential.train.trainer.initial_values import Rows, scale_variances, take_parameters
from torch import nn

from fp_potential.nets import MLP, EquivariantLinear, GatedReadout, ScalarReadout


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(300, 500)
        self.mlp = MLP([300, 500, 200])
        self.equivariant = EquivariantLinear(1, 300, 100)
        self.per_element = EquivariantLinear(0, 30, 40, n_elements=3)
        self.scalar = ScalarReadout(300, 200)
        self.free = nn.Parameter(torch.ones(3, 4))


@pytest.mark.parametrize("method", ["he", "xavier"])
def test_variances(method):
    torch.manual_seed(0)
    net = Net()
    changed = scale_variances(net, method)
    assert changed == sum(p.numel() for p in net.parameters()) - 500 - 12  # without a bias and the free one
    assert torch.equal(net.free, torch.ones(3, 4)) and not net.layer.bias.any()

    def expected(fan_in, fan_out):
        return 2 / fan_in if method == "he" else 2 / (fan_in + fan_out)

    for weight, scale, sizes in (
        (net.layer.weight, 1.0, (300, 500)),
        (net.mlp.weights[0], net.mlp.scales[0], (300, 500)),
        (net.mlp.weights[1], net.mlp.scales[1], (500, 200)),
        (net.equivariant.weight, net.equivariant.scale, (300, 100)),
        (net.per_element.weight, net.per_element.scale * math.sqrt(3), (30, 40)),
        (net.scalar.weights[0], net.scalar.scales[0], (300, 200)),
    ):
        assert float((weight.detach() * scale).var()) == pytest.approx(expected(*sizes), rel=0.05)


def test_he_keeps_the_variance_of_a_deep_net_of_rectifiers():
    """What the variance is for: E x² of the activations is the same in the tenth layer as in the first."""
    torch.manual_seed(1)
    layers = nn.ModuleList(nn.Linear(256, 256, bias=False) for _ in range(10))
    scale_variances(layers, "he")
    x = torch.randn(64, 256)
    start = float(x.square().mean())
    with torch.no_grad():
        for layer in layers:
            x = layer(torch.relu(x))
    assert 0.5 < float(x.square().mean()) / start < 2.0


def test_scale_of_an_output_head_stays():
    torch.manual_seed(2)
    head = GatedReadout(8, 8, 0.01)
    before = float(head.last.weight.detach().abs().max())
    scale_variances(head, "he")
    assert float(head.last.weight.detach().abs().max()) == pytest.approx(math.sqrt(2) * before)


def test_parameters_are_taken_by_name_shape_and_rows():
    class Small(nn.Module):
        def __init__(self, kinds, width):
            super().__init__()
            self.same = nn.Parameter(torch.randn(2))
            self.table = nn.Parameter(torch.randn(2, kinds, 3))
            self.wide = nn.Parameter(torch.randn(width))

    target, source = Small(3, 4), Small(2, 5)
    target.extra = nn.Parameter(torch.zeros(1))
    before = target.table.detach().clone()
    given = {name: value.detach() for name, value in source.named_parameters()} | {"other": torch.zeros(1)}
    rows = {"table": Rows(axes=[1], here=[2, 0], there=[0, 1], sizes=(3, 2), factor=2.0)}
    result = take_parameters(target, given, rows)
    assert (result.taken, result.partly, result.absent, result.unused) == (["same"], ["table"], ["extra"], ["other"])
    assert result.differing == ["wide [4] (there [5])"]
    assert torch.equal(target.same, source.same)
    assert torch.equal(target.table[:, 2], 2 * source.table[:, 0])
    assert torch.equal(target.table[:, 0], 2 * source.table[:, 1])
    assert torch.equal(target.table[:, 1], before[:, 1])
    text = "\n".join(result.lines())
    assert (
        "1 of 4 tensors taken" in text and "wide [4] (there [5])" in text and "only in the other model: other" in text
    )


def test_rows_of_pairs_of_kinds():
    """Two axes of kinds: entries of common kinds, in their new order."""

    class Pairs(nn.Module):
        def __init__(self, kinds):
            super().__init__()
            self.pairs = nn.Parameter(torch.randn(2, kinds, kinds))

    target, source = Pairs(3), Pairs(2)
    before = target.pairs.detach().clone()
    result = take_parameters(
        target, {"pairs": source.pairs.detach()}, {"pairs": Rows(axes=[1, 2], here=[2, 0], there=[0, 1], sizes=(3, 2))}
    )
    assert (result.taken, result.partly) == ([], ["pairs"])
    assert torch.equal(target.pairs[:, [2, 0]][:, :, [2, 0]], source.pairs)
    assert torch.equal(target.pairs[:, 1], before[:, 1]) and torch.equal(target.pairs[:, :, 1], before[:, :, 1])
