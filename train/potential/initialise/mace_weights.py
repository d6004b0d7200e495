"""Weights of a mace-torch model for the backbone and the energy read-outs: the same local energy, to rounding.

What differs between the two, and how the weights are carried over:

- normalisations of e3nn's layers are multiplied into their matrices and divided out by ours; the second moment of silu,
  which a pickled model keeps, goes into the next matrix;
- the paths (l1, l2, l3) of the convolution have another order;
- mace-torch's symmetric contraction multiplies tensors U_k, ours polynomials over monomials B_k'. Both span the
  equivariant polynomials (or U a part of them), so U_k = sum_k' X_k'k B_k' is solved for X and the weights are X w;
- edges point from sender to receiver there and the other way here, and the axes enter in another order: a rotation and
  an inversion of the whole structure, which leave the energy as it is;
- ScaleShiftMACE's scale goes into the last matrices of the read-outs, its shift into the energies of the atoms.

Where a model has less than the backbone (no l = 1 features, a lower correlation, no inner read-outs), the matrices
that would let the additional features into the energy are zero.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ....backbone.contraction import ProductBasis
from ....backbone.interaction import Interaction
from ....backbone.mace import Layer
from ....coupling import over_monomials, symmetric_basis
from ....model import FixedPointPotential
from ....nets import MLP, EquivariantLinear, ScalarReadout
from ....options import ModelOptions, ModelStatistics
from ...errors import InputError
from .mace_model import backbone_options, contractions, outputs, read_mace

FORMAT = "fp_potential weights of mace-torch"
PARTS = ("backbone.", "energy_readouts.")


@dataclass(frozen=True)
class MaceWeights:
    """What of a mace-torch model starts a model of this package."""

    options: dict[
        str, Any
    ]  #: of `fp_potential.options.model.ModelOptions`; a model must have these to take the weights
    elements: list[int]  #: atomic numbers, ascending
    atomic_energies: dict[int, float]  #: E0 by atomic number with the shift of ScaleShiftMACE, eV
    state: dict[str, Tensor]  #: of the model's ``backbone`` and ``energy_readouts``, complete, float64
    remarks: list[str]  #: which of these weights have no counterpart

    def check(self, options: ModelOptions, elements: Sequence[int]) -> None:
        """Refuse a model that these weights do not fit.

        Raises:
            InputError: names each option with the value it must have, and the elements.
        """
        differing = [
            f"model.{name}: {getattr(options, name)}, the mace-torch model has {value}"
            for name, value in self.options.items()
            if getattr(options, name) != value
        ]
        if list(elements) != self.elements:
            differing.append(f"elements (atomic numbers) {list(elements)}, the weights are of {self.elements}")
        if differing:
            raise InputError("the weights of the mace-torch model do not fit:\n  " + "\n  ".join(differing))

    def fill(self, model: FixedPointPotential) -> None:
        """Copy the weights into ``model``, in its precision; its other weights and its E0s stay."""
        model.load_state_dict(model.state_dict() | self.state)

    def summary(self) -> dict[str, Any]:
        """What the weights are of, for `fixedpoint info`."""
        return {
            "weights of": "a mace-torch model, to start a training from",
            "elements": [chemical_symbols[z] for z in self.elements],
            "atomic energies [eV]": {chemical_symbols[z]: energy for z, energy in self.atomic_energies.items()},
            "model": self.options,
            "parameters": sum(value.numel() for value in self.state.values()),
            "remarks": "; ".join(self.remarks) or "none",
        }

    def save(self, path: str | Path) -> None:
        """Write what `load_mace` reads without mace-torch."""
        torch.save({"format": FORMAT} | vars(self), path)


def load_mace(
    source: str | Path | nn.Module, elements: Sequence[int] | None = None, trust: bool = False, seed: int = 0
) -> MaceWeights:
    """The weights of a mace-torch model, from its ``.model`` file, its module, or a file of `MaceWeights.save`.

    Args:
        source: file or module; a ``.model`` file needs mace-torch and ``trust``, because reading it runs what it holds.
        elements: atomic numbers to keep; none: all of the model's.
        trust: whether the file's origin is trusted.
        seed: of the weights without a counterpart.

    Raises:
        InputError: unreadable, not trusted, not representable (with every reason), or without one of the elements.
    """
    if not isinstance(source, nn.Module):
        stored = stored_weights(source)
        if stored is not None:
            if elements is not None and sorted(elements) != stored.elements:
                raise InputError(
                    f"{source}: holds the elements (atomic numbers) {stored.elements}, wanted {sorted(elements)}; "
                    "import them from the mace-torch model"
                )
            return stored
    mace: Any = source if isinstance(source, nn.Module) else read_mace(source, trust)
    options = backbone_options(mace)
    known = [int(number) for number in mace.atomic_numbers]
    chosen = sorted(known if elements is None else {int(number) for number in elements})
    missing = sorted(set(chosen) - set(known))
    if missing:
        raise InputError(f"the mace-torch model lacks the elements with atomic numbers {missing}; it has {known}")
    rows = torch.tensor([known.index(number) for number in chosen])
    energies = dict(zip(chosen, _atomic_energies(mace)[rows].tolist(), strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(options, chosen, energies)
    remarks = copy_weights(mace, model, rows)
    state = {name: value for name, value in model.state_dict().items() if name.startswith(PARTS)}
    return MaceWeights(options, chosen, energies, state, remarks)


def stored_weights(path: str | Path) -> MaceWeights | None:
    """The content of a file of `MaceWeights.save`; None if the file is another one, or missing."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            return None  # TorchScript
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # it holds more than numbers, as a module's does
        return None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        return None
    return MaceWeights(**content)


@torch.no_grad()
def copy_weights(mace: Any, model: FixedPointPotential, rows: Tensor) -> list[str]:
    """Copy into ``model`` what of ``mace`` has a place there; ``rows`` are its elements in ``mace``'s list.

    Returns sentences on the weights without a counterpart, which stay as they are or are zero.
    """
    backbone, n_layers = model.backbone, len(model.backbone.layers)
    backbone.embedding.copy_(_blocks(mace.node_embedding.linear)[0, 0][rows] / backbone.embedding_scale)
    remarks = []
    for t, layer in enumerate(backbone.layers):
        product, made = mace.products[t], outputs(mace.products[t])
        _copy_layer(mace.interactions[t], product, layer, rows)
        if max(made) < layer.l_out:
            remarks.append(
                f"layer {t + 1} makes l = {max(made)} at most in mace-torch: its weights for larger l are initial ones"
            )
        if max(c.correlation for c in contractions(product)) < 1 + len(layer.product.higher):
            remarks.append(f"layer {t + 1} has a lower correlation: its weights for higher orders are zero")
    scale = _scale_shift(mace)[0]
    for t, readout in enumerate(model.energy_readouts):
        theirs = mace.readouts[t - n_layers] if n_layers - t <= len(mace.readouts) else None
        if theirs is None:
            readout.weights[0].zero_()
            remarks.append(f"layer {t + 1} has no energy read-out: its weights are zero")
        else:
            _copy_readout(theirs, readout, scale)
    return remarks


def _build(options: dict[str, Any], elements: list[int], energies: dict[int, float]) -> FixedPointPotential:
    model_options = ModelOptions(**options)
    statistics = ModelStatistics(
        atomic_energies=energies,
        avg_num_neighbors=options["avg_num_neighbors"],
        field_feature_norms=[1.0] * (2 * len(model_options.field_feature_widths)),
    )
    return FixedPointPotential(model_options, elements, statistics).double()


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _scale_shift(mace: Any) -> tuple[float, float]:
    if not hasattr(mace, "scale_shift"):
        return 1.0, 0.0
    return float(_double(mace.scale_shift.scale)), float(_double(mace.scale_shift.shift))


def _atomic_energies(mace: Any) -> Tensor:
    """E0 and shift of the elements of the model ``(n_elements,)``."""
    return _double(mace.atomic_energies_fn.atomic_energies).reshape(-1) + _scale_shift(mace)[1]


def _blocks(linear: Any) -> dict[tuple[int, int], Tensor]:
    """Matrices of an e3nn linear map by (i_in, i_out), or (C_in, n_elements, C_out) of one per element, normalised."""
    blocks, start, weight = {}, 0, _double(linear.weight)
    for instruction in linear.instructions:
        shape, factor = tuple(instruction.path_shape), instruction.path_weight
        if len(shape) == 3:
            # the product with the elements' scalars has the coupling 1/sqrt(2l+1)
            factor /= math.sqrt(linear.irreps_out[instruction.i_out].ir.dim)
        size = math.prod(shape)
        blocks[instruction[0], instruction.i_out] = weight[start : start + size].reshape(shape) * factor
        start += size
    return blocks


def _copy_linear(theirs: Any, ours: EquivariantLinear, rows: Tensor) -> None:
    """Copy the matrices of every l that ``theirs`` has."""
    for (_, i_out), matrix in _blocks(theirs).items():
        ell = theirs.irreps_out[i_out].ir.l
        per_element = matrix.transpose(0, 1)[rows] if ours.per_element else matrix
        ours.weight[ell].copy_(per_element / ours.scale)


def _copy_layer(interaction: Any, product: Any, layer: Layer, rows: Tensor) -> None:
    ours = layer.interaction
    _copy_linear(interaction.linear_up, ours.linear_up, rows)
    _copy_convolution(interaction, ours)
    _copy_linear(interaction.skip_tp, layer.skip, rows)
    _copy_product(product, layer.product, layer.interaction.max_ell, rows)
    _copy_linear(product.linear, layer.product.linear, rows)


def _copy_convolution(theirs: Any, ours: Interaction) -> None:
    """Radial networks and the matrices after the coupling, path by path; paths ``theirs`` lacks get zero matrices."""
    c, tensor_product = ours.channels, theirs.conv_tp
    matrices = {i_in: matrix for (i_in, _), matrix in _blocks(theirs.linear).items()}
    found = {}
    for place, path in enumerate(tensor_product.instructions):
        irreps = tensor_product.irreps_in1[path.i_in1], tensor_product.irreps_in2[path.i_in2]
        out = tensor_product.irreps_out[path.i_out].ir
        # here the coupling of a path is sqrt(2 l3 + 1) times Wigner's 3j symbol
        factor = path.path_weight / math.sqrt(out.dim)
        found[irreps[0].ir.l, irreps[1].ir.l, out.l] = place, matrices[path.i_out] * factor
    last = _copy_hidden(theirs.conv_tp_weights, ours.radial)
    column, used = 0, [0] * (ours.max_ell + 1)
    for l1, l2, l3 in _paths(ours):
        into = slice(used[l3] * c, (used[l3] + 1) * c)
        if (l1, l2, l3) in found:
            place, matrix = found[l1, l2, l3]
            ours.radial.weights[-1][:, column : column + c].copy_(
                last[:, place * c : (place + 1) * c] / ours.radial.scales[-1]
            )
            ours.weights[l3][into].copy_(matrix / ours.scales[l3])
        else:
            ours.weights[l3][into].zero_()
        used[l3] += 1
        column += c


def _paths(ours: Interaction) -> list[tuple[int, int, int]]:
    """(l1, l2, l3) in the order of the radial network's output."""
    return [
        (l1, l2, l3)
        for l1, l2 in ours.blocks
        for l3 in range(abs(l1 - l2), min(l1 + l2, ours.max_ell) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


def _copy_hidden(theirs: Any, ours: MLP) -> Tensor:
    """Copy all matrices of an e3nn network but the last, which is returned with its normalisation."""
    matrix, before = torch.empty(0), 1.0
    for i, scale in enumerate(ours.scales):
        layer = getattr(theirs, f"layer{i}")
        matrix = _double(layer.weight) * (before / math.sqrt(layer.h_in))
        if layer.act is not None:
            before = layer.act.cst / ours.activation_scale
            ours.weights[i].copy_(matrix / scale)
    return matrix


def _copy_product(theirs: Any, ours: ProductBasis, max_ell: int, rows: Tensor) -> None:
    for ell, contraction in zip(outputs(theirs), contractions(theirs), strict=True):
        # the highest order's weights have a name of their own, the others follow downwards
        weights = [contraction.weights_max, *contraction.weights][::-1]
        for order, block in enumerate([ours.first, *ours.higher], start=1):
            start = sum(block.sizes[:ell])
            place = block.weight[:, start : start + block.sizes[ell]]
            if order > contraction.correlation:
                place.zero_()
                continue
            weight = _double(weights[order - 1])
            weight = weight.expand(int(rows.max()) + 1, -1, -1) if len(weight) == 1 else weight
            change = _change_of_basis(_double(contraction.U_tensors(order)), max_ell, ell, order)
            place.copy_(torch.einsum("jk,zkc->zjc", change, weight[rows]))


def _change_of_basis(theirs: Tensor, max_ell: int, ell: int, order: int) -> Tensor:
    """X ``(K_ours, K_theirs)`` with U = B X over monomials; ``theirs`` is U ``([2 ell + 1,] n, …, n, K_theirs)``."""
    n = (max_ell + 1) ** 2
    tensor = theirs.numpy().reshape((2 * ell + 1,) + (n,) * order + (-1,))
    wanted = over_monomials(tensor, order)[1].reshape(-1, tensor.shape[-1])
    basis = symmetric_basis(max_ell, ell, order)[1]
    basis = basis.reshape(-1, basis.shape[-1])
    change = np.linalg.lstsq(basis, wanted, rcond=1e-10)[0]
    # a model of single precision has coefficients of single precision
    if not np.allclose(basis @ change, wanted, atol=1e-5):
        raise InputError(
            f"the coupling coefficients of the mace-torch model (l = {ell}, order {order}) are no equivariant "
            "polynomials of this package's convention"
        )
    return torch.from_numpy(change)


def _copy_readout(theirs: Any, ours: ScalarReadout, scale: float) -> None:
    if hasattr(theirs, "linear_1"):
        hidden, last = _blocks(theirs.linear_1)[0, 0], _blocks(theirs.linear_2)[0, 0]
        last = last * (theirs.non_linearity.acts[0].cst / ours.activation_scale)
    elif len(ours.weights) == 1:
        ours.weights[0].copy_(_blocks(theirs.linear)[0, 0] * (scale / ours.scales[0]))
        return
    else:
        # a linear read-out in a network's place: silu(x) - silu(-x) = x, in two of the hidden channels
        matrix = _blocks(theirs.linear)[0, 0]
        hidden = ours.weights[0] * ours.scales[0]
        hidden[:, :2] = torch.cat([matrix, -matrix], dim=1)
        last = torch.zeros_like(ours.weights[1])
        last[:2, 0] = torch.tensor([1.0, -1.0]).double() / ours.activation_scale
    ours.weights[0].copy_(hidden / ours.scales[0])
    ours.weights[1].copy_(last * (scale / ours.scales[1]))
