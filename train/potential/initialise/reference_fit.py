"""Last linear layers of the density and energy heads, and E0s, fitted to the labels of the training set.

Energies and local densities are linear in the weights of the last layer of each head. Starting from the present weights
w the changes d minimise

    Σ weight (A d − r)² + λ |d|²,        λ = RIDGE × mean of the diagonal of AᵀA,

first for the density (r: reference multipoles minus the map's answer to them, as in mode direct), then, with the new
density, for the energies per atom (columns for the composition, too, where the E0s are fitted). From random weights
this makes a start with the right charges; for the parameters of another model it is a correction to other labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ....model import FixedPointPotential
from ....nets import GatedReadout, ScalarReadout
from ...trainer import distributed
from ..batch import Batch
from ..modes.predict import predict

RIDGE = 1e-4

Load = Callable[[Any], Batch]


class _NormalEquations:
    """AᵀA, Aᵀr and rᵀr, summed over rows."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.matrix = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.right = self.matrix.new_zeros(size)
        self.squares, self.weight = self.matrix.new_zeros(()), self.matrix.new_zeros(())

    def add(self, columns: Tensor, residual: Tensor, weight: Tensor) -> None:
        """Rows ``(n, k)``, ``(n,)`` and their weights ``(n,)``."""
        a, r, w = columns.double(), residual.double(), weight.double()
        self.matrix = self.matrix + a.T @ (w[:, None] * a)
        self.right = self.right + a.T @ (w * r)
        self.squares = self.squares + (w * r * r).sum()
        self.weight = self.weight + w.sum()

    def sum_ranks(self) -> None:
        """Sum over the processes that have added rows of their own."""
        for values in (self.matrix, self.right, self.squares, self.weight):
            distributed.sum_ranks(values)

    def solve(self) -> tuple[Tensor, float, float]:
        """The changes, and the root mean squares of the residual before and after."""
        ridge = RIDGE * self.matrix.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
        system = self.matrix + ridge * torch.eye(self.matrix.shape[0], dtype=torch.float64, device=self.matrix.device)
        d = torch.linalg.solve(system, self.right)
        after = self.squares - 2 * d @ self.right + d @ self.matrix @ d
        return d, *((value / self.weight).clamp(min=0).sqrt().item() for value in (self.squares, after))


def fit_reference(model: FixedPointPotential, batches: Sequence[Any], load: Load, shift_e0: bool) -> list[str]:
    """Fit the heads of ``model``, and with ``shift_e0`` its E0s, to the batches that ``load`` makes; what was reached.

    Every structure needs reference multipoles. Density: rms of charges (e) and dipoles (e·Å) together.
    """
    lines = []
    for what, unit, errors in (
        ("local charges and dipoles", "me, me·Å", _fit_density(model, batches, load)),
        ("energies", "meV/atom", _fit_energy(model, batches, load, shift_e0)),
    ):
        if errors is None:
            lines.append(f"{what} not fitted: no label has a weight")
        else:
            lines.append(f"{what} fitted to the labels: {1000 * errors[0]:.4g} -> {1000 * errors[1]:.4g} {unit} (rms)")
    return lines


def _fit_density(model: FixedPointPotential, batches: Sequence[Any], load: Load) -> tuple[float, float] | None:
    """Fit the last layers of the local density; gives the rms before and after, None without multipoles."""
    heads = list(model.density_readouts)
    names = ["last.weight" if isinstance(head, GatedReadout) else "linear.weight" for head in heads]
    weights = [head.get_parameter(name) for head, name in zip(heads, names, strict=True)]
    equations = _NormalEquations(sum(weight.numel() for weight in weights), weights[0].device)
    for content in distributed.own(batches):
        batch = load(content)
        known = batch.labels.multipoles_weight
        with _inputs_of(heads) as inputs:
            output = _direct(model, batch)
        columns = torch.cat([_columns(h, n, x) for h, n, x in zip(heads, names, inputs, strict=True)], dim=1)
        residual = batch.labels.multipoles - output["density"]
        equations.add(columns, residual.reshape(-1), known.expand_as(residual).reshape(-1))
    equations.sum_ranks()
    if float(equations.weight) == 0:
        return None
    changes, before, after = equations.solve()
    _add(weights, changes)
    return before, after


def _fit_energy(
    model: FixedPointPotential, batches: Sequence[Any], load: Load, shift_e0: bool
) -> tuple[float, float] | None:
    """Fit the last layers of the local energy, and with ``shift_e0`` the E0s; rms before and after, eV/atom.

    None without energies.
    """
    heads = list(model.energy_readouts)
    names = [f"weights.{len(head.weights) - 1}" for head in heads if isinstance(head, ScalarReadout)]
    weights = [head.get_parameter(name) for head, name in zip(heads, names, strict=True)]
    n_elements = len(model.elements)
    size = sum(weight.numel() for weight in weights)
    equations = _NormalEquations(size + (n_elements if shift_e0 else 0), weights[0].device)
    for content in distributed.own(batches):
        batch = load(content)
        graph, atoms = batch.graph, batch.num_atoms.double()
        with _inputs_of(heads) as inputs:
            output = _direct(model, batch)
        rows = torch.cat([_columns(h, n, x) for h, n, x in zip(heads, names, inputs, strict=True)], dim=1).double()
        if shift_e0:
            species = graph.species[: graph.batch.shape[0]]
            rows = torch.cat([rows, nn.functional.one_hot(species, n_elements).to(rows)], dim=1)
        columns = rows.new_zeros(len(atoms), rows.shape[1]).index_add(0, graph.batch, rows) / atoms[:, None]
        residual = (batch.labels.energy - output["energy"]).double() / atoms
        equations.add(columns, residual, batch.labels.energy_weight)
    equations.sum_ranks()
    if float(equations.weight) == 0:
        return None
    changes, before, after = equations.solve()
    _add(weights, changes)
    if shift_e0:
        shifts = changes[size:].tolist()
        model.atomic_energies = [e0 + shift for e0, shift in zip(model.atomic_energies, shifts, strict=True)]
    return before, after


def _direct(model: FixedPointPotential, batch: Batch) -> dict[str, Tensor]:
    labels = batch.labels
    with torch.no_grad():
        return predict(
            model, batch.graph, "direct", None, labels.multipoles, labels.fermi_level, False, False, training=False
        )


@contextmanager
def _inputs_of(heads: Sequence[nn.Module]) -> Iterator[list[tuple[Tensor, ...]]]:
    """Collects what each head is called with in the block."""
    inputs: list[tuple[Tensor, ...]] = []
    hooks = [head.register_forward_pre_hook(lambda _, given: inputs.append(given)) for head in heads]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _columns(head: nn.Module, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
    """Output of the head (rows) for each unit vector in the place of its weight ``name`` (columns)."""
    weight = head.get_parameter(name)
    units = torch.eye(weight.numel(), dtype=weight.dtype, device=weight.device)
    values = [torch.func.functional_call(head, {name: unit.reshape(weight.shape)}, inputs) for unit in units]
    return torch.stack([value.reshape(-1) for value in values], dim=1)


@torch.no_grad()
def _add(weights: Sequence[Tensor], changes: Tensor) -> None:
    """Add the first of ``changes`` to the weights."""
    begin = 0
    for weight in weights:
        piece = changes[begin : begin + weight.numel()]
        weight.add_(piece.reshape(weight.shape).to(weight))
        begin += weight.numel()
