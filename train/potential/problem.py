"""Training of a `fp_potential.model.FixedPointPotential`: the `Problem` of this package's potential."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from ...options import ModelStatistics, SCFOptions
from ..data.sets import DataSets
from ..progress import track
from ..trainer import distributed
from ..trainer.batching import deal
from ..trainer.initial_values import scale_variances
from ..trainer.options import RunOptions
from ..trainer.problem import LossResult
from .batch import Batch, with_charges_only
from .charging import Charging
from .columns import Columns, softness_column
from .config import InitialiseOptions, Stage, TrainConfig
from .constants import model_statistics
from .data_checks import check_labels, check_periodicity
from .error_tables import error_table
from .idle import idle_scf_options
from .initialise.metallic import check_levels, metals, start_metallic
from .initialise.reference_fit import fit_reference
from .initialise.transfer import read_source, take_potential, take_statistics
from .losses import Needs, needs, weighted_loss
from .metrics import StructureErrors
from .modes.predict import predict
from .ranges import Ranges
from .samples import Sample, batch_samples, make_samples, planned, rebuilt_lists, sizes
from .solution import LABEL_OF_PROPERTY, solve
from .statistics import SetStatistics, collect, field_feature_norms
from .trained import build_model

#: the SCF of validation through the converged loop, and of the final table
VALIDATION_SCF = SCFOptions(num_scf_steps=100, scf_tolerance=1e-6)
REPORT_SCF = SCFOptions(num_scf_steps=100, scf_tolerance=1e-8)


class PotentialProblem:
    """Fits a fixed-point potential to reference data.

    Args:
        config: the training file.
        data: frames of the three sets.
        state: of a checkpoint (`state`), for a resumed run; otherwise elements and constants come from the
            training frames.
    """

    config_type: type[RunOptions] = TrainConfig
    free_options: Sequence[str] = (
        "data.files",
        "data.valid_files",
        "data.test_files",
        "data.kind_key",
        "training.scf_eval_every",
    )
    name = "potential"

    def __init__(self, config: TrainConfig, data: DataSets, state: dict[str, Any] | None = None) -> None:
        self.config = config
        self.dtype = getattr(torch, config.training.default_dtype)
        self.device = torch.device(config.training.device)
        check_labels(config, data)
        sums = collect(data.train, config.model.r_max) if state is None else SetStatistics()
        self.elements: list[int] = list(state["elements"]) if state else sums.numbers()
        frames = {"train": data.train, "valid": data.valid, "test": data.test}
        if not config.data.override_pbc_checks:
            check_periodicity(chain(*frames.values()), config.model)
        self.samples: dict[str, Sequence[Sample]] = {
            name: make_samples(content, self.elements, config.model.r_max, self.dtype)
            for name, content in frames.items()
        }
        self.sizes = {name: sizes(samples) for name, samples in self.samples.items()}
        self.metals = metals(config.model, self.elements)
        self.log_columns = Columns(config, len(data.train), len(data.valid) > 0, list(self.metals.values()))
        self.notes = [*data.notes, *sums.warnings(), *rebuilt_lists(self.samples.values())]
        if state:
            self.statistics = ModelStatistics(**state["statistics"])
        else:
            self.statistics, lines = model_statistics(config, self.elements, sums, data, self._norms)
            self.notes += lines
            start = config.training.initialise
            if start.method == "checkpoint" and start.statistics == "source":
                self.statistics = take_statistics(
                    self.statistics, read_source(start), config.model, config.statistics, self.elements, data.train
                )
        self.charging: Charging = state.get("charging", {}) if state else sums.charging
        # checkpoints of earlier versions know neither
        self.units: dict[str, Any] | None = state.get("units") if state else data.units.model_dump()
        self.ranges: Ranges = state.get("ranges", {}) if state else sums.training_ranges()
        torch.manual_seed(config.training.seed)
        self.module = build_model(config.model, self.elements, self.statistics, self.dtype).to(self.device)
        self.notes += start_metallic(self.module, config.model, self.charging)
        self.notes += idle_scf_options(config, self.module.solver.density_map)
        if state is None:
            check_levels(self.module, config)

    def introduction(self) -> list[str]:
        """Numbers of frames, what deserves a look in them, and the constants of the model."""
        constants, numbers = self.statistics, {name: len(samples) for name, samples in self.samples.items()}
        energies = ", ".join(f"{chemical_symbols[z]} {energy:.4f}" for z, energy in constants.atomic_energies.items())
        norms = " ".join(f"{norm:.4g}" for norm in constants.field_feature_norms)
        return [
            "frames: " + ", ".join(f"{number} {name}" for name, number in numbers.items()),
            *self.notes,
            f"E0s [eV]: {energies}",
            f"neighbours within {self.config.model.r_max} Å: {constants.avg_num_neighbors:.2f} on average; "
            f"Fermi level offset {constants.fermi_level_offset:.4f} eV; field-feature norms {norms}",
        ]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of the model with their weight decays."""
        options = self.config.training
        decay = {"local_charges": options.local_charges_weight_decay, "field_block": options.field_block_weight_decay}
        return [
            {"name": name, "params": list(parameters), "weight_decay": decay.get(name, options.weight_decay)}
            for name, parameters in self.module.parameter_groups().items()
        ]

    def initialise(self, options: InitialiseOptions, seed: int) -> list[str]:
        """Parameters drawn anew, taken from another potential, or last layers fitted to the training set."""
        model, statistics = self.module, self.statistics
        if options.method == "checkpoint":
            return take_potential(model, self.config.model, statistics, read_source(options))
        if options.method == "reference":
            return self._fit_reference()
        torch.manual_seed(seed)
        drawn = build_model(self.config.model, self.elements, statistics, self.dtype)
        text = f"parameters drawn at random, seed {seed}"
        if options.method != "random":
            changed = scale_variances(drawn, options.method)
            text += f"; {changed} weights of layers with the variance of {options.method.capitalize()}"
        model.load_state_dict(drawn.state_dict())
        start_metallic(model, self.config.model, self.charging)
        return [text]

    def _fit_reference(self) -> list[str]:
        load = partial(batch_samples, self.samples["train"], device=self.device)
        shift = self.config.statistics.E0s == "least_squares"
        lines = fit_reference(self.module, self.plan("train"), load, shift)
        self.statistics.atomic_energies = dict(zip(self.elements, self.module.atomic_energies, strict=True))
        return lines

    def state(self) -> dict[str, Any]:
        """Elements, constants, who takes added charge, numbers of frames, and what the training set spans."""
        return {
            "elements": self.elements,
            "statistics": self.statistics.model_dump(),
            "charging": self.charging,
            "frames": {name: len(samples) for name, samples in self.samples.items()},
            "ranges": self.ranges,
            "units": self.units,
        }

    def plan(self, split: str, seed: int | None = None) -> list[list[int]]:
        """Places in the set of the structures of each batch."""
        options = self.config.training
        size = options.batch_size if split == "train" else options.valid_batch_size
        return planned(self.sizes[split], size, seed, options.max_atoms_per_batch, options.group_by_size)

    def batch(self, split: str, content: Sequence[int], part: int = 0, parts: int = 1) -> Batch | None:
        """The structures ``content``, or those of one of ``parts`` parts with about as many pairs of atoms each."""
        samples = self.samples[split]
        if parts == 1:
            return batch_samples(samples, content, self.device)
        extent = self.sizes[split]
        dealt = deal(content, extent.edges[content].tolist(), parts)
        if part >= len(dealt):
            return None
        whole = (len(content), int(extent.atoms[content].sum()))
        return batch_samples(samples, dealt[part], self.device)._replace(whole=whole)

    def batches(self, split: str, seed: int | None = None) -> Iterator[Batch]:
        """All batches of the set, shuffled by ``seed`` if given."""
        for content in self.plan(split, seed):
            yield batch_samples(self.samples[split], content, self.device)

    def loss(self, batch: Batch, stage: Stage, differentiable: bool = True) -> LossResult:
        """Weighted loss of the stage's mode; the SCF's applications and convergence are among the terms."""
        wanted = stage.loss.terms()
        needed = self._needs(wanted)
        if self.metals:
            needed = needed._replace(properties=needed.properties | {"metallic_softness"})
        output = self._predict(batch, stage, needed, training=differentiable)
        total, terms = weighted_loss(output, self._as_labelled(batch, stage.constant_charge), wanted)
        counts: dict[str, Tensor] = {}
        for place, symbol in self.metals.items():
            atoms = batch.graph.species == place
            counts[softness_column(symbol)] = output["metallic_softness"].detach()[atoms].sum()
            counts[f"atoms {symbol}"] = atoms.sum()
        if stage.fixed_point_training_options.mode != "direct":
            counts |= {
                "scf_steps": output["scf_steps"].sum(),
                "scf_converged": (output["status"] == 0).sum(),
                "scf_fallback": output["fallback"].sum(),
                "solve_failures": output["solve_failures"],
            }
        return LossResult(total, terms, len(batch.indices), counts or None)

    def columns(self) -> Sequence[str]:
        """Headings of the log."""
        return self.log_columns.headings

    def summarise(self, terms: dict[str, float]) -> dict[str, float]:
        """Root mean squares of the terms that have a column, and the SCF's statistics."""
        return self.log_columns.of_training(terms)

    def evaluate(self, split: str, stage: Stage, epoch_of_stage: int) -> dict[str, float]:
        """Errors on a set: in direct stages of the direct mode, and now and then of the converged SCF; else of that.

        The converged SCF starts at the local guess (``VALIDATION_SCF``).
        """
        wanted = stage.loss.terms()
        for_loss = self._needs(wanted)
        direct = stage.fixed_point_training_options.mode == "direct"
        loop = VALIDATION_SCF.model_copy(update={"constant_charge": stage.constant_charge})
        errors, loss, structures = StructureErrors(stage.constant_charge), 0.0, 0
        for batch in self._own_batches(split, "validation"):
            if direct:
                output = self._predict(batch, stage, for_loss, training=False)
            elif for_loss.properties:
                everything = Needs(True, True, for_loss.properties | self._labelled())
                output = self._predict(batch, stage, everything, training=False, converged=loop)
            else:
                output = solve(self.module, batch.graph, loop, self._labelled())
            total, _ = weighted_loss(output, self._as_labelled(batch, stage.constant_charge), wanted)
            loss += float(total.detach()) * len(batch.indices)
            structures += len(batch.indices)
            errors.add(output, batch, ["all"] * len(batch.indices))
        loss, structures = map(sum, zip(*distributed.gather((loss, structures)), strict=True))
        errors = _joined(errors)
        row = {"valid loss": loss / structures} | self.log_columns.of_validation(errors)
        every = self.config.training.scf_eval_every
        if direct:
            if not every or not (epoch_of_stage % every == 0 or epoch_of_stage == stage.length):
                return row
            errors = self.solved(split, loop)
        return row | self.log_columns.of_solution(errors)

    def solved(self, split: str, scf: SCFOptions) -> StructureErrors:
        """Errors of the model's own solution, started at the local guess."""
        errors = StructureErrors(scf.constant_charge)
        for batch in self._own_batches(split, f"self-consistent, {split} set"):
            output = solve(self.module, batch.graph, scf, self._labelled())
            errors.add(output, batch, [self.samples[split][index].kind for index in batch.indices])
        return _joined(errors)

    def report(self, split: str) -> str:
        """Errors per kind through the SCF converged from the local guess."""
        if not self.samples[split]:
            return ""
        # single precision does not reach the tolerance of double
        scf = REPORT_SCF if self.dtype == torch.float64 else VALIDATION_SCF
        heading, table = error_table(self.solved(split, scf)).split("\n", 1)
        return f"{heading}; SCF from the local guess to {scf.scf_tolerance:g}\n{table}"

    def export(self, path: str | Path, summary: dict[str, Any] | None = None) -> None:
        """Write the model archive that the calculator and LAMMPS read."""
        from ...export import export_model

        export_model(self.module, path, training=summary or {})

    def _own_batches(self, split: str, title: str) -> Iterator[Batch]:
        """The batches that this process evaluates."""
        for content in track(distributed.own(self.plan(split)), title):
            yield batch_samples(self.samples[split], content, self.device)

    def _as_labelled(self, batch: Batch, constant_charge: bool) -> Batch:
        """The batch with labels of the density that the model has, and of E, or Ω = E + μQ, which it reports."""
        if not constant_charge:
            labels = batch.labels
            energy = labels.energy + (labels.fermi_level.double() * batch.graph.total_charge).nan_to_num()
            batch = batch._replace(labels=labels._replace(energy=energy))
        return with_charges_only(batch) if self.config.model.atomic_multipoles_max_l == 0 else batch

    def _predict(
        self, batch: Batch, stage: Stage, wanted: Needs, training: bool, converged: SCFOptions | None = None
    ) -> dict[str, Tensor]:
        """The batch in the stage's mode, or solved with the settings ``converged``."""
        options = stage.fixed_point_training_options
        return predict(
            self.module,
            batch.graph,
            "implicit" if converged else options.mode,
            converged or options.scf,
            self._as_labelled(batch, stage.constant_charge).labels.multipoles,
            batch.labels.fermi_level,
            wanted.forces,
            wanted.stress,
            training,
            wanted.properties,
        )

    def _needs(self, terms: Iterable[str]) -> Needs:
        return needs(terms, self.config.data.keys.electrostatic_potentials is not None)

    def _labelled(self) -> frozenset[str]:
        """Properties beside energy, forces, stress and density that the data have labels of."""
        keys = self.config.data.keys.model_dump()
        return frozenset(name for name, label in LABEL_OF_PROPERTY.items() if keys[label] is not None)

    def _norms(self, constants: ModelStatistics) -> list[float]:
        """RMS of the field features of a model with ``constants`` over the training set."""
        model = build_model(self.config.model, self.elements, constants, self.dtype).to(self.device)
        content = track(self.batches("train"), "field-feature norms", len(self.plan("train")))
        return field_feature_norms(model.field_features, content, constants.fermi_level_offset)


def _joined(errors: StructureErrors) -> StructureErrors:
    """The errors that all processes found, in the order of the set."""
    joined = StructureErrors(errors.constant_charge)
    for part in distributed.gather(errors):
        joined.extend(part)
    return joined
