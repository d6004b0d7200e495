"""The self-consistent loop of one structure, every density on the way kept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..graph import Graph
from ..options import SCFOptions
from ..scf.convergence import SCFRun
from ..scf.settings import Start, settings_of
from ..scf.spectrum import Spectrum
from ..scf.status import CONVERGED, NO_CHARGE_RESPONSE
from .any_loops import AnyLoops
from .density_model import LocalState
from .jacobian import jacobian_spectrum
from .observables import total_energy
from .problem import SCFProblem


@dataclass(frozen=True)
class LoopTrace:
    """The loop of one structure: what it did in every application, and where it ended."""

    run: SCFRun
    charges: np.ndarray  #: (applications,) total charge, e
    levels: np.ndarray  #: (applications,) absolute Fermi level, eV; NaN where nothing conducts
    energies: np.ndarray  #: (applications,) E(p), or Omega(p) = E + mu Q at constant Fermi level, eV
    energy: float  #: corrected energy of the end, eV, as reported everywhere else
    adjoint_residual: float
    spectrum: Spectrum | None


def trace_loop(
    model: Any,
    graph: Graph,
    options: SCFOptions,
    initial_density: Tensor | None = None,
    initial_level: Tensor | None = None,
    with_spectrum: bool = True,
) -> LoopTrace:
    """Run the loop of one structure as ``model.evaluate`` does and look at every density on the way.

    Args:
        model: a `SelfConsistentModel`, or the ``model`` of an archive's module.
        graph: one structure.
        options: of the loop; ``initial_density`` is a name only.
        initial_density: ``(n, 4)`` start; the local guess if None or without rows.
        initial_level: ``(1,)`` absolute Fermi level to search from; mu_0 if None or without rows.
        with_spectrum: find the spectrum of the map at the last density.
    """
    constant_charge = options.constant_charge
    density = graph.positions.new_zeros((0, 4)) if initial_density is None else initial_density
    level = graph.positions.new_zeros(0) if initial_level is None else initial_level
    settings, start = settings_of(options), Start(density, level)
    loops = AnyLoops(model)
    with torch.jit.optimized_execution(False):
        out = loops.evaluate(graph, settings, start, constant_charge, True, False)
        # the state it ended in, and the same iterates again, kept this time
        end = loops.solve(graph, settings, start, constant_charge)
        first = density if len(density) else end.frozen.density
        guess = level - float(model.fermi_level_offset) if len(level) else torch.zeros_like(end.fixed.response)
        result, densities, levels = loops.trace(end.fixed, Start(first, guess), settings)
        energies = [
            _energy(model, graph, end.fixed, end.frozen, density, level)
            for density, level in zip(densities, levels, strict=True)
        ]
        status = int(end.result.status[0])
        spectrum = None
        if with_spectrum and status != NO_CHARGE_RESPONSE:
            spectrum = jacobian_spectrum(model.solver.density_map, end.fixed)
    iterates = densities.detach().cpu().numpy()
    run = SCFRun(
        history=result.history[:, 0].cpu().numpy(),
        status=status,
        tolerance=settings.scf_tolerance,
        num_scf_steps=settings.num_scf_steps,
        solver=settings.solver,
        mixing=settings.mixing_parameter,
        iterates=iterates,
        affine=bool(model.solver.density_map.affine),
        initial_density=options.initial_density,
        epsilon=torch.finfo(graph.positions.dtype).eps,
        adjoint_status=int(out["status"][0]) if status == CONVERGED else CONVERGED,
    )
    absolute = levels[:, 0].detach().cpu().numpy().astype(float) + float(model.fermi_level_offset)
    if constant_charge and "conducts" in out and not bool(out["conducts"][0]):
        absolute = np.full_like(absolute, np.nan)
    charges = iterates[:, :, 0].sum(1, dtype=float)
    adjoint_residual = float(out["adjoint_residual"][0])
    return LoopTrace(run, charges, absolute, np.array(energies), float(out["energy"][0]), adjoint_residual, spectrum)


def _energy(model: Any, graph: Graph, problem: SCFProblem, local: LocalState, density: Tensor, level: Tensor) -> float:
    with torch.no_grad():
        field = model.electrostatics.field(problem.cache, density, False)
        terms = AnyLoops(model).observables(problem, local, density, field, level, graph.species)
        absolute = level + float(model.fermi_level_offset)
        return float(total_energy(terms, density, absolute, graph.batch, problem.constant_charge).sum())
