"""A model beside the known one, point by point and self-consistently."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..density.jacobian import jacobian_spectrum
from ..density.problem import own_start
from ..density.self_consistent import SelfConsistentModel
from ..options import SCFOptions
from ..scf.settings import settings_of
from ..train.potential.metrics import StructureErrors
from ..train.potential.modes.predict import predict
from ..train.potential.samples import Sample, batch_samples
from ..train.potential.solution import solve

#: the loop whose solution is compared
SCF = SCFOptions(num_scf_steps=200, scf_tolerance=1e-9)


@dataclass(frozen=True)
class Errors:
    """Root mean squares over all structures compared; charges also at their worst."""

    charge: float  #: e
    largest_charge: float  #: e
    atomic_dipole: float  #: e Å
    energy: float  #: eV per atom
    forces: float  #: eV/Å


@dataclass(frozen=True)
class Comparison:
    """A model beside the known one, point by point and self-consistently."""

    pointwise: Errors
    self_consistent: Errors
    fermi_level: float  #: standard deviation of the error of the self-consistent level, eV; NaN where there is none
    applications: float  #: of the map, mean
    most_applications: int
    converged: float  #: fraction of the structures
    smallest_eigenvalue: float  #: real part, of the Jacobian of the map, over all structures
    largest_eigenvalue: float


def compare(model: SelfConsistentModel, samples: Sequence[Sample]) -> Comparison:
    """A model beside the labels of ``samples``: G at the reference density, and its own solution."""
    batch = batch_samples(samples, range(len(samples)))
    point = predict(
        model,  # type: ignore[arg-type]
        batch.graph,
        "direct",
        None,
        batch.labels.multipoles,
        None,
        forces=True,
        stress=False,
        training=False,
    )
    solution = solve(model, batch.graph, SCF)  # type: ignore[arg-type]
    lowest, highest = zip(*(eigenvalue_range(model, sample) for sample in samples), strict=True)
    steps, status = solution["scf_steps"], solution["status"]
    level = (solution["fermi_level"] - batch.labels.fermi_level).std(unbiased=False)
    if not bool(solution["conducts"].all()):
        level = torch.full_like(level, float("nan"))
    return Comparison(
        _errors(point, samples),
        _errors(solution, samples),
        float(level),
        float(steps.double().mean()),
        int(steps.max()),
        float((status == 0).double().mean()),
        float(np.min(lowest)),
        float(np.max(highest)),
    )


def eigenvalue_range(model: SelfConsistentModel, sample: Sample) -> tuple[float, float]:
    """Smallest and largest real part of the eigenvalues of the map's Jacobian at constant charge; NaN without one."""
    problem = model.solve(sample.graph, settings_of(SCF), own_start(sample.graph.positions), True, False).fixed
    try:
        spectrum = jacobian_spectrum(model.solver.density_map, problem)
    except ValueError:
        return float("nan"), float("nan")
    return spectrum.smallest, spectrum.largest


def _errors(output: dict[str, torch.Tensor], samples: Sequence[Sample]) -> Errors:
    batch = batch_samples(samples, range(len(samples)))
    sums = StructureErrors()
    parts = {name: output[name] for name in ("energy", "forces", "density", "dipole", "fermi_level")}
    sums.add(parts, batch, ["all"] * len(samples))
    pairs = {name: sums.rmse_mae(name) for name in ("charge", "atomic_dipole", "energy", "forces")}
    rms = {name: pair[0] / 1000 for name, pair in pairs.items() if pair}
    largest = (output["density"] - batch.labels.multipoles)[:, 0].abs().max()
    return Errors(largest_charge=float(largest), **rms)
