"""Training of a :class:`fp_potential.model.FixedPointPotential`: the :class:`Problem` of this package's potential."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..options import ModelStatistics, SCFOptions
from .archive import LABEL_OF_PROPERTY, build_model, solve
from .config import Stage, TrainConfig
from .data import Batch, Sample, batch_samples, batches, make_samples
from .errors import InputError
from .frames import DataSets
from .losses import Needs, needs, weighted_loss
from .metrics import PROPERTIES, StructureErrors, error_table
from .modes import predict
from .problem import LossResult
from .statistics import (
    atomic_energies,
    average_neighbours,
    density_scaling,
    elements_of,
    field_feature_norms,
    mean_fermi_level,
    minimum_distances,
)

#: the SCF of validation through the converged loop, and of the final table
VALIDATION_SCF = SCFOptions(num_scf_steps=100, scf_tolerance=1e-6)
REPORT_SCF = SCFOptions(num_scf_steps=100, scf_tolerance=1e-8)

#: terms of the loss shown in the log as root mean squares times 1000
TRAIN_COLUMNS = {
    "energy_per_atom": "train energy [meV/atom]",
    "forces": "train forces [meV/Å]",
    "stress": "train stress [meV/Å³]",
    "atomic_multipoles": "train multipoles [me, me·Å]",
    "esps": "train potentials [mV]",
    "polarizability": "train polarizability [me·Å²/V/atom]",
    "born_charges": "train Born charges [me]",
}
VALID_COLUMNS = (
    "energy",
    "forces",
    "stress",
    "charge",
    "atomic_dipole",
    "dipole",
    "esps",
    "polarizability",
    "born_charges",
)
#: modes whose structures may have to be unrolled, and that solve linear systems
SOLVING_MODES = ("implicit", "linearize_solve")


class PotentialProblem:
    """Fits a fixed-point potential to reference data.

    Args:
        config: the training file.
        data: frames of the three sets.
        state: of a checkpoint (:meth:`state`), for a resumed run; otherwise elements and constants come from the
            training frames.
    """

    name = "potential"

    def __init__(self, config: TrainConfig, data: DataSets, state: dict[str, Any] | None = None) -> None:
        self.config = config
        self.dtype = getattr(torch, config.training.default_dtype)
        self.device = torch.device(config.training.device)
        self.elements: list[int] = list(state["elements"]) if state else elements_of(data.train)
        frames = {"train": data.train, "valid": data.valid, "test": data.test}
        self.samples: dict[str, list[Sample]] = {
            name: make_samples(content, self.elements, config.model.r_max, self.dtype)
            for name, content in frames.items()
        }
        self._check_labels()
        if state:
            self.statistics = ModelStatistics(**state["statistics"])
        else:
            self.statistics = self._statistics(data)
        torch.manual_seed(config.training.seed)
        self.module = build_model(config.model, self.elements, self.statistics, self.dtype).to(self.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of the model with their weight decays."""
        options = self.config.training
        decay = {"local_charges": options.local_charges_weight_decay, "field_block": options.field_block_weight_decay}
        return [
            {"name": name, "params": list(parameters), "weight_decay": decay.get(name, options.weight_decay)}
            for name, parameters in self.module.parameter_groups().items()
        ]

    def initialise(self) -> None:
        """The weights are drawn when the model is built, from ``training.seed``."""

    def state(self) -> dict[str, Any]:
        """Elements, constants and numbers of frames."""
        frames = {name: len(samples) for name, samples in self.samples.items()}
        return {"elements": self.elements, "statistics": self.statistics.model_dump(), "frames": frames}

    def number_of_batches(self, split: str) -> int:
        """Number of batches of the set."""
        return -(-len(self.samples[split]) // self._batch_size(split))

    def batches(self, split: str, seed: int | None = None) -> Iterator[Batch]:
        """Batches of the set, shuffled by ``seed`` if given."""
        group = self.config.training.group_by_size
        return batches(self.samples[split], self._batch_size(split), seed, self.device, group)

    def parts(self, batch: Batch, number: int) -> list[Batch]:
        """The structures dealt out to ``number`` batches, the longest first and each to the one with least to do."""
        samples = self.samples["train"]
        edges = {index: samples[index].graph.edge_index.shape[1] for index in batch.indices}
        chunks: list[list[int]] = [[] for _ in range(min(number, len(edges)))]
        for index in sorted(batch.indices, key=edges.__getitem__, reverse=True):
            # a part without a structure comes first: structures may have no neighbours
            min(chunks, key=lambda chunk: (len(chunk) > 0, sum(edges[i] for i in chunk))).append(index)
        return [batch_samples(samples, chunk, self.device) for chunk in chunks]

    def loss(self, batch: Batch, stage: Stage) -> LossResult:
        """Weighted loss of the stage's mode; the SCF's applications and convergence are among the terms."""
        wanted = stage.loss.terms()
        output = self._predict(batch, stage, self._needs(wanted), training=True)
        total, terms = weighted_loss(output, batch, wanted)
        if stage.fixed_point_training_options.mode != "direct":
            terms["scf_steps"] = output["scf_steps"].to(total.dtype).mean()
            terms["scf_converged"] = (output["status"] == 0).to(total.dtype).mean()
            terms["scf_fallback"] = output["fallback"].to(total.dtype).mean()
            # counts on while the loss is differentiated, and is read after that
            terms["solve_failures"] = output["solve_failures"]
        return LossResult(total, terms, len(batch.indices))

    def columns(self) -> Sequence[str]:
        """Headings of the log."""
        names = {name for stage in self.config.train_schedule for name in stage.loss.active()}
        train = [heading for name, heading in TRAIN_COLUMNS.items() if name in names]
        scf = [f"{{}} SCF {what}" for what in ("applications", "converged [%]")]
        modes = {stage.fixed_point_training_options.mode for stage in self.config.train_schedule}
        columns = train + ([text.format("train") for text in scf] if modes - {"direct"} else [])
        columns += ["train SCF fallbacks", "train failed solves"] if modes & set(SOLVING_MODES) else []
        if not self.samples["valid"]:
            return columns
        keys = self.config.data.keys
        mapped = {"charge": keys.atomic_multipoles, "atomic_dipole": keys.atomic_multipoles} | keys.model_dump()
        mapped["esps"] = "esps" in names or keys.electrostatic_potentials
        valid = [f"valid {PROPERTIES[name]}" for name in VALID_COLUMNS if mapped[name]]
        return [*columns, "valid loss", *valid, "SCF forces [meV/Å]", *(text.format("valid") for text in scf)]

    def summarise(self, terms: dict[str, float]) -> dict[str, float]:
        """Root mean squares of the terms that have a column, and the SCF's statistics."""
        row = {TRAIN_COLUMNS[name]: 1000 * value**0.5 for name, value in terms.items() if name in TRAIN_COLUMNS}
        if "scf_steps" in terms:
            row |= {
                "train SCF applications": terms["scf_steps"],
                "train SCF converged [%]": 100 * terms["scf_converged"],
            }
            if "train SCF fallbacks" in self.columns():
                # means over the structures of an epoch
                number = len(self.samples["train"])
                row["train SCF fallbacks"] = round(terms["scf_fallback"] * number)
                row["train failed solves"] = round(terms["solve_failures"] * number)
        return row

    def evaluate(self, split: str, stage: Stage, epoch_of_stage: int) -> dict[str, float]:
        """Errors on a set: in direct stages of the direct mode, and now and then of the converged SCF; else of that.

        The converged SCF starts at the local guess (``VALIDATION_SCF``).
        """
        wanted = stage.loss.terms()
        for_loss = self._needs(wanted)
        options = stage.fixed_point_training_options
        direct = options.mode == "direct"
        constant_charge = options.scf is None or options.scf.constant_charge
        loop = VALIDATION_SCF.model_copy(update={"constant_charge": constant_charge})
        errors, loss, structures = StructureErrors(), 0.0, 0
        for batch in self.batches(split):
            if direct:
                output = self._predict(batch, stage, for_loss, training=False)
            elif for_loss.properties:
                everything = Needs(True, True, for_loss.properties | self._labelled())
                output = self._predict(batch, stage, everything, training=False, converged=loop)
            else:
                output = solve(self.module, batch.graph, loop, self._labelled())
            total, _ = weighted_loss(output, batch, wanted)
            loss += float(total.detach()) * len(batch.indices)
            structures += len(batch.indices)
            errors.add(output, batch, ["all"] * len(batch.indices))
        row = {"valid loss": loss / structures}
        columns = self.columns()
        for name in VALID_COLUMNS:
            pair = errors.rmse_mae(name)
            if pair and f"valid {PROPERTIES[name]}" in columns:
                row[f"valid {PROPERTIES[name]}"] = pair[0]
        every = self.config.training.scf_eval_every
        if direct:
            if not every or not (epoch_of_stage % every == 0 or epoch_of_stage == stage.length):
                return row
            errors = self.solved(split, loop)
        forces, scf = errors.rmse_mae("forces"), errors.scf()
        if forces:
            row["SCF forces [meV/Å]"] = forces[0]
        if scf:
            row |= {"valid SCF applications": scf[0], "valid SCF converged [%]": scf[2]}
        return row

    def solved(self, split: str, scf: SCFOptions) -> StructureErrors:
        """Errors of the model's own solution, started at the local guess."""
        errors = StructureErrors()
        for batch in self.batches(split):
            output = solve(self.module, batch.graph, scf, self._labelled())
            errors.add(output, batch, [self.samples[split][index].kind for index in batch.indices])
        return errors

    def report(self, split: str) -> str:
        """Errors per kind through the SCF converged to 1e-8 from the local guess."""
        if not self.samples[split]:
            return ""
        return error_table(self.solved(split, REPORT_SCF))

    def export(self, path: str | Path, summary: dict[str, Any] | None = None) -> None:
        """Write the model archive that the calculator and LAMMPS read."""
        from ..export import export_model

        export_model(self.module, path, training=summary or {})

    def _batch_size(self, split: str) -> int:
        options = self.config.training
        return options.batch_size if split == "train" else options.valid_batch_size

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
            batch.labels.multipoles,
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

    def _statistics(self, data: DataSets) -> ModelStatistics:
        options = self.config.model
        energies = atomic_energies(data.train, self.elements, self.config.statistics)
        neighbours = options.avg_num_neighbors or average_neighbours(self.samples["train"])
        offset = options.fermi_level_offset
        offset = mean_fermi_level(data.train) if offset is None else offset
        norms = [1.0] * (2 * len(options.field_feature_widths))
        if isinstance(options.field_feature_norms, list):
            norms = options.field_feature_norms
        constants = ModelStatistics(
            atomic_energies=energies,
            avg_num_neighbors=neighbours,
            field_feature_norms=norms,
            fermi_level_offset=offset,
            minimum_distances=minimum_distances(self.samples["train"], len(self.elements)),
            density_scaling=density_scaling(options.atom_density_scaling, self.batches("train"), self.elements),
        )
        if options.field_feature_norms == "average":
            model = build_model(options, self.elements, constants, self.dtype).to(self.device)
            constants.field_feature_norms = field_feature_norms(model.field_features, self.batches("train"), offset)
        return constants

    def _check_labels(self) -> None:
        """Labels without which a stage cannot run must be on every training and validation frame."""
        for number, stage in enumerate(self.config.train_schedule):
            options = stage.fixed_point_training_options
            multipoles = options.mode == "direct" or (options.scf and options.scf.initial_density == "from_data")
            level = options.scf is not None and not options.scf.constant_charge
            for split in ("train", "valid"):
                labels = [sample.labels for sample in self.samples[split]]
                without = sum(not bool((item.multipoles_weight > 0).all()) for item in labels) if multipoles else 0
                if without:
                    raise InputError(
                        f"train_schedule.{number} ('{stage.name}'): {without} {split} frames have no atomic "
                        "multipoles, which mode direct and initial_density from_data need on every frame"
                    )
                without = sum(not bool(item.fermi_level.isfinite().all()) for item in labels) if level else 0
                if without:
                    raise InputError(
                        f"train_schedule.{number} ('{stage.name}'): {without} {split} frames have no Fermi "
                        "level, which constant_charge: false needs on every frame"
                    )
