"""Which mace-torch models this package's backbone can represent, and with which options.

A model is looked at through its modules' attributes only, so that mace-torch need not be installed to import this file;
a pickled ``.model`` file can be read only where it is.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import InputError

INTERACTIONS = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")
#: hidden channels of the read-outs where the model does not say (its only read-out is linear)
READOUT_CHANNELS = 16
#: modules whose weights are copied, which mace-torch replaces in accelerated and adapted models
_E3NN = ("Linear", "TensorProduct", "FullyConnectedTensorProduct", "FullyConnectedNet", "_Layer")
_FORCE_PICKLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def read_mace(path: str | Path, trust: bool) -> nn.Module:
    """The module in a ``.model`` file of mace-torch, on the CPU.

    Such a file is a pickle: whoever wrote it decides what code runs when it is read.

    Raises:
        InputError: no such file, not trusted, mace-torch missing, or no module in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no mace-torch model '{path}'")
    if not trust:
        raise InputError(
            f"{path}: a .model file is a pickle, and reading one runs whatever code it holds; say that you trust its "
            "origin (--trust on the command line, trust=True in Python)"
        )
    forced = os.environ.get(_FORCE_PICKLE)
    try:
        # e3nn's table of constants holds slices; mace-torch prints a line about missing accelerators
        with torch.serialization.safe_globals([slice]), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module("e3nn.o3")  # before mace-torch, whose import makes it warn
            content = torch.load(path, map_location="cpu", weights_only=False)
    except ImportError as error:
        raise InputError(f"{path}: reading it needs mace-torch (pip install mace-torch): {error}") from error
    except Exception as error:
        raise InputError(f"{path}: not a readable mace-torch model ({type(error).__name__}: {error})") from error
    finally:
        # importing mace-torch turns torch's safe loading off for the whole process
        os.environ.pop(_FORCE_PICKLE, None)
        if forced is not None:
            os.environ[_FORCE_PICKLE] = forced
    if not isinstance(content, nn.Module):
        raise InputError(f"{path}: expected a mace-torch model, found {type(content).__name__}")
    return content


def backbone_options(mace: nn.Module) -> dict[str, Any]:
    """The options of `fp_potential.options.model.ModelOptions` that a mace-torch model decides.

    Raises:
        InputError: the model has a part that the backbone lacks; every such part is named.
    """
    reasons = list(_wrong_class(mace)) or list(_wrong_parts(mace))
    if reasons:
        raise InputError("this mace-torch model cannot be represented:\n  " + "\n  ".join(reasons))
    m: Any = mace
    first, number = m.interactions[0], len(m.interactions)
    radial = m.radial_embedding
    last = m.readouts[-1]
    return {
        "r_max": _decimal(radial.cutoff_fn.r_max),
        "num_radial_basis": int(radial.bessel_fn.bessel_weights.numel()),
        "num_cutoff_basis": int(radial.cutoff_fn.p),
        "max_ell": int(first.edge_attrs_irreps.lmax),
        "correlation": max(c.correlation for product in m.products for c in contractions(product)),
        "num_channels": channels(mace),
        "max_L": max(1, *(ell for product in m.products for ell in outputs(product))),
        "num_interactions": number,
        "readout_channels": last.linear_1.irreps_out.dim if hasattr(last, "linear_1") else READOUT_CHANNELS,
        "radial_MLP": [int(width) for width in first.conv_tp_weights.hs[1:-1]],
        "interaction_first": type(first).__name__,
        "interaction": type(m.interactions[-1]).__name__ if number > 1 else INTERACTIONS[1],
        "avg_num_neighbors": float(first.avg_num_neighbors),
    }


def channels(mace: nn.Module) -> int:
    """Channels of the hidden features."""
    irreps: Any = mace.node_embedding.linear.irreps_out  # type: ignore[union-attr]
    return int(irreps.dim)


def contractions(product: Any) -> list[Any]:
    """Symmetric contractions of a product block, one for each l it makes (`outputs`)."""
    return list(product.symmetric_contractions.contractions)


def outputs(product: Any) -> list[int]:
    """The l of a product block's contractions."""
    return [int(ir.l) for _, ir in product.symmetric_contractions.irreps_out]


def _decimal(value: torch.Tensor) -> float:
    """The number as it was typed: the shortest decimal that is ``value`` in its precision."""
    return float(str(value.detach().cpu().numpy()[()]))


def _wrong_class(mace: nn.Module) -> Iterator[str]:
    name = type(mace).__name__
    if name.endswith("ScriptModule"):
        yield f"{name}: a compiled TorchScript model; give the .model file it was made from"
    elif name not in ("MACE", "ScaleShiftMACE"):
        yield f"{name}: only MACE and ScaleShiftMACE have an energy of the same form"


def _wrong_parts(mace: Any) -> Iterator[str]:
    heads = list(getattr(mace, "heads", None) or ["Default"])
    if len(heads) > 1:
        yield f"heads {', '.join(heads)}: there is one here; select one with mace-torch's mace_select_head"
    if getattr(mace, "pair_repulsion", False):
        yield "pair_repulsion (ZBL): there is no such term here; core_repulsion has another form"
    if hasattr(mace, "joint_embedding"):
        yield "embedding_specs: atoms are embedded by their element only"
    yield from _wrong_radial(mace.radial_embedding)
    blocks = list(_wrong_blocks(mace))
    yield from blocks
    if not blocks:
        yield from _wrong_interactions(list(mace.interactions))
        yield from _wrong_products(mace)
        yield from _wrong_readout(mace.readouts[-1])


def _wrong_radial(radial: Any) -> Iterator[str]:
    if hasattr(radial, "distance_transform"):
        yield f"distance_transform ({type(radial.distance_transform).__name__}): distances enter the basis as they are"
    if type(radial.bessel_fn).__name__ != "BesselBasis":
        yield f"radial_type ({type(radial.bessel_fn).__name__}): the radial basis here is BesselBasis"
    else:
        weights = radial.bessel_fn.bessel_weights.detach().double()
        expected = torch.arange(1, len(weights) + 1) * (torch.pi / radial.cutoff_fn.r_max.double())
        if not torch.allclose(weights, expected, rtol=1e-6, atol=0.0):
            yield "trained Bessel frequencies: they are n pi / r_max here"
    if not getattr(radial, "apply_cutoff", True):
        yield "apply_cutoff: False: the cutoff multiplies the radial basis here, not the radial network"
    if int(radial.cutoff_fn.p) < 2:
        yield f"num_polynomial_cutoff {int(radial.cutoff_fn.p)}: at least 2 here"


def _wrong_blocks(mace: Any) -> Iterator[str]:
    """Blocks that lack what the other checks look at, or hold it in another form."""
    names = [type(block).__name__ for block in mace.interactions]
    unknown = sorted(set(names) - set(INTERACTIONS))
    if unknown:
        yield f"interaction {', '.join(unknown)}: here {' or '.join(INTERACTIONS)}"
    readouts = [type(readout).__name__ for readout in mace.readouts]
    if len(readouts) not in (1, len(names)):
        yield f"{len(readouts)} read-outs for {len(names)} layers: one for each, or for the last only, here"
    if readouts[-1:] not in (["LinearReadoutBlock"], ["NonLinearReadoutBlock"]):
        yield f"readout_cls {', '.join(readouts[-1:])}: LinearReadoutBlock or NonLinearReadoutBlock here"
    if set(readouts[:-1]) - {"LinearReadoutBlock"}:
        yield f"read-outs of inner layers {', '.join(readouts[:-1])}: LinearReadoutBlock here"
    if not unknown:
        foreign = sorted({_full_name(module) for module in _copied(mace) if not _plain(module)})
        if foreign:
            yield (
                f"layers of {', '.join(foreign)}: an accelerated (cueq, oeq) or adapted (LoRA) model; convert it to "
                "plain mace-torch first (mace_cueq_to_e3nn), or merge the adapters"
            )


def _copied(mace: Any) -> Iterator[nn.Module]:
    yield mace.node_embedding.linear
    for block in mace.interactions:
        yield from (block.linear_up, block.conv_tp, block.linear, block.skip_tp)
        yield from (block.conv_tp_weights, *block.conv_tp_weights.children())
    for product in mace.products:
        yield from (product.linear, product.symmetric_contractions)
    for readout in mace.readouts:
        yield from (getattr(readout, name) for name in ("linear", "linear_1", "linear_2") if hasattr(readout, name))


def _plain(module: nn.Module) -> bool:
    name, package = type(module).__name__, type(module).__module__.split(".")[0]
    return (name in _E3NN and package == "e3nn") or (name == "SymmetricContraction" and package == "mace")


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _wrong_interactions(blocks: list[Any]) -> Iterator[str]:
    if any(getattr(block, "edge_irreps", block.node_feats_irreps) != block.node_feats_irreps for block in blocks):
        yield "edge_irreps: messages have the channels of the hidden features here"
    of_layers: dict[str, list[Any]] = {
        "interaction_cls": [type(block).__name__ for block in blocks[1:]],
        "avg_num_neighbors": [float(block.avg_num_neighbors) for block in blocks],
        "radial_MLP": [tuple(block.conv_tp_weights.hs[1:-1]) for block in blocks],
    }
    for name, values in of_layers.items():
        if len(set(values)) > 1:
            yield f"{name} {', '.join(map(str, values))}: the same for all layers here"
    edges = blocks[0].edge_attrs_irreps
    if any(ir.p != (-1) ** ir.l for _, ir in edges):
        yield "use_so3: features have the parity (-1)^l here"
    if not 1 <= edges.lmax <= 4:
        yield f"max_ell {edges.lmax}: 1 to 4 here"


def _wrong_products(mace: Any) -> Iterator[str]:
    hidden = mace.products[0].symmetric_contractions.irreps_out
    if any(mul != channels(mace) or ir.p != (-1) ** ir.l for mul, ir in hidden):
        yield f"hidden_irreps {hidden}: here every l has the same number of channels and the parity (-1)^l"
    largest = max(outputs(mace.products[0]))
    if largest > min(2, mace.interactions[0].edge_attrs_irreps.lmax):
        yield f"hidden_irreps {hidden}: l is at most 2, and at most max_ell, here"
    correlation = max(c.correlation for product in mace.products for c in contractions(product))
    if correlation > 3:
        yield f"correlation {correlation}: 1 to 3 here"


def _wrong_readout(last: Any) -> Iterator[str]:
    acts = last.non_linearity.acts if hasattr(last, "non_linearity") else []
    if any(getattr(act, "f", None) is not nn.functional.silu for act in acts):
        yield "gate: silu here"
