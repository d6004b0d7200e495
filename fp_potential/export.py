"""TorchScript archives of models: the only Python file that calls torch.jit.

An archive holds the scripted model, one JSON file of metadata (`METADATA_FILE`), whose keys the LAMMPS plugin reads,
too, and checksums of all that (`archive`).
"""

import io
import json
import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import __version__
from .archive import FORMAT, FORMAT_VERSION, METADATA_FILE, demand_unaltered, read_contents, seal
from .archive_checks import check_device, check_metadata, check_module
from .communication import load_operators
from .density.self_consistent import SelfConsistentModel
from .files import replaced
from .graph import Graph
from .options import SCFOptions
from .scf.settings import LoopSettings, Start

#: how torch begins the message of a ValueError of compiled code, behind a trace of it
REFUSAL = "builtins.ValueError: "

#: outputs of an exported model; energies are float64, everything else has the model's dtype unless said
OUTPUTS = {
    "energy": "(B,) potential energy E_c, or Omega_c = E_c + mu Q at constant Fermi level, eV, all ranks",
    "forces": "(n_total, 3) -d energy / d positions, this rank's part for owned and ghost atoms, eV/Å",
    "strain_gradient": "(B, 3, 3) d energy / d strain, eV, all ranks; stress = this / volume",
    "atomic_energies": "(n,) energy per owned atom, eV",
    "density": "(n, 4) charges and dipoles [q, d_y, d_z, d_x], e and e Å",
    "potentials": "(n,) potential of the density at the atoms, averaged over their Gaussian, V",
    "field_features": "(n, m, 4) normalised field features",
    "mesh_net_force": "(B, 3) sum of the forces of the Coulomb operator, which a mesh leaves, eV/Å, all ranks",
    "kspace": "(B, 4) int64: how potentials were summed (0 auto, 1 reciprocal, 2 mesh, 3 open), points of the mesh",
    "energy_by_target": "(B,) total derivative of the energy: dE/dQ (V) at constant charge, dOmega/dmu (e) at constant "
    "Fermi level",
    "energy_by_field": "(B, 3) total derivative dE/dF by the gradient of the external potential, e Å",
    "energy_local": "(B,) local energy with E0, eV",
    "energy_nonlocal": "(B,) non-local read-out, eV",
    "energy_coulomb": "(B,) Coulomb energy, eV",
    "energy_field": "(B,) energy in the external field, eV",
    "fermi_level": "(B,) absolute Fermi level, eV; at constant charge mu_0 where nothing conducts",
    "conducts": "(B,) bool: there is a Fermi level; archives of earlier versions do not say",
    "total_charge": "(B,) e",
    "dipole": "(B, 3) Cartesian dipole about the origin, e Å",
    "residual": "(B,) mean SCF residual",
    "adjoint_residual": "(B,) mean adjoint residual relative to the derivative of the energy",
    "scf_steps": "(B,) int64, applications of the map",
    "status": "(B,) int64: 0 converged, 1 step limit, 2 diverged, 3 unstable, 4 charge does not respond, 5 no Fermi "
    "level: nothing conducts",
    "history": "(applications, B) mean residual of each application",
    "changes": "(applications - 1, B) mean |change| of the density from one application to the next; archives of "
    "earlier versions do not say",
}


class ExportedModel(nn.Module):
    """Plain-tensor interface of a `SelfConsistentModel`, as the calculator and the LAMMPS plugin call it."""

    def __init__(self, model: SelfConsistentModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        positions: Tensor,
        species: Tensor,
        edge_index: Tensor,
        edge_shifts: Tensor,
        batch: Tensor,
        cell: Tensor,
        pbc: Tensor,
        total_charge: Tensor,
        fermi_level: Tensor,
        external_field: Tensor,
        distributed: bool,
        num_scf_steps: int,
        scf_tolerance: float,
        mixing_parameter: float,
        solver: str,
        constant_charge: bool,
        use_autograd_forces: bool,
        initial_density: Tensor,
        initial_level: Tensor,
    ) -> dict[str, Tensor]:
        """Arguments are the fields of `graph.Graph` and of `options.SCFOptions`; results are `OUTPUTS`.

        ``initial_density`` ``(n, 4)`` and ``initial_level`` ``(B,)`` with no rows: the local guess, mu_0.
        """
        graph = Graph(
            positions,
            species,
            edge_index,
            edge_shifts,
            batch,
            cell,
            pbc,
            total_charge,
            fermi_level,
            external_field,
            distributed,
        )
        settings = LoopSettings(num_scf_steps, scf_tolerance, mixing_parameter, solver)
        start = Start(initial_density, initial_level)
        return self.model.evaluate(graph, settings, start, constant_charge, use_autograd_forces, True)

    @torch.jit.export
    def set_kspace(self, method: str, accuracy: float, remove_net_force: bool) -> None:
        """How the long range is computed from now on: `Electrostatics.set_kspace`."""
        self.model.electrostatics.set_kspace(method, accuracy, remove_net_force)

    @torch.jit.export
    def set_jellium(self, bounds: list[float]) -> None:
        """A compensating slab from now on: `Electrostatics.set_jellium`."""
        self.model.electrostatics.set_jellium(bounds)

    @torch.jit.export
    def responses(
        self,
        positions: Tensor,
        species: Tensor,
        edge_index: Tensor,
        edge_shifts: Tensor,
        batch: Tensor,
        cell: Tensor,
        pbc: Tensor,
        total_charge: Tensor,
        fermi_level: Tensor,
        external_field: Tensor,
        distributed: bool,
        num_scf_steps: int,
        scf_tolerance: float,
        mixing_parameter: float,
        solver: str,
        constant_charge: bool,
        initial_density: Tensor,
        initial_level: Tensor,
    ) -> dict[str, Tensor]:
        """`SelfConsistentModel.responses` for the arguments of `forward`."""
        graph = Graph(
            positions,
            species,
            edge_index,
            edge_shifts,
            batch,
            cell,
            pbc,
            total_charge,
            fermi_level,
            external_field,
            distributed,
        )
        settings = LoopSettings(num_scf_steps, scf_tolerance, mixing_parameter, solver)
        return self.model.responses(graph, settings, Start(initial_density, initial_level), constant_charge)


def metadata_of(model: SelfConsistentModel, scf: SCFOptions, training: Mapping[str, Any] | None = None) -> dict:
    """The metadata of a model as written to its archive: how its loop runs, what it knows, what made it.

    The LAMMPS plugin reads the same keys.
    """
    from ase.data import chemical_symbols

    dtype = next(model.parameters()).dtype
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "elements": [chemical_symbols[z] for z in model.elements],
        "cutoff": model.cutoff,
        "num_interactions": model.num_interactions,
        "comm_width": model.comm_width,
        "units": {"energy": "eV", "length": "Angstrom", "charge": "e"},
        "dtype": str(dtype).removeprefix("torch."),
        "scf": scf.model_dump(exclude={"initial_density", "initial_fermi_level", "use_autograd_forces"}),
        "fermi_level_offset": model.fermi_level_offset,
        "training": dict(training or {}),
        "software": {"fp_potential": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def export_model(
    model: SelfConsistentModel,
    path: str | Path,
    scf: SCFOptions | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Script ``model`` in its present dtype and write it with its metadata to ``path``, atomically.

    Args:
        scf: settings the archive runs with where nothing else is said; ``history`` cannot be changed afterwards.
        training: what the metadata say of where the weights come from.

    Raises:
        ValueError: a number of the metadata is not finite.

    A model with random weights:

    >>> import tempfile
    >>> import torch
    >>> from fp_potential.export import export_model, read_metadata
    >>> from fp_potential.model import FixedPointPotential
    >>> from fp_potential.options import ModelOptions, ModelStatistics
    >>> options = ModelOptions(num_channels=2, num_interactions=1, radial_MLP=[4], field_feature_widths=[1.5])
    >>> statistics = ModelStatistics(
    ...     atomic_energies={1: -13.6, 8: -430.0}, avg_num_neighbors=2.0, field_feature_norms=[10.0, 0.5]
    ... )
    >>> _ = torch.manual_seed(0)
    >>> model = FixedPointPotential(options, [1, 8], statistics).double()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_model(model, f"{folder}/model.pt")
    ...     metadata = read_metadata(f"{folder}/model.pt")
    >>> metadata["elements"], metadata["cutoff"], metadata["dtype"]
    (['H', 'O'], 4.5, 'float64')
    """
    path = Path(path)
    scf = scf or SCFOptions()
    model.solver.loop.mixer.history = scf.history
    frozen = ExportedModel(model).eval()
    required = [p.requires_grad for p in frozen.parameters()]
    frozen.requires_grad_(False)
    try:
        scripted = torch.jit.script(frozen)
    finally:
        for p, flag in zip(frozen.parameters(), required, strict=True):
            p.requires_grad_(flag)
    try:
        extra = {METADATA_FILE: json.dumps(metadata_of(model, scf, training), indent=1, allow_nan=False)}
    except ValueError as error:
        raise ValueError(
            f"{path}: a constant of the model, of the SCF or of the summary of its training is not finite ({error}); "
            "no program could read such metadata"
        ) from error
    with replaced(path) as temporary:
        raw = temporary.with_suffix(".raw")
        try:
            torch.jit.save(scripted, str(raw), _extra_files=extra)
            seal(raw, temporary)
        finally:
            raw.unlink(missing_ok=True)


def run_model(module: torch.jit.ScriptModule, *arguments: Any) -> dict[str, Tensor]:
    """`OUTPUTS` of an exported model, or what one of its methods gives, for arguments as `ExportedModel` takes them.

    Raises:
        ValueError: what the model refuses, in its own words.
    """
    try:
        with torch.jit.optimized_execution(False):  # the first three calls of the other one take seconds
            return module(*arguments)
    except torch.jit.Error as error:
        text = str(error)
        if REFUSAL not in text:
            raise
        raise ValueError(text.rsplit(REFUSAL, 1)[1].strip()) from error


def read_metadata(path: str | Path) -> dict:
    """Metadata of an archive, as `metadata_of` wrote them; its module is not loaded.

    Raises:
        FileNotFoundError, ValueError: as `archive.read_contents`, and an archive that is not as it was exported.
    """
    contents = read_contents(path)
    demand_unaltered(path, contents)
    return contents.metadata


def load_model(path: str | Path, device: str = "cpu") -> tuple[torch.jit.ScriptModule, dict]:
    """The scripted model of an archive, on ``device``, and its metadata.

    `run_model` calls it, with the arguments of `ExportedModel.forward`; `calculator.FixedPointCalculator` does both.

    Loading runs code of the archive: load those only that you would run as a program (`archive.read_contents` and
    `fixedpoint info` do not run it). Archives of earlier versions have no checksums, which is said.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a model of this package, one written by a newer or an older version, one that is not as it was
            exported, one whose metadata are not those of its module, or a device that is not there.

    With a model of random weights:

    >>> import tempfile
    >>> import torch
    >>> from ase.build import molecule
    >>> from fp_potential.export import export_model, load_model, run_model
    >>> from fp_potential.graph import graph_from_atoms
    >>> from fp_potential.model import FixedPointPotential
    >>> from fp_potential.options import ModelOptions, ModelStatistics
    >>> options = ModelOptions(num_channels=2, num_interactions=1, radial_MLP=[4], field_feature_widths=[1.5])
    >>> statistics = ModelStatistics(
    ...     atomic_energies={1: -13.6, 8: -430.0}, avg_num_neighbors=2.0, field_feature_norms=[10.0, 0.5]
    ... )
    >>> _ = torch.manual_seed(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_model(FixedPointPotential(options, [1, 8], statistics).double(), f"{folder}/model.pt")
    ...     module, metadata = load_model(f"{folder}/model.pt")
    >>> graph = graph_from_atoms(molecule("H2O"), [1, 8], metadata["cutoff"], torch.float64, total_charge=1.0)
    >>> loop = (100, 1e-8, 0.3, "anderson", True, True)  # steps, tolerance, mixing, solver, constant charge, adjoint
    >>> nothing = torch.zeros(0, 4, dtype=torch.float64)  # starts from the model's own guess
    >>> out = run_model(module, *graph, *loop, nothing, nothing[:, 0])
    >>> out["status"].tolist(), out["forces"].shape
    ([0], torch.Size([3, 3]))
    >>> round(float(out["density"][:, 0].sum()), 6)
    1.0
    """
    check_device(device)
    contents = read_contents(path)
    demand_unaltered(path, contents)
    metadata = contents.metadata
    check_metadata(path, metadata)
    if not contents.checked:
        warnings.warn(
            f"{path} carries no checksums, as it was exported by an earlier version: changes of it would go unnoticed; "
            "export it again to have them",
            stacklevel=2,
        )
    load_operators()
    try:
        module = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError, torch.jit.Error) as error:
        raise ValueError(
            f"{path} is not a TorchScript model that this torch can load: {str(error).splitlines()[0]}"
        ) from error
    check_module(path, module, metadata, ExportedModel.forward)
    return module, metadata


def module_to_bytes(module: torch.jit.ScriptModule) -> bytes:
    """A loaded module with its present state, to be sent to another process."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def module_from_bytes(content: bytes, device: str) -> torch.jit.ScriptModule:
    """The module of `module_to_bytes`.

    Raises:
        ValueError: a device that is not there.
    """
    check_device(device)
    load_operators()
    return torch.jit.load(io.BytesIO(content), map_location=device)
