"""The model's own self-consistent solution of a batch, with the properties that labels are compared with."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from ...density.observables import stress_of
from ...density.problem import own_start
from ...electrostatics import Electrostatics
from ...electrostatics.nuclei import potentials_at_nuclei
from ...graph import Graph
from ...model import FixedPointPotential
from ...options import SCFOptions
from ...scf.settings import settings_of

#: further properties of a solution -> the label they are compared with
LABEL_OF_PROPERTY = {
    "esps": "electrostatic_potentials",
    "polarizability": "polarizability",
    "born_charges": "born_charges",
}


def solve(
    model: FixedPointPotential, graph: Graph, scf: SCFOptions, properties: Collection[str] = ()
) -> dict[str, Tensor]:
    """The model's own solution from the local guess: energy, forces, stress and density, without gradients left.

    Keys are those of the model archive, ``stress`` ``(B, 3, 3)`` in eV/Å³ (`stress_of`), and ``properties``, names
    of ``LABEL_OF_PROPERTY``.
    """
    settings, start = settings_of(scf), own_start(graph.positions)
    output = model.evaluate(graph, settings, start, scf.constant_charge, scf.use_autograd_forces, True)

    def responses() -> dict[str, Tensor]:
        return model.responses(graph, settings, start, scf.constant_charge)

    return with_properties(with_stress(output, graph), graph, properties, model.electrostatics, responses)


def with_properties(
    output: dict[str, Tensor],
    graph: Graph,
    properties: Collection[str],
    electrostatics: Electrostatics,
    responses: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """``output`` with ``properties``, names of ``LABEL_OF_PROPERTY``, of its density.

    ``responses`` gives those of the dipole as `SelfConsistentModel.responses` does; they are defined along open axes.
    """
    found = dict(output)
    if "esps" in properties:
        arguments = (electrostatics, graph.positions, graph.cell, graph.pbc, graph.batch, output["density"])
        external = (graph.external_field[graph.batch] * graph.positions).sum(1)
        found["esps"] = potentials_at_nuclei(*arguments) + external
    if {"polarizability", "born_charges"} & set(properties):
        response = responses()
        found["status"] = torch.where(output["status"] == 0, response["status"], output["status"])
        # the field is F = -E
        found["polarizability"] = -response["dipole_by_field"].detach()
        found["born_charges"] = response["dipole_by_positions"].detach()
    return found


def with_stress(output: dict[str, Tensor], graph: Graph) -> dict[str, Tensor]:
    """``output`` with the stress dE/d(strain)/V, symmetric, from ``strain_gradient`` (`stress_of`)."""
    return output | {"stress": stress_of(output["strain_gradient"], graph)}
