"""How charges of atoms follow a uniform field: dq_i/dE_a of the self-consistent density, differentiable once more.

Of a density with a graph it is the derivative of w·dq/dE by w. Of an implicit solution p with p = G(p, E) it is the
charge part of x_a = dp/dE_a, which solves another fixed-point problem with the same Jacobian J = dG/dp,

    x = J x + b_a,      b_a = ∂G/∂E_a,

and has its derivatives by the parameters in the same way as p (`scf.implicit`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .density import Found


def charges_by_field(found: Found, gradient: Tensor, training: bool) -> Tensor:
    """dq_i/dE_a ``(n, 3)``, e·Å/V, with the gradient of the potential F = -E ``(B, 3)`` a leaf of the graph."""
    if found.implicit is None:
        q = found.labelled[:, 0]
        w = torch.zeros_like(q).requires_grad_(True)
        (pulled,) = torch.autograd.grad(q, gradient, w, create_graph=True)
        columns = [_by_weights(pulled[:, a].sum(), w, training) for a in range(3)]
        return -torch.stack(columns, dim=1)
    implicit, update = found.implicit, found.applied.update
    w = torch.zeros_like(update).requires_grad_(True)
    with implicit.closed():
        on_density, on_field = torch.autograd.grad(update, [found.argument, gradient], w, create_graph=True)
    columns = []
    for a in range(3):
        source = _by_weights(on_field[:, a].sum(), w, training)
        x = implicit.solves.forward(source.detach())
        if training:
            x = implicit.derivatives.solution(x, source + _by_weights((on_density * x).sum(), w, training))
        columns.append(x[:, 0])
    return -torch.stack(columns, dim=1)


def _by_weights(pulled: Tensor, w: Tensor, training: bool) -> Tensor:
    """The derivative by ``w`` of what is linear in it."""
    (found,) = torch.autograd.grad(pulled, w, create_graph=training, retain_graph=True)
    return found
