"""Files of a run beside its log and checkpoints, under the names of the published code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ...bands import Hamiltonian, NeuralForm, Pseudopotential, Terms, ZeroForm, published_state
from ...bands.local_forms import zunger
from ...files import write_whole
from ..trainer import distributed
from .config import BandsStage, BandsTrainConfig, LocalOptions
from .config.model import class_of
from .evaluation import Results, evaluate_systems
from .movie import write_movies
from .pictures import bands_figure, curve, potentials_figure, save
from .potential import NETWORK, group_parameters
from .tables import pot_state, write_costs, write_parameters, write_real, write_reciprocal, write_state
from .targets import System


class Outputs:
    """Writes into the run folder; process 0 alone.

    - ``oldFunc_plotBS.pdf``: bands of the analytic potential of the training file; ``initZunger_plotBS.pdf`` and
      ``initZunger_plotPP.pdf``: those of the network as it begins.
    - ``training_cost.dat``: cost by epoch.
    - ``epoch_N_PPmodel.pth`` (the network, under the names of its published class), ``epoch_N_AdamState.pth``,
      ``epoch_N_pot.pth`` (the whole potential), ``epoch_N_<species>Params.par``, ``epoch_N_plotBS.png``,
      ``epoch_N_plotPP.png``: each ``plot_every`` epochs and at the end of a stage.
    - ``mc_checkpoint.pth``: the parameters of the last epoch of moves; ``best_pot.pth`` and
      ``best_pot_<species>Params.par``: those with the smallest cost.
    - ``final_pot.pth``, ``final_pot_<species>Params.par``, ``final_<species>_pot.dat``,
      ``final_<species>_qSpace_pot.dat`` and ``final_pot_plot*.pdf``: the end.
    """

    def __init__(self, config: BandsTrainConfig, systems: Sequence[System], potential: Pseudopotential) -> None:
        self.config, self.systems, self.potential = config, systems, potential
        self.folder = Path(config.run_dir)
        self.optimizer: Optimizer | None = None
        self.start: list[tuple[str, Tensor, Tensor, str]] = []
        self.shells = torch.cat([system.hamiltonian.basis.q for system in systems]).unique()
        self.best: tuple[float, dict[str, Any]] | None = None

    # ---- the start ------------------------------------------------------------------------------------------------

    def follow_fit(self, epochs: int) -> None:
        """A picture of the fit to a curve."""
        if self._drawing():
            save(self._potentials("fit"), self.folder / f"initZunger_plotPP_{epochs}.png")

    def started(self, method: str) -> None:
        """Bands and potentials before the first epoch."""
        network = bool(list(self.potential.form.parameters()))
        analytic = self.draw_start()
        if not self._drawing():
            return
        if analytic:
            save(bands_figure(self._analytic_bands() if network else self._bands()), self.folder / "oldFunc_plotBS.pdf")
        if network:
            save(bands_figure(self._bands()), self.folder / "initZunger_plotBS.pdf")
            save(self._potentials("start"), self.folder / "initZunger_plotPP.pdf")

    def draw_start(self) -> bool:
        """Put the analytic form of the training file's parameters into the pictures; whether all species have some."""
        given = self.config.model.parameters
        values = torch.tensor([given.get(name, [0.0] * 9) for name in self.potential.species], dtype=torch.float64)
        analytic = bool(values[:, :4].abs().sum(1).all())
        if analytic:
            q, _ = curve(self.potential)
            self.start = [("analytic", q, zunger(q, values), "--")]
        return analytic

    def _analytic_bands(self) -> Results:
        """Bands of the Zunger form of the parameters, with the same other terms."""
        own = self.potential
        values = own.parameters_by_species.detach()
        terms = replace(own.terms, analytic=True)
        other = Pseudopotential(own.species, ZeroForm(len(own.species)), values, terms, own.gamma, own.slaved)
        systems = [_with_terms(system, terms) for system in self.systems]
        return evaluate_systems(systems, other)

    # ---- epochs ---------------------------------------------------------------------------------------------------

    def improved(self, loss: float) -> None:
        """Remember the potential with the smallest cost of the moves so far."""
        if distributed.is_main():
            self.best = (loss, pot_state(self.potential))

    def epoch(self, stage: Any, row: dict[str, Any], run_dir: Path) -> None:
        """Costs, and what is due after this epoch."""
        self.folder = run_dir
        write_costs(run_dir)
        if not isinstance(stage, BandsStage):
            return
        number = int(row["epoch"]) + 1
        in_stage = number - stage.first_epoch
        if stage.workflow == "monte_carlo":
            write_state(pot_state(self.potential), run_dir / "mc_checkpoint.pth")
            self._write_best(run_dir)
        due = stage.plot_every is not None and in_stage % stage.plot_every == 0
        if due or (in_stage == stage.length and stage.workflow == "gradient"):
            self._snapshot(run_dir / f"epoch_{number}")

    def _write_best(self, run_dir: Path) -> None:
        if self.best is None:
            return
        write_state(self.best[1] | {"cost": self.best[0]}, run_dir / "best_pot.pth")
        values = self.best[1]["parameters_by_species"].tolist()
        for name, row in zip(self.potential.species, values, strict=True):
            write_whole(run_dir / f"best_pot_{name}Params.par", "\n".join(f"{x:.12g}" for x in row) + "\n")
        self.best = None

    def _snapshot(self, stem: Path) -> None:
        local, form = self.config.model.local, self.potential.form
        if isinstance(form, NeuralForm):
            name = local.ppmodel or _class_of(local)
            state = form.state_dict() if name is None else published_state(form, name)
            write_state(state, stem.with_name(stem.name + "_PPmodel.pth"))
        write_state(pot_state(self.potential), stem.with_name(stem.name + "_pot.pth"))
        write_parameters(self.potential, stem.parent, stem.name)
        if self.optimizer is not None:
            network = {id(p) for p in group_parameters(self.potential)[NETWORK]}
            states = [state for parameter, state in self.optimizer.state.items() if id(parameter) in network]
            if states:
                state = {"state": dict(enumerate(states)), "param_groups": []}
                write_state(state, stem.with_name(stem.name + "_AdamState.pth"))
        if self._drawing():
            save(bands_figure(self._bands()), stem.with_name(stem.name + "_plotBS.png"))
            save(self._potentials("model"), stem.with_name(stem.name + "_plotPP.png"))

    # ---- the end --------------------------------------------------------------------------------------------------

    def finish(self, results: Results) -> list[str]:
        """Tables and pictures of the final potential; lines for the log."""
        if not distributed.is_main():
            return []
        lines = self.export(self.folder / "final_pot.pth")
        if self._drawing():
            save(bands_figure(results), self.folder / "final_plotBS.pdf")
            save(bands_figure(results, zoom=True), self.folder / "final_plotBS_zoom.pdf")
            save(self._potentials("model"), self.folder / "final_plotPP.pdf")
        if self.config.outputs.movie:
            lines += [f"wrote {name}" for name in write_movies(self.folder)]
        return lines

    def export(self, path: Path) -> list[str]:
        """``path``, a state to start from, and beside it the tables ``final_*``."""
        folder, prefix = path.parent, path.stem.removesuffix("_pot")
        write_state(pot_state(self.potential), path)
        write_parameters(self.potential, folder, path.stem)
        write_reciprocal(self.potential, folder, prefix, self.config.outputs)
        return [write_real(self.potential, folder, prefix, self.config.outputs).sentence()]

    # ---- pictures -------------------------------------------------------------------------------------------------

    def _drawing(self) -> bool:
        return self.config.outputs.plots and distributed.is_main()

    def _bands(self) -> Results:
        return evaluate_systems(self.systems, self.potential)

    def _potentials(self, label: str) -> Any:
        curves = [*self.start, (label, *curve(self.potential), "-")]
        return potentials_figure(curves, self.potential.species, self.shells)


def _class_of(local: LocalOptions) -> str | None:
    """The published class of a form that is described by its parts; none: there is none."""
    try:
        return class_of(local)
    except ValueError:
        return None


def _with_terms(system: System, terms: Terms) -> System:
    own = system.hamiltonian
    return replace(system, hamiltonian=Hamiltonian(own.crystal, own.basis, terms, own.cache), scaled={})
