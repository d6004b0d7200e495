"""Potentials as files: tables in real and reciprocal space, parameters, states to start other runs from."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bands import Pseudopotential
from ...bands.parameters import SLOTS
from ...files import replaced, write_whole
from .config import OutputOptions
from .potential import COLUMNS, group_parameters
from .transform import RealSpace, to_real_space

#: largest q of the tables in reciprocal space that other programs read, 1/Bohr
DIGITS = "{:.12g}"


def pot_state(potential: Pseudopotential) -> dict[str, Any]:
    """Everything another run needs: the local form's state, and the nine parameters of each species."""
    return {
        "species": list(potential.species),
        "form": potential.form.state_dict(),
        "parameters_by_species": potential.parameters_by_species.detach().clone(),
    }


def write_state(state: dict[str, Any], path: Path) -> None:
    """A state of torch, whole or not at all."""
    with replaced(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


def take_state(potential: Pseudopotential, state: dict[str, Any]) -> None:
    """Set the parameters to those of `pot_state`.

    Raises:
        ValueError: other species, or another form.
    """
    if tuple(state["species"]) != potential.species:
        raise ValueError(f"a potential of {' '.join(state['species'])}, expected one of {' '.join(potential.species)}")
    try:
        potential.form.load_state_dict(state["form"])
    except RuntimeError as error:
        raise ValueError(f"its local form is another one: {error}") from error
    values = state["parameters_by_species"]
    with torch.no_grad():
        for name, columns in COLUMNS.items():
            (parameter,) = group_parameters(potential)[name]
            parameter.copy_(values[:, columns])


def write_parameters(potential: Pseudopotential, folder: Path, prefix: str) -> None:
    """``<prefix>_<species>Params.par`` with the nine parameters of each species, one in a line."""
    for name, row in zip(potential.species, potential.parameters_by_species.tolist(), strict=True):
        lines = [f"{value:.12g}" for value in row]
        assert len(lines) == len(SLOTS)
        write_whole(folder / f"{prefix}_{name}Params.par", "\n".join(lines) + "\n")


def write_reciprocal(potential: Pseudopotential, folder: Path, prefix: str, options: OutputOptions) -> None:
    """``<prefix>_<species>_qSpace_pot.dat``: q and v(q), Ha Bohr³; ``<prefix>_qSpace_pot.par`` holds all species.

    The latter is an ``init_qSpace_pot.par`` of another run. With the long-range term both hold it, but at q = 0.
    """
    q = torch.linspace(0.0, options.q_max, options.n_q, dtype=torch.float64)
    with torch.no_grad():
        values = potential.local(q)
    for column, name in enumerate(potential.species):
        _write(folder / f"{prefix}_{name}_qSpace_pot.dat", torch.stack([q, values[:, column]], 1))
    _write(folder / f"{prefix}_qSpace_pot.par", torch.cat([q[:, None], values], 1))


def write_real(potential: Pseudopotential, folder: Path, prefix: str, options: OutputOptions) -> RealSpace:
    """``<prefix>_<species>_pot.dat``: r and v(r), Bohr and Ha; says how well the transform has converged.

    The long-range term -a4 (4π/q²) exp(-q²/(4γ²)) is transformed by its formula, -a4 erf(γ r)/r.
    """
    without = replace(potential.terms, long_range=False)
    found = to_real_space(
        lambda q: potential.local(q, terms=without), options.q_max, options.n_q, options.r_max, options.n_r
    )
    values = found.values
    if potential.terms.long_range:
        tail = torch.erf(potential.gamma * found.r) / found.r.clamp(min=1e-12)
        tail[found.r == 0] = 2 * potential.gamma / torch.pi**0.5
        values = values - tail[:, None] * potential.charges().detach()
    for column, name in enumerate(potential.species):
        _write(folder / f"{prefix}_{name}_pot.dat", torch.stack([found.r, values[:, column]], 1))
    return found


def _write(path: Path, table: Tensor) -> None:
    text = "\n".join(" ".join(DIGITS.format(x) for x in row) for row in table.tolist())
    write_whole(path, text + "\n")


def write_costs(run_dir: Path) -> None:
    """``training_cost.dat`` from ``log.csv``: epoch, cost, that of validation if there is one; cost is in eV²."""
    log = run_dir / "log.csv"
    if not log.is_file():
        return
    with open(log, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train loss")]
    lines = [" ".join(row[name] for name in ("epoch", "train loss", "valid loss") if row.get(name)) for row in rows]
    write_whole(run_dir / "training_cost.dat", "\n".join(lines) + "\n" if lines else "")
