"""What split charges are for: insulators that insulate, metals that screen, and both together."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule

from figures import at_most
from fp_potential.density.jacobian import jacobian_spectrum
from fp_potential.density.problem import own_start
from fp_potential.reference import ReferenceOptions, SplitCharges, exact_response, jacobian
from fp_potential.reference.exact import coulomb_matrix
from fp_potential.scf.settings import LoopSettings
from fp_potential.scf.status import NO_FERMI_LEVEL
from reference.systems import make, solved
from structures import evaluate, salt_water_box, to_graph

FIELD = 0.1  # V/Å


def chain(n: int, distance: float = 3.2) -> Atoms:
    """Waters in a line along x."""
    atoms = Atoms()
    for k in range(n):
        atoms += molecule("H2O")
        atoms.positions[-3:, 0] += distance * k
    return atoms


def copper(layers: int, hardness: float | None = None, **options) -> tuple[SplitCharges, Atoms]:
    """A model of copper and water, and a slab's piece in open boundaries."""
    chosen = ReferenceOptions.built_in("H", "O", "Cu", metallic=["Cu"], **options)
    if hardness is not None:
        chosen.elements["Cu"] = chosen.elements["Cu"].model_copy(update={"hardness": hardness})
    slab = fcc111("Cu", (6, 6, layers), orthogonal=True)
    slab.pbc, slab.cell = False, None
    return SplitCharges(chosen), slab


def test_one_water_by_hand() -> None:
    """One charge per bond: p = -(χ_H - χ_O) / (1/κ + 3 J_0 - 4 J_OH + J_HH), of the symmetric one of two equations."""
    model = make("split charges", "H", "O", polarizable=False, repulsion_energy=0.0)
    atoms = molecule("H2O")
    out = solved(model, to_graph(atoms, model))
    h, o = model.options.elements.values()
    d, between = atoms.get_distance(0, 1), atoms.get_distance(1, 2)
    reach, length = 1.6 * 0.97, 0.97
    kappa = 0.1 * ((1 - (d / reach) ** 2) / (1 - (length / reach) ** 2)) ** 6
    graph = to_graph(atoms, model)
    k = coulomb_matrix(graph.positions, None, 1.5, 1.0, True)[::4, ::4]
    stiffness = 1 / kappa + k[1, 1] - 2 * k[0, 1] + k[0, 0] + (k[1, 2] - k[0, 1] - k[0, 2] + k[0, 0])
    p = -(h.electronegativity - o.electronegativity) / stiffness.item()
    assert between > d
    assert out["density"][:, 0].tolist() == pytest.approx([-2 * p, p, p], abs=1e-12)
    assert out["energy"].item() == pytest.approx(p * (h.electronegativity - o.electronegativity), abs=1e-12)
    assert out["conducts"].tolist() == [False] and 0.3 < p < 0.5


def test_fragments_keep_their_charge_and_there_is_no_level() -> None:
    """Two waters 40 Å apart, neutral and charged, in a field of 0.1 V/Å."""
    model = make("split charges", "H", "O")
    for charge in (0.0, 1.0):
        plain, shifted = (
            solved(model, to_graph(chain(2, 40.0), model, total_charge=charge, external_field=field))
            for field in ([0.0, 0.0, 0.0], [FIELD, 0.3 * FIELD, 0.5 * FIELD])
        )
        moved = (shifted["density"] - plain["density"])[:, 0]
        assert moved.abs().max() > 1e-3
        at_most("known models: charge between waters 40 Å apart, e", moved.reshape(2, 3).sum(1).abs().max(), 1e-12)
        assert plain["total_charge"].item() == pytest.approx(charge, abs=1e-12)
    held = evaluate(model, to_graph(chain(1), model, fermi_level=-4.0), constant_charge=False)
    assert held["status"].tolist() == [NO_FERMI_LEVEL]


def test_the_polarizability_of_a_chain_has_a_limit() -> None:
    """Per molecule, of split charges; that of charge equilibration grows without."""
    found = {
        kind: [exact_response(model, to_graph(chain(n), model)).polarizability[0, 0].item() / n for n in (4, 8, 16, 32)]
        for kind, model in ((kind, make(kind, "H", "O")) for kind in ("split charges", "both"))
    }
    limit = np.abs(np.array(found["split charges"]) / found["split charges"][0] - 1.0).max()
    at_most("known models: chain's polarizability against n = 4, split charges", limit, 0.05)
    assert found["both"][3] > 10 * found["both"][0]


def test_the_spectrum_of_an_insulator_does_not_grow_with_the_box() -> None:
    """And that of a metal does; the engine's smallest eigenvalue is the exact one."""
    ends, settings = {}, LoopSettings(200, 1e-11, 0.3, "anderson")
    for kind in ("split charges", "mixture"):
        model = make(kind)
        for repeats in (4, 12):
            graph = to_graph(salt_water_box(triclinic=False).repeat((1, 1, repeats)), model)
            solution = model.solve(graph, settings, own_start(graph.positions), True, False)
            ends[kind, repeats] = jacobian_spectrum(model.solver.density_map, solution.fixed).smallest
            if repeats == 4:
                exact = torch.linalg.eigvals(jacobian(model, graph)).real.min().item()
                assert ends[kind, repeats] == pytest.approx(exact, rel=1e-2)
    growth = ends["split charges", 12] / ends["split charges", 4] - 1.0
    at_most("known models: growth of the spectrum from 26 to 77 Å, split charges", growth, 0.25)
    assert ends["split charges", 12] > -2.0
    assert ends["mixture", 12] < 4 * ends["mixture", 4]


def test_a_metal_screens_a_field() -> None:
    """Across the five middle layers of a slab the potential falls by less than a thousandth of the field."""
    model, _ = copper(1)
    slab = fcc111("Cu", (1, 2, 21), orthogonal=True, periodic=True)
    slab.pbc, slab.cell[2] = [True, True, False], 0.0
    potentials = []
    for field in (0.0, FIELD):
        out = solved(model, to_graph(slab, model, external_field=[0.0, 0.0, field]), compute_forces=False)
        potentials.append(out["potentials"].numpy() + field * slab.positions[:, 2])
    response = (potentials[1] - potentials[0])[::2]
    inside = np.abs(np.diff(response)) / (FIELD * np.diff(slab.positions[::2, 2]))
    assert inside[0] > 0.05
    at_most("known models: field inside copper over the field", inside[8:12].max(), 1e-3)


def test_soft_copper_is_a_perfect_conductor() -> None:
    """At vanishing hardness dμ/dQ is -1/(1·K^-1·1), K of the Gaussians alone."""
    model, atoms = copper(3, hardness=0.01)
    graph = to_graph(atoms, model)
    k = coulomb_matrix(graph.positions, None, model.sigma, 1.0, True)[::4, ::4].numpy()
    conductor = -1.0 / np.linalg.solve(k, np.ones(len(atoms))).sum()
    neutral, charged = (
        solved(model, to_graph(atoms, model, total_charge=charge), compute_forces=False)["fermi_level"].item()
        for charge in (0.0, 1.0)
    )
    slope = charged - neutral
    at_most("known models: dμ/dQ of copper against the perfect conductor", abs(slope / conductor - 1.0), 1e-2)
    assert -1.0 / exact_response(model, graph).capacitance.item() == pytest.approx(slope, rel=1e-8)


def test_added_charge_goes_to_the_metal() -> None:
    """Waters on copper, one of them bonded to it."""
    model, atoms = copper(3)
    top = atoms.positions[:, 2].max()
    middle = atoms.positions[atoms.positions[:, 2] > top - 0.1].mean(0)
    for place, height in (([0.0, 0.0], 2.2), ([3.0, 0.5], 3.3)):
        water = molecule("H2O")
        water.rotate(180, "x")
        water.translate([*(middle[:2] + place), top + height] - water.positions[0])
        atoms += water
    charges = []
    for charge in (0.0, 1.0):
        out = solved(model, to_graph(atoms, model, total_charge=charge))
        assert out["conducts"].tolist() == [True]
        charges.append(out["density"][:, 0].numpy())
    water = (charges[1] - charges[0])[-6:].reshape(2, 3).sum(1)
    assert abs(water[0]) > 1e-6
    at_most("known models: part of added charge that goes to water", np.abs(water).max(), 0.02)
    assert abs(water[1]) < 1e-12
