"""Published class names: the catalogue, checkpoints, and what is refused."""

import pytest
import torch

from bands.test_gradients import KEYS
from fp_potential.bands import by_published_name, load_published, published_state
from fp_potential.bands.local_forms import GaussianEnvelope, LogisticEnvelope, NeuralForm
from fp_potential.bands.published_forms import FAMILIES

Q = torch.linspace(0.0, 12.0, 25, dtype=torch.float64)


def published_layers(name, state, q):
    """v(q) from a published checkpoint, written out: layers in turn, then the envelope."""
    family, x = FAMILIES[name], q.unsqueeze(1)
    inner = {key.removeprefix("neural_network."): value for key, value in state.items()}
    n = sum(key.startswith(family.layers + ".") and key.endswith("weight") for key in inner)
    function = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "celu": torch.celu}[family.activation]
    for i in range(n):
        x = x @ inner[f"{family.layers}.{i}.weight"].T + inner[f"{family.layers}.{i}.bias"]
        if i == n - 1:
            break
        if f"hidden_bn.{i}.weight" in inner:
            weight, bias, mean, var = (inner[f"hidden_bn.{i}.{k}"] for k in NORM)
            x = (x - mean) / torch.sqrt(var + 1e-5) * weight + bias
        x = function(x)
    q = q.unsqueeze(1)
    gates = {
        "none": torch.ones_like(q),
        "gaussian": torch.exp(-(q**2) / 8.0),
        "logistic": 1.0 - 1.0 / (1.0 + torch.exp(-2.0 * (q - 3.0))),
        "fixed_logistic": 1.0 - 1.0 / (1.0 + torch.exp(-1.5 * (q - 6.0))),
        "step": (q <= 10.0).to(q.dtype),
    }
    scale = torch.tensor(KEYS["PPmodel_scale"], dtype=torch.float64) if family.scaled else 1.0
    return x * gates[family.envelope] * scale


NORM = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpoints(name):
    """A checkpoint of each class loads into a form of other weights, and gives what the class computes."""
    first = by_published_name(name, [7, 5], 2, **KEYS, generator=torch.Generator().manual_seed(1))
    assert isinstance(first, NeuralForm)
    first(Q)  # running means of batch normalisation
    state = {key: value.clone() for key, value in published_state(first, name).items()}
    second = by_published_name(name, [7, 5], 2, **KEYS, generator=torch.Generator().manual_seed(2))
    assert isinstance(second, NeuralForm)
    load_published(second, state)
    second.eval()
    assert torch.allclose(second(Q), published_layers(name, state, Q), rtol=0, atol=1e-13)
    assert not torch.allclose(second(Q), torch.zeros(1, dtype=torch.float64))


def test_first_weights():
    """The distributions of the first weights have the spread of their names."""
    spreads = {"xavier": 2 / 500, "xavier_uniform": 2 / 500, "he": 2 / 300, "he_uniform": 2 / 300, "random": 1 / 300}
    for start, variance in (spreads | {"uniform": 1 / 12, "default": 1 / 900}).items():
        form = NeuralForm([300, 200], 2, start=start, generator=torch.Generator().manual_seed(1))
        weight = form.layers[1].weight.detach()
        assert float(weight.var()) == pytest.approx(variance, rel=0.02), start
        bounded = float((weight - weight.mean()).abs().max()) < 1.02 * (3 * variance) ** 0.5
        assert bounded == ("uniform" in start or start == "default"), start


def test_dropout():
    """Neurons are left out in training only."""
    form = NeuralForm([50, 50], 1, dropout=0.5, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(form(Q), form(Q))
    form.eval()
    assert torch.equal(form(Q), form(Q))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: by_published_name("Net_celu_HeInit_decayGausian", [4], 2), "did you mean Net_celu_HeInit_decayGauss"),
        (lambda: by_published_name("Net_celu_HeInit_decay_LSD", [4], 2), "takes descriptors of the neighbourhood"),
        (lambda: by_published_name("Net_celu_HeInit_decay", [4], 2), "needs the key `PPmodel_decay_rate`"),
        (lambda: by_published_name("Net_relu_xavier_decayGaussian", [4], 2), "needs the key `PPmodel_gaussian_std`"),
        (
            lambda: by_published_name("Net_celu_HeInit_scale_decayGaussian", [4], 3, PPmodel_gaussian_std=2.0),
            "needs the key `PPmodel_scale`",
        ),
        (lambda: by_published_name("Net_relu", [], 2), "takes a hidden layer or more"),
        (lambda: NeuralForm([4], 3, scale=[1.0, 2.0]), "a factor for each of the 3 species, not 2"),
        (lambda: NeuralForm([4], 3, dropout=1.0), "`dropout` must be a probability below 1, not 1.0"),
        (lambda: GaussianEnvelope(0.0), "`std` of an envelope must be positive"),
        (lambda: LogisticEnvelope(-1.0, 2.0), "`rate` of an envelope must be positive"),
        (
            lambda: load_published(NeuralForm([4], 2), published_state(NeuralForm([5], 2), "Net_celu_HeInit")),
            r"has linear layers \[\(5, 1\), \(2, 5\)\], the form \[\(4, 1\), \(2, 4\)\]",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
