"""mace-torch models without a counterpart are refused, with the name of every part that has none."""

from typing import Any

import numpy as np
import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.potential.initialise.mace_weights import load_mace
from torch import nn

from mace_models import mace_torch, make_mace

#: arguments that make a model without counterpart, and what is said of it
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"heads": ["pbe", "r2scan"], "atomic_energies": np.zeros((2, 4))}, "heads pbe, r2scan: there is one"),
    "pair repulsion": ({"pair_repulsion": True}, r"pair_repulsion \(ZBL\): there is no such term"),
    "Agnesi": ({"distance_transform": "Agnesi"}, r"distance_transform \(AgnesiTransform\): distances enter"),
    "Soft": ({"distance_transform": "Soft"}, r"distance_transform \(SoftTransform\)"),
    "Gaussian basis": ({"radial_type": "gaussian"}, r"radial_type \(GaussianBasis\): the radial basis here is Bessel"),
    "cutoff of the network": ({"apply_cutoff": False}, "apply_cutoff: False: the cutoff multiplies the radial basis"),
    "power of the cutoff": ({"num_polynomial_cutoff": 1}, "num_polynomial_cutoff 1: at least 2"),
    "edge irreps": ({"edge_irreps": "4x0e+4x1o"}, "edge_irreps: messages have the channels"),
    "density first": ({"first": "RealAgnosticDensityInteractionBlock"}, "interaction RealAgnosticDensityInter"),
    "density": ({"interaction": "RealAgnosticDensityResidualInteractionBlock"}, "interaction RealAgnosticDensityRes"),
    "nonlinear": (
        {"interaction": "RealAgnosticResidualNonLinearInteractionBlock"},
        "interaction RealAgnosticResidualN",
    ),
    "SO(3)": ({"use_so3": True, "hidden_irreps": "8x0e+8x1e"}, "use_so3: features have the parity"),
    "parity": ({"hidden_irreps": "4x0e+4x0o+4x1o"}, "hidden_irreps 4x0e.4x0o.4x1o: here every l has the same"),
    "channels": ({"hidden_irreps": "4x0e+2x1o"}, "hidden_irreps 4x0e.2x1o: here every l has the same number"),
    "too many l in messages": ({"max_ell": 5, "correlation": 1}, "max_ell 5: 1 to 4"),
    "too many l in features": (
        {"hidden_irreps": "4x0e+4x1o+4x2e+4x3o", "max_ell": 3},
        "hidden_irreps .*3o: l is at most",
    ),
    "more l than in messages": ({"hidden_irreps": "4x0e+4x1o+4x2e", "max_ell": 1}, "hidden_irreps .*at most max_ell"),
    "correlation": ({"correlation": 4, "max_ell": 1}, "correlation 4: 1 to 3"),
    "gate": ({"gate": torch.tanh}, "gate: silu"),
    "no gate": ({"gate": None}, "gate: silu"),
    "read-out class": ({"readout_cls": "NonLinearBiasReadoutBlock"}, "readout_cls NonLinearBiasReadoutBlock: Linear"),
    "further inputs": (
        {"embedding_specs": {"charge": {"type": "continuous", "in_dim": 1, "emb_dim": 2, "per": "graph"}}},
        "embedding_specs: atoms are embedded by their element only",
    ),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(settings: dict[str, Any], message: str) -> None:
    settings = {"correlation": 1, "max_ell": 1} | settings
    if "readout_cls" in settings:
        settings["readout_cls"] = mace_torch().modules.readout_classes[settings["readout_cls"]]
    module = make_mace(**settings)
    with pytest.raises(InputError, match=message):
        load_mace(module)


# e3nn compiles the adapters, and torch complains about annotations in its constructors
@pytest.mark.filterwarnings("ignore:The TorchScript type system doesn't support:UserWarning")
def test_changed_modules_are_refused() -> None:
    """What mace-torch's constructor cannot make, but other programs or users can."""
    module = make_mace(correlation=1, max_ell=1)
    accelerated = type("Linear", (nn.Module,), {"__module__": "cuequivariance_torch.operations.linear"})
    cases = [
        (module.interactions[1], "avg_num_neighbors", 3.0, "avg_num_neighbors 1.1, 3.0: the same for all layers"),
        (module, "readouts", module.readouts[::-1], "read-outs of inner layers NonLinearReadoutBlock: Linear"),
        (module, "readouts", nn.ModuleList([*module.readouts] * 2), "4 read-outs for 2 layers"),
        (module.products[1], "linear", accelerated(), r"layers of cuequivariance_torch.*mace_cueq_to_e3nn"),
    ]
    load_mace(module)
    for owner, name, value, message in cases:
        before = getattr(owner, name)
        setattr(owner, name, value)
        with pytest.raises(InputError, match=message):
            load_mace(module)
        setattr(owner, name, before)
    frequencies = module.radial_embedding.bessel_fn.bessel_weights
    frequencies.mul_(1.01)
    with pytest.raises(InputError, match="trained Bessel frequencies"):
        load_mace(module)
    frequencies.div_(1.01)
    from mace.modules.lora import inject_lora

    inject_lora(module)
    with pytest.raises(InputError, match=r"layers of mace.modules.lora.LoRAFCLayer, mace.modules.lora.LoRAO3Linear:"):
        load_mace(module)


@pytest.mark.parametrize("compiled", [False, True])
def test_other_modules_are_refused(compiled: bool) -> None:
    module = torch.jit.script(nn.Linear(2, 2)) if compiled else nn.Linear(2, 2)
    expected = "RecursiveScriptModule: a compiled TorchScript" if compiled else "Linear: only MACE and ScaleShiftMACE"
    with pytest.raises(InputError, match=expected):
        load_mace(module)


def test_all_reasons_are_named() -> None:
    with pytest.raises(InputError) as error:
        load_mace(make_mace(pair_repulsion=True, distance_transform="Agnesi", gate=torch.tanh, max_ell=1))
    assert len(str(error.value).splitlines()) == 4
