"""Training of a `fp_potential.bands.Pseudopotential` against band structures: a `Problem` of the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from ...bands import Pseudopotential
from ..errors import InputError
from ..trainer import distributed
from ..trainer.batching import deal
from ..trainer.idle import given, no_effect
from ..trainer.least_squares import NormalEquations
from ..trainer.options import RunOptions
from ..trainer.problem import LossResult
from .config import BandsStage, BandsTrainConfig, InitialiseOptions, ObjectiveOptions
from .data import BandSystem, species_of
from .evaluation import Results, evaluate_systems
from .initialise import initialise, optimizer_state
from .normal_equations import normal_equations
from .objective import TERMS, Item, bands_term, cost, items
from .outputs import Outputs
from .perturbation import keep_allowed, perturb, step_parameters
from .potential import NETWORK, build_potential, charges_line, group_parameters, parameter_groups
from .targets import System, bands, bands_cost, make_system, match_bands, something_to_fit


class Batch(NamedTuple):
    """Pieces of work."""

    items: list[Item]
    points: int  #: number of k-points among them


class BandsProblem:
    """Fits a pseudopotential to reference bands.

    Args:
        config: the training file.
        data: its systems.
    """

    config_type: type[RunOptions] = BandsTrainConfig
    free_options: Sequence[str] = ("outputs", "training.print_gradients", "training.separate_kpoints")
    name = "bands"

    def __init__(self, config: BandsTrainConfig, data: Sequence[BandSystem]) -> None:
        if config.training.default_dtype != "float64" or config.training.device != "cpu":
            raise InputError(
                "a pseudopotential is trained with training.default_dtype: float64 and training.device: cpu"
            )
        self.config = config
        self.species = species_of(data)
        torch.manual_seed(config.training.seed)
        self.module: Pseudopotential = build_potential(config.model, data, self.species)
        terms, model = self.module.terms, config.model
        self.systems: list[System] = [
            make_system(system, model.basis, terms, model.terms.cache, config.training.hold_out) for system in data
        ]
        something_to_fit(self.systems, config.train_schedule)
        self.groups = group_parameters(self.module)
        self.steps = _steps(config, self.species)
        self.outputs = Outputs(config, self.systems, self.module)
        self.optimizer_state: dict[int, dict[str, Any]] = {}

    # ---- what a run is --------------------------------------------------------------------------------------------

    def introduction(self) -> list[str]:
        """Systems, plane waves and terms."""
        lines = []
        for system in self.systems:
            data, waves = system.data, system.hamiltonian.basis
            held = f" ({len(system.held_out)} held out)" if system.held_out else ""
            lines.append(
                f"{data.name}: {len(data.kpoints)} k-points{held}, {data.n_bands} bands, {len(waves)} plane waves "
                f"below {data.max_ke:g} Ha"
            )
            if waves.missing:
                lines.append(
                    f"  basis: published leaves {waves.missing} plane waves of the complete sphere out, as the "
                    "published code does; basis: complete takes them"
                )
            if data.transitions:
                lines.append(f"  {len(data.transitions)} deformation potentials")
        switches = self.module.terms
        named = {
            "analytic local": switches.analytic,
            "long range": switches.long_range,
            "spin-orbit": switches.spin_orbit,
            "non-local": switches.nonlocal_,
            "strain": switches.strain,
        }
        terms = ", ".join(name for name, on in named.items() if on) or "the local network only"
        trained = ", ".join(str(group["name"]) for group in self.parameter_groups()) or "nothing"
        if switches.long_range:
            lines += [charges_line(self.module, own.hamiltonian.crystal, own.data.name) for own in self.systems]
        lines.append(f"species: {' '.join(self.species)}; terms: {terms}; trained: {trained}")
        idle = given(self.config.training, ["valid_batch_size", "max_atoms_per_batch", "group_by_size"])
        return [*lines, *no_effect([f"training.{name}" for name in idle], "batches are of batch_size systems")]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups that are trained."""
        return parameter_groups(self.module, self.config.training.weight_decay)

    def initialise(self, options: Any, seed: int) -> list[str]:
        """Parameters by the strategy of ``options`` (`initialise.initialise`)."""
        assert isinstance(options, InitialiseOptions)
        self.optimizer_state = optimizer_state(options.optimizer_state, self.groups[NETWORK])
        local = self.config.model.local
        lines = initialise(self.module, self.systems, local, options, seed, self.outputs.follow_fit)
        self.outputs.started(options.method)
        return lines

    def optimizer_built(self, optimizer: Optimizer) -> list[str]:
        """Give the first optimiser of a run the state that belongs to a checkpoint."""
        self.outputs.optimizer = optimizer
        if not self.optimizer_state:
            return []
        for parameter, state in zip(self.groups[NETWORK], self.optimizer_state.values(), strict=True):
            optimizer.state[parameter] = {
                name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()
            }
        number, self.optimizer_state = len(self.optimizer_state), {}
        return [f"state of the optimiser taken for {number} tensors of the network"]

    def in_pieces(self) -> BandsTrainConfig:
        """The options with as many pieces of each batch as it has k-points, if these are to be taken one by one."""
        if not self.config.training.separate_kpoints:
            return self.config
        pieces = max(1, *(len(items(self.systems, content, "train")) for content in self.plan("train")))
        training = self.config.training.model_copy(update={"accumulate": pieces})
        return self.config.model_copy(update={"training": training})

    def state(self) -> dict[str, Any]:
        """Species and names of the systems."""
        return {"species": list(self.species), "systems": [system.data.name for system in self.systems]}

    # ---- batches and losses ---------------------------------------------------------------------------------------

    def plan(self, split: str, seed: int | None = None) -> list[list[int]]:
        """Systems of each batch."""
        if split == "test":
            return []
        chosen = [
            place
            for place, system in enumerate(self.systems)
            if (system.held_out if split == "valid" else system.fitted or system.data.transitions)
        ]
        if seed is not None and len(chosen) > self.config.training.batch_size:
            order = torch.randperm(len(chosen), generator=Generator().manual_seed(seed)).tolist()
            chosen = [chosen[place] for place in order]
        size = self.config.training.batch_size
        return [chosen[begin : begin + size] for begin in range(0, len(chosen), size)]

    def batch(self, split: str, content: Sequence[int], part: int = 0, parts: int = 1) -> Batch | None:
        """The pieces of work of the systems ``content``, or those of one of ``parts`` parts of about the same cost."""
        every = items(self.systems, content, split)
        sizes = [self._cost(item) for item in every]
        if parts > 1:
            dealt = deal(range(len(every)), sizes, parts)
            if part >= len(dealt):
                return None
            every = [every[place] for place in sorted(dealt[part])]
        return Batch(every, sum(item.kind == "k" for item in every))

    def _cost(self, item: Item) -> int:
        return item.cost * len(self.systems[item.system].hamiltonian.basis) ** 2

    def objective(self, stage: Any) -> ObjectiveOptions:
        """The objective of a stage."""
        own = stage.objective if isinstance(stage, BandsStage) else None
        return own if own is not None else self.config.objective

    def loss(self, batch: Batch, stage: Any, differentiable: bool = True) -> LossResult:
        """The cost of the pieces of work, and its terms with their weights."""
        with torch.set_grad_enabled(differentiable):
            terms = cost(self.systems, self.module, batch.items, self.objective(stage))
            total = torch.stack(list(terms.values())).sum()
        return LossResult(total, {name: value.detach() for name, value in terms.items()}, batch.points)

    def normal_equations(self, batch: Batch, stage: Any, parameters: Sequence[Tensor]) -> NormalEquations:
        """The cost as a sum of squares, for ``workflow: least_squares``."""
        objective = self.objective(stage)
        return normal_equations(self.systems, self.module, batch.items, objective, parameters, batch.points)

    # ---- between epochs -------------------------------------------------------------------------------------------

    def before_epoch(self, stage: Any, epoch_of_stage: int, seed: int) -> list[str]:
        """The order of bands; random changes each ``perturb_every`` epochs, and the first steps of a stage."""
        lines: list[str] = []
        for system in self.systems:
            system.last = None  # what an epoch gives does not depend on whether the run was resumed before it
        if not isinstance(stage, BandsStage):
            return lines
        for system in self.systems:
            if stage.reorder != "none":
                match_bands(system, self.module, stage.reorder)
            else:
                order = system.data.band_order
                system.order = None if order is None else torch.from_numpy(order)
        if stage.workflow != "gradient":
            return lines
        if epoch_of_stage == 0 and stage.pre_adjust_moves:
            lines.append(self._pre_adjust(stage))
        if stage.perturb_every is not None and epoch_of_stage and epoch_of_stage % stage.perturb_every == 0:
            options = stage.perturbation
            perturb(self.groups, options.kernel, options.magnitude, Generator().manual_seed(seed))
            lines.append(f"parameters changed by kernel {options.kernel}, magnitude {options.magnitude:g}")
        return lines

    def _pre_adjust(self, stage: BandsStage) -> str:
        """Steps along the one entry of the gradient that is largest; every process takes all of them."""
        parameters = [p for group in self.groups.values() for p in group if p.requires_grad]
        rate = stage.pre_adjust_step or stage.lr
        for _ in range(stage.pre_adjust_moves):
            total = torch.zeros((), dtype=torch.float64)
            for content in self.plan("train"):
                batch = self.batch("train", content)
                assert batch is not None
                total = total + self.loss(batch, stage).total
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
            sizes = [0.0 if g is None else float(g.abs().max()) for g in gradients]
            place = max(range(len(sizes)), key=sizes.__getitem__)
            gradient = gradients[place]
            if gradient is None:
                break
            entry = int(gradient.abs().argmax())
            with torch.no_grad():
                parameters[place].view(-1)[entry] -= rate * gradient.reshape(-1)[entry]
        return f"{stage.pre_adjust_moves} steps along the entry with the largest gradient"

    def after_epoch(self, stage: Any, row: dict[str, Any], run_dir: Path) -> None:
        """Costs and, now and then, tables and pictures."""
        self.outputs.epoch(stage, row, run_dir)

    def propose(self, stage: Any, generator: Generator, factor: float) -> bool:
        """A move of workflow ``monte_carlo``."""
        if not isinstance(stage, BandsStage) or stage.monte_carlo is None:
            return False
        options = stage.monte_carlo
        if options.moves == "kernel":
            kernel = options.perturbation
            perturb(self.groups, kernel.kernel, factor * kernel.magnitude, generator)
        else:
            steps = self.steps.get(stage.name)
            step_parameters(self.groups, options.relative_step, steps, generator, factor)
        keep_allowed(self.groups)
        return True

    def improved(self, loss: float) -> None:
        """Remember the best potential."""
        self.outputs.improved(loss)

    # ---- log and evaluation ---------------------------------------------------------------------------------------

    def columns(self) -> Sequence[str]:
        """Headings of the log."""
        valid = ["valid loss", "valid bands [meV]"] if self.plan("valid") else []
        return [*(f"train {name} [eV²]" for name in self._terms()), "train bands [meV]", *valid]

    def _terms(self) -> list[str]:
        """Terms of the cost that some stage has."""
        stages = [self.objective(stage) for stage in self.config.train_schedule]
        rows = [row for system in self.systems for row in system.data.transitions]
        present = {
            "deformation": any(row.weight > 0 for row in rows) and any(s.deformation > 0 for s in stages),
            "couplings": any(system.data.couplings for system in self.systems) and any(s.coupling > 0 for s in stages),
            "masses": any(system.data.masses for system in self.systems) and any(s.masses > 0 for s in stages),
            "large_q": any(s.large_q > 0 for s in stages),
            "magnitude": any(s.magnitude > 0 for s in stages),
            "roughness": any(s.roughness > 0 for s in stages),
            "spin_orbit": any(s.spin_orbit_penalty > 0 for s in stages),
        }
        return [name for name in TERMS if present.get(name, True)]

    def summarise(self, terms: dict[str, float]) -> dict[str, float]:
        """Terms of the cost, and the root mean square error of the bands where the cost is their sum of squares."""
        found = {f"train {name} [eV²]": terms[name] for name in self._terms()}
        if len(self.plan("train")) == 1 and self._plain():
            weight = sum(float(system.weights[list(system.fitted)].sum()) for system in self.systems)
            scale = self.config.objective.bands * weight
            found["train bands [meV]"] = 1000 * (max(terms["bands"], 0.0) / scale) ** 0.5 if scale > 0 else 0.0
        return found

    def _plain(self) -> bool:
        """Whether all stages have the same sum of squares of band energies in their cost."""
        base = self.config.objective
        return all(
            not (stage.gaps or stage.mean) and stage.bands == base.bands
            for stage in map(self.objective, self.config.train_schedule)
        )

    def evaluate(self, split: str, stage: Any, epoch_of_stage: int) -> dict[str, float]:
        """Cost and root mean square error of the held-out k-points."""
        objective = self.objective(stage)
        own = distributed.own([item for content in self.plan(split) for item in items(self.systems, content, split)])
        with torch.no_grad():
            total, squares, weight = 0.0, 0.0, 0.0
            for place in sorted({item.system for item in own}):
                system = self.systems[place]
                numbers = [item.number for item in own if item.system == place]
                energies = bands(system, self.module, numbers)
                total += float(bands_term(energies, system, numbers, objective))
                squares += float(bands_cost(energies, system, numbers, False))
                weight += float(system.weights[numbers].sum())
        loss, squares, weight = map(sum, zip(*distributed.gather((total, squares, weight)), strict=True))
        return {"valid loss": loss, "valid bands [meV]": 1000 * (squares / weight) ** 0.5 if weight else 0.0}

    def results(self) -> Results:
        """Bands, gaps, deformation potentials and errors of all systems."""
        return evaluate_systems(self.systems, self.module)

    def report(self, split: str) -> str:
        """Table of the final errors of all systems, for any ``split``: fitted and held-out k-points in one."""
        return self.results().table()

    def export(self, path: str | Path) -> None:
        """A state to start another run from at ``path``, and tables of the potential beside it."""
        self.outputs.export(Path(path))

    def finish(self) -> list[str]:
        """Files of the final potential; lines for the log."""
        return self.outputs.finish(self.results())


def _steps(config: BandsTrainConfig, species: Sequence[str]) -> dict[str, Tensor]:
    """Largest steps ``(n_species, 9)`` of Monte Carlo stages that have them, by the name of the stage.

    Raises:
        InputError: none for a species, or not nine.
    """
    found = {}
    for stage in config.train_schedule:
        steps = stage.monte_carlo.steps if stage.monte_carlo is not None else {}
        if not steps:
            continue
        missing = [name for name in species if len(steps.get(name, [])) != 9]
        if missing:
            raise InputError(
                f"stage '{stage.name}': monte_carlo.steps needs nine numbers for each species; not so for "
                f"{', '.join(missing)}"
            )
        found[stage.name] = torch.tensor([steps[name] for name in species], dtype=torch.float64)
    return found
