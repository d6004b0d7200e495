"""The map G of the density and the transposed action of its Jacobian."""

from typing import List, Optional

import torch
from torch import Tensor

from ..communication import graph_sum
from ..electrostatics import ElectrostaticCache, Electrostatics
from ..response.state import ResponseState, Update
from .fermi_level import ChargeConstraint, with_level
from .problem import SCFProblem


class DensityMap(ChargeConstraint):
    """The map G and the transposed action of its Jacobian, for any update."""

    def __init__(self, electrostatics: Electrostatics, update: Update) -> None:
        super().__init__(update)
        self.electrostatics = electrostatics
        #: whether the update is affine in the field
        self.affine = bool(update.affine)
        #: receivers whose field the update reads: the others are left out of the loops
        used = getattr(update, "used_receivers", (0, electrostatics.n_widths))
        self.first_used, self.last_used = int(used[0]), int(used[1])

    def problem(
        self,
        cache: ElectrostaticCache,
        state: ResponseState,
        external: Tensor,
        target: Tensor,
        batch: Tensor,
        atoms: Tensor,
        constant_charge: bool,
        distributed: bool,
    ) -> SCFProblem:
        """A problem with gradients; of non-affine updates the response is not known until `linearised`."""
        n, m = external.shape[0], state.matrix.shape[2]
        point = torch.zeros([0, m, 4], dtype=external.dtype, device=external.device)
        row = torch.zeros([n, m, 4], dtype=external.dtype, device=external.device)
        shift = torch.zeros_like(external)
        if self.linear:
            # bonds make no charge
            row = state.matrix[:, 0]
            shift = state.matrix[:, :, :, 0].sum(2)
        elif self.affine:
            raised = torch.cat([torch.ones_like(row[:, :, :1]), row[:, :, 1:]], dim=2)
            shift = self.response.density(state, raised, distributed)
            shift = shift - self.response.density(state, row, distributed)
        charges = torch.stack([shift[:, 0], state.share], dim=1)
        sums = graph_sum(charges, batch, atoms.shape[0], distributed)
        metallic, response = sums[:, 0], sums[:, 0] - sums[:, 1]
        shift = torch.cat([shift[:, :1] - state.share.unsqueeze(1), shift[:, 1:]], dim=1)
        return SCFProblem(
            cache,
            state,
            external,
            point,
            row,
            shift,
            response,
            metallic,
            target,
            batch,
            atoms,
            constant_charge,
            distributed,
        )

    def linearised(self, problem: SCFProblem, point: Tensor) -> SCFProblem:
        """A problem without gradients, with its derivatives taken at the raw total field ``point`` ``(n, m, 4)``."""
        if self.linear:
            return problem
        at = point.detach()
        ones = torch.cat([torch.ones_like(problem.external[:, :1]), torch.zeros_like(problem.external[:, 1:])], dim=1)
        row = self._pull_back(problem, at, ones)
        n_graphs = problem.atoms.shape[0]
        response, metallic = problem.response, problem.metallic
        if not self.affine:
            response = graph_sum(row[:, :, 0].sum(1), problem.batch, n_graphs, problem.distributed)
            metallic = response
        return SCFProblem(
            problem.cache,
            problem.state,
            problem.external,
            at,
            row,
            problem.shift,
            response,
            metallic,
            problem.target,
            problem.batch,
            problem.atoms,
            problem.constant_charge,
            problem.distributed,
        )

    def started(self, problem: SCFProblem, density: Tensor, guess: Tensor) -> SCFProblem:
        """The problem linearised at a first density, for `project`; nothing to do where the response is known."""
        if self.linear:
            return problem
        field = self.electrostatics.field(problem.cache, density, problem.distributed)
        level = guess if problem.constant_charge else problem.target
        return self.linearised(problem, with_level(field + problem.external.unsqueeze(1), level, problem.batch))

    def forward(self, problem: SCFProblem, density: Tensor, guess: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """G(p) ``(n, 4)``, mu - mu_0 ``(B,)`` and the Coulomb field A p ``(n, m, 4)``; ``guess`` of the level.

        The field is zero in receivers that the update does not read.
        """
        field = self.electrostatics.field_in(
            problem.cache, density, self.first_used, self.last_used, problem.distributed
        )
        update, level = self.update(problem, field, guess)
        return update, level, field

    def update(self, problem: SCFProblem, field: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """G and mu - mu_0 for a given Coulomb field A p; not differentiable where the update is not affine."""
        u = field + problem.external.unsqueeze(1)
        if not problem.constant_charge:
            return self.at_level(problem, u, problem.target), problem.target
        if self.affine:
            return self._closed_form(problem, u)
        level, density = self.find_level(problem, u.detach(), guess)
        return density, level

    def differentiable(
        self, problem: SCFProblem, field: Tensor, level: Tensor, response: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`update` with all derivatives up to the second, at the known level and response dQ/dmu of the field.

        Two chord steps from the exact root leave it where it is and give mu the derivatives of the implicit function.
        """
        u = field + problem.external.unsqueeze(1)
        if self.affine or not problem.constant_charge:
            return self.update(problem, field, level)
        level = level.detach()
        n_graphs = level.shape[0]
        for _ in range(2):
            charge = self.at_level(problem, u, level)[:, 0]
            level = (
                level
                + (problem.target - graph_sum(charge, problem.batch, n_graphs, problem.distributed)) / response.detach()
            )
        return self.at_level(problem, u, level), level

    def at_level(self, problem: SCFProblem, u: Tensor, level: Tensor) -> Tensor:
        """Density in the raw field ``u`` ``(n, m, 4)`` with the level ``(B,)`` added."""
        if self.linear:
            density = self.response.density(problem.state, u, problem.distributed)
            return density + problem.shift * level[problem.batch].unsqueeze(1)
        return self.response.density(problem.state, with_level(u, level, problem.batch), problem.distributed)

    def pull_back(self, problem: SCFProblem, weights: Tensor) -> Tensor:
        """(dF/du)^T w at the point of linearisation: ``(n, 4)`` -> ``(n, m, 4)``."""
        if self.linear:
            return self.response.pulled_back(problem.state, weights, problem.distributed)
        return self._pull_back(problem, problem.point, weights)

    def _pull_back(self, problem: SCFProblem, point: Tensor, weights: Tensor) -> Tensor:
        u = point.detach().requires_grad_(True)
        density = self.response.density(problem.state, u, problem.distributed)
        outputs: List[Optional[Tensor]] = [weights.detach()]
        gradient = torch.autograd.grad([density], [u], outputs)[0]
        assert gradient is not None
        return gradient.detach()

    def transposed(self, problem: SCFProblem, adjoint: Tensor) -> Tensor:
        """(dG/dp)^T λ = A^T [w - (dQ/du) (dp/dμ · λ) / R], w = (dF/du)^T λ.

        The last term at constant charge only.
        """
        on_field = self.pull_back(problem, adjoint)
        on_level = (problem.shift * adjoint).sum(1) if self.linear else on_field[:, :, 0].sum(1)
        on_field = self.constrained(problem, on_field, on_level)
        return self.electrostatics.transposed_in(
            problem.cache, on_field, self.first_used, self.last_used, problem.distributed
        )
