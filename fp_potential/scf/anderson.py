"""Accelerated and linear mixing for x = G(x), for several independent structures at once.

With residuals f_k = G(x_k) - x_k and the last m differences Δx_j, Δf_j of each structure, Anderson's update is

    γ = argmin |f_k - ΔF γ|,    x_{k+1} = x_k + β f_k - (ΔX + β ΔF) γ

(Anderson, J. ACM 12, 547 (1965), doi:10.1145/321296.321305; Walker & Ni, SIAM J. Numer. Anal. 49, 1715 (2011),
doi:10.1137/10078356X).  For an affine map with full history this is GMRES.  Columns are scaled to unit length and
directions with a relative Gram eigenvalue below `DROP` are left out, which bounds γ.  Every sum is a sum over rows of
one structure and goes through one collective per iteration, so iterates do not depend on the number of ranks.

What the history does not span is the least-squares residual g_k = f_k - ΔF γ; near the solution f_{k+1} = g_k - β a_k
with a_k = (1 - J) g_k.  β is the one that would have been best in the last step, β = a_k·g_k / a_k·a_k, within
`FIRST_STEP` … `LARGEST_STEP`: near 1 where the spectrum of J is near 0, so that easy maps take no damping.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..communication import sum_max_ranks
from .settings import Groups, LoopSettings

#: eigenvalues of the scaled Gram matrix below this are dropped (singular values below its square root)
DROP = 1e-13
#: fraction β of the residual in the first accelerated step, and bounds of the later ones
FIRST_STEP, LARGEST_STEP = 0.3, 1.0


class MixingState(NamedTuple):
    """History of one solve; ``n`` rows of ``c`` unknowns, ``B`` structures, ``m`` steps."""

    dx: Tensor  #: (m, n, c)
    df: Tensor  #: (m, n, c)
    gram: Tensor  #: (B, m, m) float64, ΔFᵀΔF
    x: Tensor  #: (n, c) previous iterate
    f: Tensor  #: (n, c) its residual
    g: Tensor  #: (n, c) least-squares residual of the last step
    fraction: Tensor  #: (B,) float64, its β
    valid: Tensor  #: (B, m) float64, 1 for the columns in use, 0 for those from before a restart
    iterations: int  #: iterations done


class ResidualNorms(NamedTuple):
    """Residual of each structure, and its products with the history."""

    mean: Tensor  #: (B,) float64, mean absolute component
    largest: Tensor  #: (B,) float64, largest mean absolute component of a row
    column: Tensor  #: (B, m) Δf_j · Δf_new
    projection: Tensor  #: (B, m) Δf_j · f
    fraction: Tensor  #: (B,) the β that would have been best in the last step
    change: Tensor  #: (B,) float64, mean absolute component of the last step; zero before the first


class Mixer(nn.Module):
    """Makes the next iterate from the residual, `linear` or `anderson`.

    With a preconditioner P (a linear map of residuals) P f and P ΔF take the places of f and ΔF beside β; the
    least-squares problem for γ stays that of the residuals.
    """

    def __init__(self, history: int, precondition: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.history = history
        self.precondition = nn.Identity() if precondition is None else precondition
        self.first_step, self.largest_step = FIRST_STEP, LARGEST_STEP
        self.drop = DROP

    def start(self, x: Tensor, n_graphs: int) -> MixingState:
        """Empty history for unknowns ``(n, c)``."""
        m, n, c = self.history, x.shape[0], x.shape[1]
        # never read before they are written: memory that a short loop does not touch costs nothing
        dx = torch.empty([m, n, c], dtype=x.dtype, device=x.device)
        df = torch.empty([m, n, c], dtype=x.dtype, device=x.device)
        gram = torch.zeros([n_graphs, m, m], dtype=torch.float64, device=x.device)
        valid = torch.zeros([n_graphs, m], dtype=torch.float64, device=x.device)
        fraction = torch.ones([n_graphs], dtype=torch.float64, device=x.device)
        return MixingState(dx, df, gram, x, torch.zeros_like(x), torch.zeros_like(x), fraction, valid, 0)

    def restarted(self, state: MixingState, restart: Tensor, x: Tensor, f: Tensor) -> MixingState:
        """The history of the structures with ``restart`` ``(B,)`` forgotten; ``x``, ``f`` are where all go on from."""
        valid = torch.where(restart.unsqueeze(1), torch.zeros_like(state.valid), state.valid)
        return MixingState(state.dx, state.df, state.gram, x, f, state.g, state.fraction, valid, state.iterations)

    def norms(self, state: MixingState, x: Tensor, f: Tensor, groups: Groups) -> ResidualNorms:
        """Stores the new differences and measures the residual ``f``."""
        m, n_graphs, batch = self.history, groups.number, groups.batch
        slot = (state.iterations - 1) % m
        if state.iterations > 0:
            state.dx[slot] = x - state.x
            # of a structure whose residual is not finite: the solver goes back, and the column is not used
            state.df[slot] = torch.nan_to_num(f - state.f, 0.0, 0.0, 0.0)
        used = min(state.iterations, m)
        per_row = f.abs().mean(1).to(torch.float64)
        rows = [per_row.unsqueeze(0)]
        if used > 0:
            change = state.g - f
            rows.append(torch.stack([(state.g * change).sum(1), change.square().sum(1)]).to(torch.float64))
            active = state.df[:used]
            rows.append((active * state.df[slot]).sum(2).to(torch.float64))
            rows.append((active * f).sum(2).to(torch.float64))
            rows.append(state.dx[slot].abs().mean(1).to(torch.float64).unsqueeze(0))
        local = torch.cat(rows)
        sums = torch.zeros([local.shape[0], n_graphs], dtype=torch.float64, device=f.device)
        sums = sums.index_add(1, batch, local)
        largest = torch.zeros([n_graphs], dtype=torch.float64, device=f.device)
        largest = largest.scatter_reduce(0, batch, per_row, "amax")
        if groups.distributed:
            sums, largest = sum_max_ranks(sums, largest)
        column = torch.zeros([n_graphs, m], dtype=torch.float64, device=f.device)
        projection = torch.zeros([n_graphs, m], dtype=torch.float64, device=f.device)
        fraction = torch.full([n_graphs], self.first_step, dtype=torch.float64, device=f.device)
        per_component = 1.0 / groups.rows.to(torch.float64)
        change = torch.zeros_like(fraction)
        if used > 0:
            fraction = state.fraction * sums[1] / torch.clamp(sums[2], min=1e-300)
            column[:, :used] = sums[3 : 3 + used].t()
            projection[:, :used] = sums[3 + used : 3 + 2 * used].t()
            change = sums[-1] * per_component
        return ResidualNorms(sums[0] * per_component, largest, column, projection, fraction, change)

    def step(
        self,
        state: MixingState,
        norms: ResidualNorms,
        x: Tensor,
        f: Tensor,
        groups: Groups,
        settings: LoopSettings,
        active: Tensor,
        damping: Tensor,
    ) -> tuple[Tensor, MixingState]:
        """Next iterate of the structures with ``active`` ``(B,)`` true; the others stay where they are.

        ``damping`` ``(B,)`` multiplies the fraction of the residual that is taken: ``mixing_parameter`` or β.
        """
        m, batch = self.history, groups.batch
        g, fraction = f, settings.mixing_parameter * damping
        if settings.solver != "linear":
            # nothing is known of the map in the first step, nor in the first one after a restart
            known = torch.isfinite(norms.fraction) & (state.valid.sum(1) > 0)
            best = torch.where(known, norms.fraction, torch.full_like(damping, self.first_step))
            fraction = damping * torch.clamp(best, min=self.first_step, max=self.largest_step)
        step = fraction.to(x.dtype)[batch].unsqueeze(1)
        following = x
        if settings.solver != "linear" and state.iterations > 0:
            slot = (state.iterations - 1) % m
            used = min(state.iterations, m)
            state.gram[:, slot, :] = norms.column
            state.gram[:, :, slot] = norms.column
            gamma = self._coefficients(state.gram[:, :used, :used], norms.projection[:, :used], state.valid[:, :used])
            per_row = gamma.t().to(x.dtype)[:, batch].unsqueeze(2)
            g = f - (per_row * state.df[:used]).sum(0)
            following = x - (per_row * state.dx[:used]).sum(0)
        following = torch.where(active[batch].unsqueeze(1), following + step * self.precondition(g), x)
        valid = state.valid.clone()
        valid[:, state.iterations % m] = 1.0
        return following, MixingState(state.dx, state.df, state.gram, x, f, g, fraction, valid, state.iterations + 1)

    def _coefficients(self, gram: Tensor, projection: Tensor, valid: Tensor) -> Tensor:
        """Least-squares coefficients γ ``(B, m)`` from the normal equations with scaled columns."""
        length = torch.sqrt(torch.diagonal(gram, dim1=1, dim2=2)) * valid
        inverse = torch.where(length > 0, 1.0 / torch.clamp(length, min=1e-300), torch.zeros_like(length))
        scaled = gram * inverse.unsqueeze(1) * inverse.unsqueeze(2)
        scaled = torch.where(torch.isfinite(scaled), scaled, torch.zeros_like(scaled))
        values, vectors = torch.linalg.eigh(scaled)
        keep = values > self.drop * values[:, -1:]
        weights = torch.where(keep, 1.0 / torch.clamp(values, min=1e-300), torch.zeros_like(values))
        projection = torch.where(length > 0, projection * inverse, torch.zeros_like(inverse))
        right = torch.matmul(vectors.transpose(1, 2), projection.unsqueeze(2)).squeeze(2)
        return torch.matmul(vectors, (weights * right).unsqueeze(2)).squeeze(2) * inverse
