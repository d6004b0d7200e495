r"""The communication operators: all the model knows of parallelism.

On P ranks every rank owns ``n_owned`` atoms and sees ``n_total - n_owned`` ghosts, images of atoms that it or other
ranks own:

- ``ghost_gather``: rows of the owners copied to their ghosts; its derivative is ``ghost_reduce``;
- ``ghost_reduce``: rows of ghosts added to their owners; its derivative is ``ghost_gather``;
- ``sum_ranks``: sum over ranks, the same on all; its derivative is ``sum_ranks``;
- ``sum_max_ranks``: sums and maxima in one collective, without derivative;
- ``gather_ranks``: one row of numbers from every rank, without derivative; ``this_rank``: which of them is one's own;
- ``redistribute``: boxes of a periodic array summed into other boxes; its derivative is ``redistribute`` back.

One compiled library registers them (``torch.ops.fixedpoint``); the LAMMPS plugin links the same library and gives it a
communicator for the duration of a force call. In a single process they are the identity, and ``redistribute`` knows
periodic images. Only where nothing is compiled are they defined here.
"""

from __future__ import annotations

import os
import warnings
from typing import List, Tuple

import torch
from torch import Tensor

from fp_potential import _plugin_path

_python_library: torch.library.Library | None = None


def _registered() -> bool:
    return bool(torch._C._dispatch_has_kernel("fixedpoint::ghost_gather"))


def _define_in_python() -> None:
    """The operators of a single process in torch, for a package without compiled parts."""
    global _python_library
    library = torch.library.Library("fixedpoint", "DEF")
    for schema in (
        "ghost_gather(Tensor x, int n_total) -> Tensor",
        "ghost_reduce(Tensor x, int n_owned) -> Tensor",
        "sum_ranks(Tensor x) -> Tensor",
        "sum_max_ranks(Tensor sums, Tensor maxima) -> (Tensor, Tensor)",
        "this_rank() -> int",
        "gather_ranks(Tensor x) -> Tensor",
        "redistribute(Tensor x, Tensor source, Tensor target, int[] period) -> Tensor",
    ):
        library.define(schema, "CONSERVATIVE")  # not computed ahead when TorchScript compiles

    def same_rows(x: torch.Tensor, n: int) -> torch.Tensor:
        if x.shape[0] != n:
            raise ValueError(
                f"fixedpoint: an array of {x.shape[0]} rows for {n} atoms; without LAMMPS there are no ghosts"
            )
        return x.clone()

    def sum_max(sums: torch.Tensor, maxima: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sums.detach().clone(), maxima.detach().clone()

    def redistribute_locally(
        x: torch.Tensor, source: torch.Tensor, target: torch.Tensor, period: list[int]
    ) -> torch.Tensor:
        for axis, n in enumerate(period):
            boxes = torch.cat([source, target])[:, 2 * axis : 2 * axis + 2].tolist()
            if len(boxes) != 2 or any(not 0 <= hi - lo <= n for lo, hi in boxes) or n < 1:
                raise ValueError(
                    f"fixedpoint: `source` and `target` are {boxes} along axis {axis}, expected one box each with an "
                    f"extent from 0 to the period {n}"
                )
            (lo, hi), (first, last) = boxes
            if x.dim() != 4 or x.shape[axis + 1] != hi - lo:
                raise ValueError(f"fixedpoint: an array of shape {tuple(x.shape)} for the box {source[0].tolist()}")
            # every point has at most one image in the source box; the others take the zero behind it
            place = torch.remainder(torch.arange(first, last, device=x.device) - lo, n).clamp(max=hi - lo)
            shape = list(x.shape)
            shape[axis + 1] = 1
            x = torch.cat([x, x.new_zeros(shape)], dim=axis + 1).index_select(axis + 1, place)
        return x

    key = "CompositeImplicitAutograd"
    library.impl("ghost_gather", same_rows, key)
    library.impl("ghost_reduce", same_rows, key)
    library.impl("sum_ranks", lambda x: x.clone(), key)
    library.impl("sum_max_ranks", sum_max, key)
    library.impl("this_rank", lambda: 0, key)
    library.impl("gather_ranks", lambda x: x.detach().clone().unsqueeze(0), key)
    library.impl("redistribute", redistribute_locally, key)
    _python_library = library


def load_operators() -> None:
    """Make ``torch.ops.fixedpoint`` available; harmless to call again.

    A package without its compiled library, such as a copy of its sources, computes the same with torch alone and warns.

    Raises:
        ImportError: the compiled library is there but cannot be loaded, for example with another version of torch.
    """
    if _registered():
        return
    path = _plugin_path.find(_plugin_path.OPERATORS)
    if path is None:
        folder = os.path.dirname(os.path.abspath(__file__))
        warnings.warn(
            f"{folder} has no compiled operators: everything works, but slowly; install fp-potential (pip install .)",
            RuntimeWarning,
            stacklevel=2,
        )
        _define_in_python()
        return
    try:
        torch.ops.load_library(path)
    except OSError as e:
        raise ImportError(
            f"the operator library {path} cannot be loaded with torch {torch.__version__} ({e}); "
            "reinstall fp-potential with this version of torch"
        ) from e
    if not _registered():
        raise ImportError(f"{path} registered no operators; reinstall fp-potential")


load_operators()


def ghost_gather(x: torch.Tensor, n_total: int) -> torch.Tensor:
    """Rows of owned atoms ``(n_owned, …)`` -> rows of owned and ghost atoms ``(n_total, …)``."""
    return torch.ops.fixedpoint.ghost_gather(x, n_total)


def ghost_reduce(x: torch.Tensor, n_owned: int) -> torch.Tensor:
    """Rows of owned and ghost atoms ``(n_total, …)`` -> ``(n_owned, …)``, ghosts added to their owners on all ranks."""
    return torch.ops.fixedpoint.ghost_reduce(x, n_owned)


def sum_ranks(x: torch.Tensor) -> torch.Tensor:
    """Sum over ranks of arrays of one shape, element by element; the same on every rank."""
    return torch.ops.fixedpoint.sum_ranks(x)


def sum_max_ranks(sums: torch.Tensor, maxima: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Sums and maxima over ranks in one collective; no derivative. Float64 is kept exactly, NaN propagates."""
    return torch.ops.fixedpoint.sum_max_ranks(sums, maxima)


def this_rank() -> int:
    """Number of this rank, counted from 0: its row in what `gather_ranks` returns."""
    return torch.ops.fixedpoint.this_rank()


def gather_ranks(x: torch.Tensor) -> torch.Tensor:
    """A row ``(k,)`` of every rank, int64 or float64 -> ``(P, k)``, the same on every rank; no derivative.

    ``k`` is the same on every rank.  In a single process: ``x.unsqueeze(0)``.
    """
    return torch.ops.fixedpoint.gather_ranks(x)


def redistribute(x: torch.Tensor, source: torch.Tensor, target: torch.Tensor, period: List[int]) -> torch.Tensor:
    """Boxes of a periodic array over ranks, summed into other boxes.

    The array has ``period`` = [N1, N2, N3] points and repeats itself.  Row p of ``source`` and ``target`` is the box
    [lo1, hi1, lo2, hi2, lo3, hi3) of rank p in unwrapped indices: lo may be negative and hi beyond N, with an extent
    from 0 (nothing) to N.  Every rank passes the same two tables, and its own box of the source in ``x``.

    Args:
        x: ``(m, a, b, c)`` real or complex, this rank's box of ``source``; ``m`` is the same on every rank.
        source: ``(P, 6)`` int64, best in host memory, as ``target``.
        target: ``(P, 6)`` int64.
        period: points of the array along its axes.

    Returns:
        ``(m, a', b', c')`` this rank's box of ``target``: at every point the sum, in the order of the ranks, of all
        source boxes that hold it or one of its images.  The dtype is that of ``x``, also between ranks.

    Raises:
        RuntimeError: tables, shape and period do not fit together (ValueError where nothing is compiled).

    The derivative is ``redistribute(gradient, target, source, period)``.  Only ranks whose boxes overlap exchange
    messages, yet all of them must call.
    """
    return torch.ops.fixedpoint.redistribute(x, source, target, period)


def graph_sum(x: Tensor, batch: Tensor, n_graphs: int, distributed: bool) -> Tensor:
    """Sum of per-atom values ``(n, …)`` over each structure and all ranks: ``(B, …)``."""
    out = torch.zeros([n_graphs] + list(x.shape[1:]), dtype=x.dtype, device=x.device).index_add(0, batch, x)
    if distributed:
        out = sum_ranks(out)
    return out
