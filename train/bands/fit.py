"""A fit of the learned local form to a curve v(q), before it is trained against bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...bands import LocalForm
from ...bands.local_forms import zunger
from .config import FitOptions
from .potential import read_table
from .targets import System

#: points of q at which a network is fitted to a formula
POINTS = 400
#: iterations of lbfgs that count as one epoch
LBFGS_ITERATIONS = 20


def zunger_curve(parameters: Tensor, systems: Sequence[System]) -> tuple[Tensor, Tensor]:
    """q ``(m,)`` from 0 to the longest G - G' of the systems, and v ``(m, n_species)`` of the analytic form."""
    largest = max(float(system.hamiltonian.basis.q[-1]) for system in systems)
    q = torch.linspace(0.0, largest, POINTS, dtype=torch.float64)
    return q, zunger(q, parameters.detach())


def table_curve(path: Path, n_species: int) -> tuple[Tensor, Tensor]:
    """q and v of a table (`potential.read_table`)."""
    return read_table(path, n_species)


def fit_curve(
    form: LocalForm,
    q: Tensor,
    target: Tensor,
    options: FitOptions,
    follow: Callable[[int], None] | None = None,
) -> list[str]:
    """Minimise mean (form(q) - target)² over q and species; the best parameters found are kept.

    Args:
        form: what is fitted.
        q: (m,) 1/Bohr.
        target: (m, n_species) Ha Bohr³.
        options: optimiser, learning rate and its decay, epochs.
        follow: called each ``plot_every`` epochs with their number.

    Returns:
        Lines for the log.
    """
    parameters = list(form.parameters())
    optimizer: torch.optim.Optimizer
    if options.optimizer == "lbfgs":
        optimizer = torch.optim.LBFGS(
            parameters, lr=options.lr, max_iter=LBFGS_ITERATIONS, history_size=50, line_search_fn="strong_wolfe"
        )
    else:
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[options.optimizer]
        optimizer = kind(parameters, lr=options.lr)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (form(q) - target).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    lines, best, kept = [], float("inf"), [parameter.detach().clone() for parameter in parameters]
    for epoch in range(options.epochs + 1):
        loss = closure()
        if loss < best:
            best, kept = loss, [parameter.detach().clone() for parameter in parameters]
        if epoch == options.epochs:
            break
        if options.print_gradients and epoch % (options.plot_every or options.epochs) == 0:
            norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
            lines.append(f"fit, epoch {epoch}: mean square {loss:.6g}, norm of the gradient {float(norm):.4g}")
        optimizer.step(closure)  # type: ignore[arg-type]
        if (epoch + 1) % options.gamma_epochs == 0 and options.optimizer != "lbfgs":
            for group in optimizer.param_groups:
                group["lr"] *= options.gamma
        if follow is not None and options.plot_every and (epoch + 1) % options.plot_every == 0:
            follow(epoch + 1)
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
            parameter.grad = None
    rms = best**0.5
    how = f"at {len(q)} q in {options.epochs} epochs of {options.optimizer}"
    return [*lines, f"fitted to v(q) {how}: rms {rms:.4g} Ha Bohr³"]
