"""ASE calculator of exported models: from an archive and atoms to results under ASE's names."""

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ..density.trace import trace_loop
from ..export import load_model, module_from_bytes, module_to_bytes, run_model
from ..options import SCFOptions
from ..options.kspace import KSpace
from ..periodicity import has_volume, letters, open_axes
from .failures import NO_FERMI_LEVEL, NoFermiLevel, SCFNotConverged, failure, say_far
from .inputs import State, input_reader
from .published_arguments import take_published
from .results import Results, results_of
from .settings import Settings, setting

#: step of the field in responses from the energy, V/Å
FIELD_STEP = 1e-3


class FixedPointCalculator(Calculator):
    """Energies, forces, stress, charges, dipoles and responses of a model from `fixedpoint export`.

    Results besides ASE's own: ``fermi_level`` (eV; NaN where nothing conducts), ``conducts`` (whether there is a Fermi
    level), ``convergence_history`` (mean residual |G(p) - p| of every application), ``density_change_history`` (mean
    change |p_t - p_(t-1)| of the density from each application to the next, as the published calculator has it; not
    with archives of earlier versions), ``num_scf_steps``, ``residual``, ``adjoint_residual``,
    ``density_coefficients`` ``(N, 4)`` [q, d_y, d_z, d_x],
    ``atomic_dipoles`` ``(N, 3)`` Cartesian, ``electrostatic_energy``, ``electron_energy``, ``field_features``
    ``(N, m, 4)``, ``electrostatic_potentials`` ``(N,)`` V, ``total_charge``, ``legendre_defect`` (mu + dE/dQ, or
    dΩ/dmu - Q; zero for a variational model), ``dipole_defect`` (dE/dF - D), ``polarizability`` and ``born_charges``
    (`responses`), and at constant Fermi level ``grand_potential``, which is the energy reported. With
    ``full_scf_history``: ``full_scf_history``, a `density.trace.LoopTrace` of every density on the way.

    Args:
        model: archive of `fixedpoint export`.
        total_charge: in e; else ``atoms.info['total_charge']``, else 0 with a warning.
        fermi_level: in eV; fixes the Fermi level instead of the charge. Also ``atoms.info['fermi_level']``.
        electric_field: physical field E in V/Å along open axes. Also ``atoms.info['electric_field']``, or its negative
            ``atoms.info['external_field']``, the gradient of the potential.
        scf_options: fields of `SCFOptions` that differ from those of the archive. ``initial_density: from_data`` starts
            at ``atoms.arrays[density_key]``, ``restart`` at the last converged density of this calculator (both make
            results depend on the start where a model has several solutions);
            ``initial_fermi_level: from_data`` at ``atoms.info['initial_fermi_level']``.
        device: cpu or cuda.
        ignore_nonconverged: warn instead of raising `SCFNotConverged`.
        density_key: array ``(N, 4)`` of reference multipoles; None: that of the training.
        full_scf_history: keep density, charge, Fermi level and energy of every application; runs the loop three times.
        kspace: how potentials are summed, auto, reciprocal, mesh or open; None: as the archive says.
        kspace_accuracy: relative rms force error of the mesh; None: as the archive says.
        remove_net_force: subtract the mean force that the mesh leaves; forces are then no exact gradient.
        field_origin: point where the potential of the electric field is zero, Å, which moves with the cell under
            strain; None: the centre of the cell along open axes that have a vector, else 0. It matters for charged
            structures (energy) and for the Fermi level.
        outside: what happens far outside the training (charge, Fermi level, field, distances, charges of the atoms;
            `training_ranges`): warn, once for each of these, error (`OutsideTraining`), or ignore.
        kwargs: arguments of ASE's calculators, and those of the published one (`published_arguments`).

    Raises:
        FileNotFoundError, ValueError: as `export.load_model`, and for arguments that do not exist or contradict others.

    With a model of random weights:

    >>> import tempfile
    >>> import torch
    >>> from ase.build import molecule
    >>> from fp_potential.calculator import FixedPointCalculator
    >>> from fp_potential.export import export_model
    >>> from fp_potential.model import FixedPointPotential
    >>> from fp_potential.options import ModelOptions, ModelStatistics
    >>> options = ModelOptions(num_channels=2, num_interactions=1, radial_MLP=[4], field_feature_widths=[1.5])
    >>> statistics = ModelStatistics(
    ...     atomic_energies={1: -13.6, 8: -430.0}, avg_num_neighbors=2.0, field_feature_norms=[10.0, 0.5]
    ... )
    >>> _ = torch.manual_seed(0)
    >>> water = molecule("H2O")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_model(FixedPointPotential(options, [1, 8], statistics).double(), f"{folder}/model.pt")
    ...     water.calc = FixedPointCalculator(f"{folder}/model.pt", total_charge=1.0)
    >>> water.get_forces().shape, water.get_dipole_moment().shape
    ((3, 3), (3,))
    >>> round(float(water.get_charges().sum()), 6)
    1.0
    """

    implemented_properties = [  # noqa: RUF012  declared so by ASE
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "charges",
        "dipole",
        "fermi_level",
        "convergence_history",
        "density_change_history",
        "num_scf_steps",
        "field_features",
        "electrostatic_potentials",
        "polarizability",
        "born_charges",
    ]

    def __init__(
        self,
        model: str | Path | None = None,
        total_charge: float | None = None,
        fermi_level: float | None = None,
        electric_field: Sequence[float] | None = None,
        scf_options: dict[str, Any] | None = None,
        device: str = "cpu",
        ignore_nonconverged: bool = False,
        density_key: str | None = None,
        full_scf_history: bool = False,
        kspace: str | None = None,
        kspace_accuracy: float | None = None,
        remove_net_force: bool = False,
        field_origin: Sequence[float] | None = None,
        outside: Literal["warn", "error", "ignore"] = "warn",
        **kwargs: Any,
    ) -> None:
        said = take_published(kwargs, list(inspect.signature(FixedPointCalculator).parameters)[:-1])
        super().__init__(**kwargs)
        model = said.own.get("model") if model is None else model
        if model is None:
            raise ValueError("expected `model`, an archive of `fixedpoint export`")
        scf_options = said.with_options(scf_options or {})
        self.module, self.metadata = load_model(model, device)
        self.device = torch.device(device)
        self.dtype = getattr(torch, self.metadata["dtype"])
        if said.default_dtype not in (None, self.metadata["dtype"]):
            raise ValueError(
                f"`default_dtype` is {said.default_dtype}, but the archive has {self.metadata['dtype']}; export it "
                f"with `fixedpoint export --dtype {said.default_dtype}`"
            )
        self._kspace_of_archive = KSpace.of(self.module)
        self._set_jellium(said.jellium_bounds)
        self.settings = Settings(SCFOptions(**self.metadata["scf"]))
        self.inputs = input_reader(
            self.metadata, self.device, self.settings.scf, said, said.own.get("density_key", density_key)
        )
        self._last: tuple[np.ndarray, torch.Tensor] | None = None
        given = {"total_charge": total_charge, "fermi_level": fermi_level, "electric_field": electric_field}
        self.set(
            **{name: value for name, value in given.items() if value is not None},
            scf_options=scf_options,
            ignore_nonconverged=ignore_nonconverged,
            full_scf_history=bool(said.own.get("full_scf_history", full_scf_history)),
            kspace=kspace,
            kspace_accuracy=kspace_accuracy,
            remove_net_force=remove_net_force,
            field_origin=field_origin,
            outside=outside,
        )

    total_charge = setting("total_charge", "Total charge that is held, e; None: that of the atoms.")
    fermi_level = setting("fermi_level", "Fermi level that is held, eV; None: none, or that of the atoms.")
    electric_field = setting("electric_field", "Physical field E ``(3,)``, V/Å; None: that of the atoms.")
    scf = setting("scf", "`SCFOptions` of the loop.")
    ignore_nonconverged = setting("ignore_nonconverged", "Whether to warn instead of raising `SCFNotConverged`.")
    full_scf_history = setting("full_scf_history", "Whether to keep every density on the way.")

    def set(self, **changes: Any) -> dict[str, Any]:
        """Change settings: arguments of the constructor. Results of the old ones are forgotten.

        Returns those that are new.

        Raises:
            ValueError: an argument that does not exist or cannot be changed (`model`, `device`), and values that are
                none or contradict others.
        """
        if not changes:
            return {}
        old, new = self.settings, self.settings.changed(changes)
        if self.inputs.jellium_bounds is not None:
            new.check_jellium()
        if (new.kspace, new.kspace_accuracy, new.remove_net_force) != (
            old.kspace,
            old.kspace_accuracy,
            old.remove_net_force,
        ):
            KSpace(new.kspace, new.kspace_accuracy, new.remove_net_force).apply(self.module, self._kspace_of_archive)
        self.inputs = replace(self.inputs, scf=new.scf, holds_charge=new.holds_charge, field_origin=new.field_origin)
        self.settings, self.results = new, {}
        affine = bool(self.module.model.solver.density_map.affine)
        for sentence in new.scf.idle(changes.get("scf_options") or (), affine) + new.kspace_idle(
            self._kspace_of_archive
        ):
            self.inputs.say(sentence, stacklevel=3)
        return {name: value for name, value in changes.items() if getattr(old, name, None) != getattr(new, name, value)}

    def _set_jellium(self, bounds: tuple[float, float] | None) -> None:
        """A compensating slab between two heights, about whose middle the graph will be (`InputReader.origin`)."""
        if bounds is None:
            return
        if not hasattr(self.module, "set_jellium"):
            raise ValueError(
                "`compensating_jellium`: this archive has none; export it again from its run folder with "
                "`fixedpoint export`"
            )
        half = 0.5 * (bounds[1] - bounds[0])
        self.module.set_jellium([-half, half])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "module": module_to_bytes(self.module)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"module": module_from_bytes(state["module"], str(state["device"]))}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """ASE's changes, and changes of the inputs in ``atoms.info`` and ``atoms.arrays``."""
        changes = list(super().check_state(atoms, tol))
        if self.atoms is not None and self.inputs.entries(self.atoms) != self.inputs.entries(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Run the model on ``atoms`` and fill ``results``.

        Raises:
            SCFNotConverged: the loop or its adjoint failed.
            NoFermiLevel: a Fermi level is to be held and nothing conducts.
        OutsideTraining: with ``outside="error"``.
            PropertyNotImplementedError: a stress without a volume, or responses without an open axis.
            ValueError: inputs that are missing, contradict each other or do not fit the model.
        """
        self.results = {}  # whatever happens from here on, they are not those of other atoms
        super().calculate(atoms, properties, system_changes)
        wanted = set(properties or ())
        state, start = self._state(), self.inputs.start(self.atoms, self._last)
        constant_charge = state.fermi_level is None
        out = self._run(state, start)
        self._check(out)
        say_far(self.inputs.far_solution(self.atoms, state, out), self.settings.outside, self.inputs.said)
        if int(out["status"][0]) == 0:
            self._last = (self.atoms.numbers.copy(), out["density"])
        results = results_of(out, constant_charge, self.inputs.origin(self.atoms))
        if self.full_scf_history:
            options = self.scf.changed({"constant_charge": constant_charge})
            graph = self.inputs.graph(self.atoms, state)
            results["full_scf_history"] = trace_loop(self.module.model, graph, options, *start, with_spectrum=False)
        if self.atoms.pbc.any() and has_volume(self.atoms.cell.array):
            stress = out["strain_gradient"][0].cpu().numpy().astype(float) / self.atoms.get_volume()
            results["stress"] = full_3x3_to_voigt_6_stress(stress)
        elif "stress" in wanted:
            raise PropertyNotImplementedError(
                "no stress without a periodic axis and a volume to divide by: pbc = "
                f"{letters(self.atoms.pbc)}, cell = {self.atoms.cell.array.tolist()}"
            )
        if wanted & {"polarizability", "born_charges"}:
            results |= self.responses()
        self.results = Results(results)

    def responses(
        self, atoms: Atoms | None = None, definition: Literal["density", "energy"] = "density"
    ) -> dict[str, np.ndarray]:
        """``polarizability`` ``(3, 3)`` in e Å²/V and ``born_charges`` ``(N, 3, 3)`` [atom, position, dipole] in e.

        ``density``: derivatives of the density's dipole, dD/dE and dD/dr. ``energy``: second derivatives of the energy,
        -d²E/dE² and dF/dE, by central differences in the field. They agree for a variational model only.
        Dipoles are about the origin of the field; along periodic axes, where they are not defined, components are NaN.

        Raises:
            PropertyNotImplementedError: no Cartesian axis is open: a dipole is defined along none.
        """
        if definition not in ("density", "energy"):
            raise ValueError(f"`definition` is 'density' or 'energy', got {definition!r}")
        if atoms is not None and self.check_state(atoms):
            self.atoms, self.results = atoms.copy(), {}
        if self.atoms is None:
            raise ValueError("`responses` needs `atoms`: there was no calculation yet")
        axes = open_axes(self.atoms.cell.array, self.atoms.pbc)
        if not axes.any():
            raise PropertyNotImplementedError(
                "the dipole of a periodic structure is not defined along its periodic vectors, and none of x, y, z is "
                f"perpendicular to all of them: pbc = {letters(self.atoms.pbc)}, cell = "
                f"{self.atoms.cell.array.tolist()}"
            )
        find = self._responses_of_density if definition == "density" else self._responses_of_energy
        polarizability, born_charges = find(axes)
        defined = np.where(axes, 1.0, np.nan)
        return {"polarizability": polarizability * np.outer(defined, defined), "born_charges": born_charges * defined}

    def _responses_of_density(self, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = self._run(self._state(), self.inputs.start(self.atoms, self._last), responses=True)
        self._check(out)
        by_field = out["dipole_by_field"][0].cpu().numpy().astype(float)
        return -by_field, out["dipole_by_positions"].cpu().numpy().astype(float)

    def _responses_of_energy(self, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state, start = self._state(), self.inputs.start(self.atoms, self._last)
        polarizability, born_charges = np.zeros((3, 3)), np.zeros((len(self.atoms), 3, 3))
        for axis in np.flatnonzero(axes):
            step = FIELD_STEP * np.eye(3)[axis]
            fields = (np.add(state.external_field, sign * step).tolist() for sign in (1, -1))
            plus, minus = (self._run(state._replace(external_field=tuple(field)), start) for field in fields)
            self._check(plus)
            self._check(minus)
            change = {key: (plus[key] - minus[key]).cpu().numpy() for key in ("energy_by_field", "forces")}
            polarizability[axis] = -change["energy_by_field"][0] / (2 * FIELD_STEP)
            born_charges[:, :, axis] = -change["forces"] / (2 * FIELD_STEP)
        return polarizability, born_charges

    def _state(self) -> State:
        return self.inputs.state(self.atoms, self.settings.given())

    def _run(
        self, state: State, start: tuple[torch.Tensor, torch.Tensor], responses: bool = False
    ) -> dict[str, torch.Tensor]:
        """What the archive's ``forward``, or its ``responses``, gives."""
        graph, s = self.inputs.graph(self.atoms, state), self.scf
        say_far(self.inputs.far_structure(self.atoms, state, graph), self.settings.outside, self.inputs.said)
        self.inputs.check_memory(self.module.model.electrostatics, graph)
        loop = (s.num_scf_steps, s.scf_tolerance, s.mixing_parameter, s.solver, state.fermi_level is None)
        if responses:
            return run_model(self.module.responses, *graph, *loop, *start)
        return run_model(self.module, *graph, *loop, s.use_autograd_forces, *start)

    def _check(self, out: dict[str, torch.Tensor]) -> None:
        """Raise `SCFNotConverged`, or warn, if the loop or its adjoint failed; `NoFermiLevel` in any case."""
        if int(out["status"][0]) == NO_FERMI_LEVEL:
            raise NoFermiLevel(
                f"no atom of {self.atoms.get_chemical_formula()} conducts in this model, so there is no Fermi level to "
                "hold: give `total_charge` instead of `fermi_level`"
            )
        message = failure(out, self.scf, self.atoms, self.inputs.cutoff)
        if not message:
            return
        if not self.ignore_nonconverged:
            raise SCFNotConverged(message)
        warnings.warn(message, stacklevel=3)
