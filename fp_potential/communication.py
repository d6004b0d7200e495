r"""The communication operators: all the model knows of parallelism.

On P ranks every rank owns ``n_owned`` atoms and sees ``n_total - n_owned`` ghosts, images of atoms that it or other
ranks own:

- ``ghost_gather``: rows of the owners copied to their ghosts; its derivative is ``ghost_reduce``;
- ``ghost_reduce``: rows of ghosts added to their owners; its derivative is ``ghost_gather``;
- ``sum_ranks``: sum over ranks, the same on all; its derivative is ``sum_ranks``;
- ``sum_max_ranks``: sums and maxima in one collective, without derivative.

One compiled library registers them (``torch.ops.fixedpoint``); the LAMMPS plugin links the same library and gives it a
communicator for the duration of a force call. In a single process they are the identity. Only where nothing is
compiled are they defined here.
"""

from __future__ import annotations

from typing import Tuple

import torch

from fp_potential import _plugin_path

_python_library: torch.library.Library | None = None


def registered(name: str) -> bool:
    """Whether ``torch.ops.fixedpoint`` has this operator."""
    return bool(torch._C._dispatch_has_kernel(f"fixedpoint::{name}"))


def operator_library() -> torch.library.Library:
    """The library of operators that are defined in Python, where nothing is compiled."""
    global _python_library
    if _python_library is None:
        _python_library = torch.library.Library("fixedpoint", "DEF")
    return _python_library


def _define_in_python() -> None:
    """Register the single-process operators, for a package without compiled parts."""
    library = operator_library()
    library.define("ghost_gather(Tensor x, int n_total) -> Tensor")
    library.define("ghost_reduce(Tensor x, int n_owned) -> Tensor")
    library.define("sum_ranks(Tensor x) -> Tensor")
    library.define("sum_max_ranks(Tensor sums, Tensor maxima) -> (Tensor, Tensor)")

    def same_rows(x: torch.Tensor, n: int) -> torch.Tensor:
        if x.shape[0] != n:
            raise ValueError(
                f"fixedpoint: an array of {x.shape[0]} rows for {n} atoms; without LAMMPS there are no ghosts"
            )
        return x.clone()

    def sum_max(sums: torch.Tensor, maxima: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sums.detach().clone(), maxima.detach().clone()

    key = "CompositeImplicitAutograd"
    library.impl("ghost_gather", same_rows, key)
    library.impl("ghost_reduce", same_rows, key)
    library.impl("sum_ranks", lambda x: x.clone(), key)
    library.impl("sum_max_ranks", sum_max, key)


def load_operators() -> None:
    """Make ``torch.ops.fixedpoint`` available; harmless to call again.

    Raises:
        ImportError: the compiled library is there but cannot be loaded, for example with another version of torch.
    """
    if registered("ghost_gather"):
        return
    path = _plugin_path.find(_plugin_path.OPERATORS)
    if path is None:
        _define_in_python()
        return
    try:
        torch.ops.load_library(path)
    except OSError as e:
        raise ImportError(
            f"the operator library {path} cannot be loaded with torch {torch.__version__} ({e}); "
            "reinstall fp-potential with this version of torch"
        ) from e
    if not registered("ghost_gather"):
        raise ImportError(f"{path} registered no operators; reinstall fp-potential")


load_operators()


def ghost_gather(x: torch.Tensor, n_total: int) -> torch.Tensor:
    """Rows of owned atoms [n_owned, ...] -> rows of owned and ghost atoms [n_total, ...]."""
    return torch.ops.fixedpoint.ghost_gather(x, n_total)


def ghost_reduce(x: torch.Tensor, n_owned: int) -> torch.Tensor:
    """Rows of owned and ghost atoms [n_total, ...] -> [n_owned, ...], ghosts added to their owners over all ranks."""
    return torch.ops.fixedpoint.ghost_reduce(x, n_owned)


def sum_ranks(x: torch.Tensor) -> torch.Tensor:
    """Elementwise sum over ranks, the same on every rank."""
    return torch.ops.fixedpoint.sum_ranks(x)


def sum_max_ranks(sums: torch.Tensor, maxima: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Sums and maxima over ranks in one collective; no derivative. Float64 is kept exactly, NaN propagates."""
    return torch.ops.fixedpoint.sum_max_ranks(sums, maxima)
