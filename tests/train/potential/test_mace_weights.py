"""Weights of mace-torch models: what is left as initialised, files, and models they do not fit."""

import os
import sys
from pathlib import Path

import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.potential.initialise.mace_weights import PARTS, load_mace

from fp_potential.model import FixedPointPotential
from fp_potential.options import ModelOptions, ModelStatistics
from mace_models import build, make_mace


def test_the_rest_stays_as_initialised() -> None:
    module = make_mace()
    before = torch.random.get_rng_state()
    weights = load_mace(module, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights.remarks == ["layer 2 makes l = 0 at most in mace-torch: its weights for larger l are initial ones"]
    again, other = load_mace(module, seed=5), load_mace(module, seed=6)
    differing = {name for name, value in weights.state.items() if not torch.equal(value, other.state[name])}
    assert all(torch.equal(value, again.state[name]) for name, value in weights.state.items())
    layer = "backbone.layers.1"
    assert differing == {f"{layer}.{name}" for name in ("product.first.weight", "product.higher.0.weight")} | {
        f"{layer}.product.linear.weight",
        f"{layer}.skip.weight",
    }
    # of those, what scalars are made of is the model's
    name = f"{layer}.skip.weight"
    assert torch.equal(weights.state[name][0], other.state[name][0])
    torch.manual_seed(1)
    model = build(weights)
    torch.manual_seed(1)
    untouched = FixedPointPotential(
        ModelOptions(**weights.options),
        weights.elements,
        ModelStatistics(atomic_energies=weights.atomic_energies, avg_num_neighbors=1.1, field_feature_norms=[1.0] * 4),
    )
    for name, value in untouched.state_dict().items():
        assert torch.equal(model.state_dict()[name].float(), value) == (not name.startswith(PARTS)), name


def test_a_model_that_does_not_fit() -> None:
    weights = load_mace(make_mace())
    other = ModelOptions(**(weights.options | {"max_ell": 3, "avg_num_neighbors": None}))
    with pytest.raises(InputError) as error:
        weights.check(other, [1, 8])
    assert str(error.value).splitlines()[1:] == [
        "  model.max_ell: 3, the mace-torch model has 2",
        "  model.avg_num_neighbors: None, the mace-torch model has 1.1",
        "  elements (atomic numbers) [1, 8], the weights are of [1, 8, 11, 17]",
    ]


def test_files(tmp_path: Path) -> None:
    module, path, start = make_mace(), tmp_path / "water.model", tmp_path / "start.pt"
    torch.save(module, path)
    with pytest.raises(InputError, match=r"water.model: a .model file is a pickle.*--trust"):
        load_mace(path)
    before = dict(os.environ)
    weights = load_mace(path, trust=True)
    assert os.environ == before
    weights.save(start)
    stored = load_mace(start)
    expected = load_mace(module)
    for found in (weights, stored):
        assert found.options == expected.options and found.elements == expected.elements
        assert found.atomic_energies == expected.atomic_energies and found.remarks == expected.remarks
        assert found.state.keys() == expected.state.keys()
        assert all(torch.equal(value, expected.state[name]) for name, value in found.state.items())
    with pytest.raises(InputError, match=r"start.pt: holds the elements .*\[1, 8, 11, 17\], wanted \[1, 8\]"):
        load_mace(start, elements=[8, 1])


def test_files_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no mace-torch model 'nowhere.model'"):
        load_mace("nowhere.model", trust=True)
    path = tmp_path / "some.model"
    path.write_text("text")
    with pytest.raises(InputError, match=r"some.model: not a readable mace-torch model"):
        load_mace(path, trust=True)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"some.model: expected a mace-torch model, found dict"):
        load_mace(path, trust=True)


def test_reading_needs_mace_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "water.model"
    torch.save(make_mace(), path)
    monkeypatch.setitem(sys.modules, "mace.modules.models", None)
    with pytest.raises(InputError, match=r"reading it needs mace-torch \(pip install mace-torch\)"):
        load_mace(path, trust=True)
