"""ASE calculator of exported models: from an archive and atoms to results under ASE's names."""

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ..density.trace import trace_loop
from ..export import load_model, run_model
from ..options import SCFOptions
from ..options.kspace import KSpace
from ..periodicity import has_volume, letters, open_axes
from ..units import CARTESIAN_FROM_STORED
from .failures import NO_FERMI_LEVEL, STATUS, NoFermiLevel, SCFNotConverged
from .inputs import Given, State, gradient_of, input_reader
from .published_arguments import take_published

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
        density_key: array ``(N, 4)`` of reference multipoles.
        full_scf_history: keep density, charge, Fermi level and energy of every application; runs the loop three times.
        kspace: how potentials are summed, auto, reciprocal, mesh or open; None: as the archive says.
        kspace_accuracy: relative rms force error of the mesh; None: as the archive says.
        remove_net_force: subtract the mean force that the mesh leaves; forces are then no exact gradient.
        field_origin: point where the potential of the electric field is zero, Å, which moves with the cell under
            strain; None: the centre of the cell along open axes that have a vector, else 0. It matters for charged
            structures (energy) and for the Fermi level.
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
        density_key: str = "REF_atomic_multipoles",
        full_scf_history: bool = False,
        kspace: str | None = None,
        kspace_accuracy: float | None = None,
        remove_net_force: bool = False,
        field_origin: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        said = take_published(kwargs, list(inspect.signature(FixedPointCalculator).parameters)[:-1])
        super().__init__(**kwargs)
        model = said.own.get("model") if model is None else model
        if model is None:
            raise ValueError("expected `model`, an archive of `fixedpoint export`")
        full_scf_history = bool(said.own.get("full_scf_history", full_scf_history))
        scf_options = {**said.scf_options, **(scf_options or {})}
        if total_charge is not None and fermi_level is not None:
            raise ValueError("give `total_charge` or `fermi_level`, not both: one of them follows from the other")
        chosen = KSpace(kspace, kspace_accuracy, remove_net_force)
        self.module, self.metadata = load_model(model, device)
        chosen.apply(self.module)
        self.device = torch.device(device)
        self.dtype = getattr(torch, self.metadata["dtype"])
        if said.default_dtype not in (None, self.metadata["dtype"]):
            raise ValueError(
                f"`default_dtype` is {said.default_dtype}, but the archive has {self.metadata['dtype']}; export it "
                f"with `fixedpoint export --dtype {said.default_dtype}`"
            )
        self.scf = SCFOptions(**{**self.metadata["scf"], **scf_options})
        self._set_jellium(said.jellium_bounds, remove_net_force, field_origin)
        if self.scf.history != self.metadata["scf"]["history"]:
            raise ValueError(
                f"`scf_options.history` is {self.metadata['scf']['history']} in this archive and cannot be changed "
                "here; export the model with another one"
            )
        self.total_charge, self.fermi_level, self.electric_field = total_charge, fermi_level, electric_field
        self.ignore_nonconverged = ignore_nonconverged
        self.full_scf_history = full_scf_history
        self.inputs = input_reader(
            self.metadata, self.device, self.scf, said, said.own.get("density_key", density_key), field_origin
        )
        self._last: tuple[np.ndarray, torch.Tensor] | None = None

    def _set_jellium(
        self, bounds: tuple[float, float] | None, remove_net_force: bool, field_origin: Sequence[float] | None
    ) -> None:
        """A compensating slab between two heights, about whose middle the graph will be (`InputReader.origin`)."""
        if bounds is None:
            return
        if remove_net_force:
            raise ValueError("`remove_net_force`: the slab of a compensating jellium holds the atoms; leave it out")
        if field_origin is not None:
            raise ValueError("`field_origin`: with a compensating jellium it is the middle of the slab; leave it out")
        if not hasattr(self.module, "set_jellium"):
            raise ValueError(
                "`compensating_jellium`: this archive has none; export it again from its run folder with "
                "`fixedpoint export`"
            )
        half = 0.5 * (bounds[1] - bounds[0])
        self.module.set_jellium([-half, half])

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """ASE's changes, and changes of the inputs in ``atoms.info``."""
        changes = list(super().check_state(atoms, tol))
        if self.atoms is not None and repr(self.inputs.of_info(self.atoms.info)) != repr(
            self.inputs.of_info(atoms.info)
        ):
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
            PropertyNotImplementedError: a stress without a volume, or responses without an open axis.
            ValueError: inputs that are missing, contradict each other or do not fit the model.
        """
        super().calculate(atoms, properties, system_changes)
        wanted = set(properties or ())
        state, start = self._state(), self.inputs.start(self.atoms, self._last)
        constant_charge = state.fermi_level is None
        out = self._run(state, start)
        self._check(out)
        self._last = (self.atoms.numbers.copy(), out["density"])
        self.results = self._collect(out, constant_charge)
        if self.full_scf_history:
            options = self.scf.model_copy(update={"constant_charge": constant_charge})
            graph = self.inputs.graph(self.atoms, state)
            self.results["full_scf_history"] = trace_loop(
                self.module.model, graph, options, *start, with_spectrum=False
            )
        if self.atoms.pbc.any() and has_volume(self.atoms.cell.array):
            stress = out["strain_gradient"][0].cpu().numpy().astype(float) / self.atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        elif "stress" in wanted:
            raise PropertyNotImplementedError(
                "no stress without a periodic axis and a volume to divide by: pbc = "
                f"{letters(self.atoms.pbc)}, cell = {self.atoms.cell.array.tolist()}"
            )
        if wanted & {"polarizability", "born_charges"}:
            self.results |= self.responses()

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
        if atoms is not None:
            self.atoms = atoms.copy()
        axes = open_axes(self.atoms.cell.array, self.atoms.pbc)
        if not axes.any():
            raise PropertyNotImplementedError(
                "the dipole of a periodic structure is not defined along its periodic vectors, and none of x, y, z is "
                f"perpendicular to all of them: pbc = {letters(self.atoms.pbc)}, cell = "
                f"{self.atoms.cell.array.tolist()}"
            )
        if definition not in ("density", "energy"):
            raise ValueError(f"`definition` is 'density' or 'energy', got {definition!r}")
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
        given = Given(self.total_charge, self.fermi_level, gradient_of(self.electric_field))
        return self.inputs.state(self.atoms, given)

    def _run(
        self, state: State, start: tuple[torch.Tensor, torch.Tensor], responses: bool = False
    ) -> dict[str, torch.Tensor]:
        """What the archive's ``forward``, or its ``responses``, gives."""
        graph, s = self.inputs.graph(self.atoms, state), self.scf
        loop = (s.num_scf_steps, s.scf_tolerance, s.mixing_parameter, s.solver, state.fermi_level is None)
        if responses:
            return run_model(self.module.responses, *graph, *loop, *start)
        return run_model(self.module, *graph, *loop, s.use_autograd_forces, *start)

    def _collect(self, out: dict[str, torch.Tensor], constant_charge: bool) -> dict[str, Any]:
        """Outputs of the archive (`export.OUTPUTS`) as results of the calculator."""
        values = {key: value.cpu().numpy() for key, value in out.items()}
        density = values["density"].astype(float)
        conducts = bool(values["conducts"][0]) if "conducts" in values else True  # of archives that do not say
        energy, level = float(values["energy"][0]), float(values["fermi_level"][0])
        if constant_charge and not conducts:
            level = np.nan
        charge, dipole = float(values["total_charge"][0]), values["dipole"][0].astype(float)
        moved = charge * self.inputs.origin(self.atoms)  # the model's dipole is about the origin of the field
        by_target = float(values["energy_by_target"][0])
        results = {
            "energy": energy,
            "free_energy": energy,
            "energies": values["atomic_energies"].astype(float),
            "forces": values["forces"].astype(float),
            "charges": density[:, 0],
            "dipole": dipole + moved,
            "fermi_level": level,
            "conducts": conducts,
            "convergence_history": values["history"][:, 0],
            "num_scf_steps": int(values["scf_steps"][0]),
            "residual": float(values["residual"][0]),
            "adjoint_residual": float(values["adjoint_residual"][0]),
            "density_coefficients": density,
            "atomic_dipoles": density[:, 1:][:, list(CARTESIAN_FROM_STORED)],
            "electrostatic_energy": float(values["energy_coulomb"][0]),
            "electron_energy": float(values["energy_nonlocal"][0]),
            "field_features": values["field_features"].astype(float),
            "electrostatic_potentials": values["potentials"].astype(float),
            "total_charge": charge,
            "legendre_defect": by_target + level if constant_charge else by_target - charge,
            "dipole_defect": values["energy_by_field"][0].astype(float) - dipole,
        }
        if "changes" in values:
            results["density_change_history"] = values["changes"][:, 0]
        if not constant_charge:
            results["grand_potential"] = energy
        return results

    def _check(self, out: dict[str, torch.Tensor]) -> None:
        """Raise `SCFNotConverged`, or warn, if the loop or its adjoint failed; `NoFermiLevel` in any case."""
        status = int(out["status"][0])
        if status == 0:
            return
        if status == NO_FERMI_LEVEL:
            raise NoFermiLevel(
                f"no atom of {self.atoms.get_chemical_formula()} conducts in this model, so there is no Fermi level to "
                "hold: give `total_charge` instead of `fermi_level`"
            )
        residuals = f"adjoint residual {float(out['adjoint_residual'][0]):.2e}"
        if "residual" in out:
            residuals = (
                f"residual {float(out['residual'][0]):.2e}, {residuals} after {int(out['scf_steps'][0])} applications"
            )
        message = f"SCF not converged: {residuals}, scf_tolerance {self.scf.scf_tolerance:.1e}; {STATUS[status]}"
        if not self.ignore_nonconverged:
            raise SCFNotConverged(message)
        warnings.warn(message, stacklevel=3)
