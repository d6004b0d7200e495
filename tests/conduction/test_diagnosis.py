"""Metals and insulators by construction: numbers against exact solutions, verdicts against what the models are."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule

from figures import at_most
from fp_potential.conduction import (
    Behaviour,
    NotConverged,
    ResponseSettings,
    StructureSolver,
    diagnose_response,
    exchange,
    fragments_of,
)
from fp_potential.conduction.pieces import apart, chain, open_directions
from fp_potential.conduction.settings import CONDUCTING
from fp_potential.graph import Conditions, graph_from_atoms
from fp_potential.reference import ChargeEquilibration, InducedDipoles, ReferenceOptions, exact_response
from fp_potential.scf.settings import LoopSettings, Start
from structures import salt_water, salt_water_box, water_cluster

#: relative to the exact response
LIMIT = 1e-9


def solver_of(model, steps: int = 200) -> StructureSolver:
    settings = LoopSettings(steps, 1e-12, 0.3, "anderson")

    def run(graph, constant_charge, density, level):
        return model.evaluate(graph, settings, Start(density, level), constant_charge, False, False)

    return StructureSolver(run, model.elements, model.cutoff, torch.float64)


def metal(**options) -> ChargeEquilibration:
    return ChargeEquilibration(ReferenceOptions.built_in("H", "O", "Na", "Cl", polarizable=True, **options))


def insulator() -> InducedDipoles:
    return InducedDipoles(ReferenceOptions.built_in("H", "O", "Na", "Cl"))


def electrode() -> ChargeEquilibration:
    """Copper whose charge equilibrates and which water, of fixed charges, polarises beside."""
    model = ChargeEquilibration(ReferenceOptions.built_in("H", "O", "Cu", polarizable=True))
    with torch.no_grad():
        model.stiffness[:2, 0] = 0.0
        model.slope[:2, 0] = 0.0
        model.charges.copy_(torch.tensor([0.4, -0.8, 0.0]))
    return model


def exact(model, atoms: Atoms, **more):
    return exact_response(model, graph_from_atoms(atoms, model.elements, model.cutoff, torch.float64), **more)


def exact_flow(model, atoms: Atoms, fragment: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Change of the fragments' charges per volt along a direction."""
    by_field = exact(model, atoms).by_field[:, 0].numpy() @ direction
    return np.abs(np.bincount(fragment, weights=by_field)) / np.ptp(atoms.positions @ direction)


def exact_polarizability(model, atoms: Atoms, copies: int, gap: float) -> tuple[float, float]:
    """Per copy, and the part of it that is charge moved between the copies' centres."""
    axis = int(np.ptp(atoms.positions, axis=0).argmin())
    step = (np.ptp(atoms.positions[:, axis]) + gap) * np.eye(3)[axis]
    row = Atoms()
    for k in range(copies):
        row += Atoms(atoms.numbers, atoms.positions + k * step)
    response = exact(model, row)
    charges = response.by_field[:, 0, axis].numpy().reshape(copies, -1).sum(1)
    centres = row.positions[:, axis].reshape(copies, -1).mean(1)
    return float(response.polarizability[axis, axis]) / copies, float(charges @ centres) / copies


def test_a_metal() -> None:
    model, atoms = metal(), water_cluster(3)
    found = diagnose_response(solver_of(model), atoms, settings=ResponseSettings(gap=2.7))
    fragment = fragments_of(atoms).of_atom
    flows = np.max([exact_flow(model, atoms, fragment, direction) for direction in np.eye(3)], axis=0)
    assert [kind.formula for kind in found.exchange.kinds] == ["H2O"] and found.exchange.kinds[0].number == 3
    at_most("diagnosis: flow between fragments", abs(found.exchange.flow / flows.max() - 1), LIMIT)
    pieces = apart(atoms, fragments_of(atoms), ["H2O"], 10.0)
    far = exact_flow(model, pieces.atoms, pieces.piece, pieces.direction)
    at_most("diagnosis: flow far apart", abs(found.exchange.apart / far.max() - 1), LIMIT)
    assert found.exchange.apart > 10 * CONDUCTING
    for point in found.chain:
        whole, carried = exact_polarizability(model, atoms, point.copies, 2.7)
        at_most("diagnosis: polarizability of a chain", abs(point.polarizability / whole - 1), LIMIT)
        at_most("diagnosis: part carried by charge", abs(point.carried - carried) / whole, LIMIT)
    assert [point.copies for point in found.chain] == [1, 2, 4, 8, 16] and found.exponent > 1.4
    assert abs(found.chain[0].carried) < 1e-9 and found.chain[4].carried > 0.9 * found.chain[4].polarizability
    response = exact(model, atoms)
    at_most("diagnosis: capacitance", abs(found.capacitance / float(response.capacitance) - 1), LIMIT)
    at_most("diagnosis: dmu/dQ is -1/C", abs(found.level_by_charge * found.capacitance + 1), LIMIT)
    shares = {element.symbol: element.share for element in found.elements}
    for symbol in ("H", "O"):
        own = float(response.by_charge[:, 0].numpy()[atoms.symbols == symbol].sum())
        at_most("diagnosis: share of an element", abs(shares[symbol] - own), LIMIT)
    assert found.behaviour is Behaviour.METAL and found.sentence == "behaves as a metal" and not found.notes
    assert len(found.reasons()) == 3 and "10 Å apart" in found.reasons()[0]


def test_an_insulator() -> None:
    model, atoms = insulator(), water_cluster(3)
    found = diagnose_response(solver_of(model), atoms)
    at_most("diagnosis: flow of an insulator, e/V", max(found.exchange.flow, found.exchange.apart), 1e-12)
    for point in found.chain:
        whole, _ = exact_polarizability(model, atoms, point.copies, 3.0)
        at_most("diagnosis: polarizability of a chain", abs(point.polarizability / whole - 1), LIMIT)
        assert abs(point.carried) < 1e-9
    assert abs(found.exponent) < 0.1  # the dipoles of neighbours add a little, and then no more
    assert found.capacitance == pytest.approx(0.0, abs=1e-12) and found.level_by_charge is None
    # its model shares charge evenly over the atoms
    assert {element.symbol: round(element.share, 9) for element in found.elements} == {
        "H": round(2 / 3, 9),
        "O": round(1 / 3, 9),
    }
    assert found.behaviour is Behaviour.INSULATOR and found.sentence == "behaves as an insulator"
    assert found.insulating == ["H2O"] and found.conducting == []


@pytest.mark.parametrize("gap", [1.0, 6.0])
def test_the_verdict_on_a_metal_does_not_depend_on_the_gap(gap) -> None:
    found = diagnose_response(solver_of(metal()), water_cluster(1), settings=ResponseSettings(gap=gap, apart=40.0))
    assert found.behaviour is Behaviour.METAL and "it is one fragment; they are tested as copies" in found.notes[0]
    assert found.exchange.flow is None and found.exchange.apart > CONDUCTING


def test_a_piece_of_metal_beside_water() -> None:
    """In open boundaries, with numbers: copper exchanges charge, water none."""
    model = electrode()
    atoms = fcc111("Cu", (2, 2, 1))
    atoms.pbc = False
    atoms += Atoms("OH2", molecule("H2O").positions + [1.0, 1.0, 4.0])
    atoms += Atoms("Cu", [[1.0, 1.0, 12.0]])
    found = diagnose_response(solver_of(model), atoms)
    kinds = {kind.formula: kind for kind in found.exchange.kinds}
    assert list(kinds) == ["Cu4", "H2O", "Cu"]
    fragments = fragments_of(atoms)
    flows = np.max([exact_flow(model, atoms, fragments.of_atom, d) for d in np.eye(3)], axis=0)
    at_most("diagnosis: flow between fragments", abs(kinds["Cu4"].flow / flows[0] - 1), LIMIT)
    at_most("diagnosis: flow of an insulator, e/V", max(kinds["H2O"].flow, kinds["H2O"].apart), 1e-12)
    assert kinds["Cu4"].conducts and kinds["Cu"].conducts and kinds["H2O"].conducts is False
    assert found.behaviour is Behaviour.MIXED and found.sentence == "mixed: Cu conducts (Cu4, Cu), H2O insulates"
    assert found.elements[0].symbol == "Cu" and found.elements[0].share == pytest.approx(1.0)
    response = exact(model, atoms)
    at_most("diagnosis: capacitance", abs(found.capacitance / float(response.capacitance) - 1), LIMIT)


def test_a_slab_of_metal_beside_water() -> None:
    """Periodic along two axes: no chain, the field along the open axis only."""
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    atoms += Atoms("OH2", molecule("H2O").positions + atoms.positions.max(axis=0) + [0.0, 0.0, 3.5])
    atoms.pbc = [True, True, False]
    found = diagnose_response(solver_of(electrode()), atoms)
    kinds = {kind.formula: kind for kind in found.exchange.kinds}
    # the only piece of copper has nobody to exchange charge with; two slabs have
    assert kinds["Cu8"].flow < 1e-12 and kinds["Cu8"].apart > CONDUCTING and kinds["H2O"].apart < 1e-12
    assert found.sentence == "mixed: Cu conducts (Cu8), H2O insulates" and found.chain == []
    assert any("periodic" in note for note in found.notes) and found.exponent is None
    assert found.capacitance == pytest.approx(-1 / found.level_by_charge, rel=1e-6)


def test_water_that_is_bound_to_metal_is_not_named_as_conducting() -> None:
    atoms = fcc111("Cu", (2, 2, 1))
    atoms.pbc = False
    atoms += Atoms("OH2", molecule("H2O").positions[:, [0, 1, 2]] * [1, 1, -1] + atoms.positions[0] + [0.0, 0.0, 2.3])
    atoms += Atoms("OH2", molecule("H2O").positions + [1.0, 1.0, 9.0])
    found = diagnose_response(solver_of(electrode()), atoms)
    assert found.sentence == "mixed: Cu conducts (H2Cu4O), H2O insulates"


def test_periodic_boxes_are_tested_as_finite_pieces() -> None:
    model, atoms = metal(), salt_water_box()
    found = diagnose_response(solver_of(model), atoms)
    assert any("no open axis; they are tested as finite pieces in open space" in note for note in found.notes)
    assert found.exchange.flow is None and found.behaviour is Behaviour.METAL
    assert sorted(found.conducting) == ["Cl", "H2O", "Na"]
    capacitance = float(exact(model, atoms).capacitance)
    at_most("diagnosis: capacitance, periodic", abs(found.capacitance / capacitance - 1), LIMIT)
    assert diagnose_response(solver_of(insulator()), atoms).behaviour is Behaviour.INSULATOR


def test_charges_of_neighbours_that_touch_do_not_make_a_metal() -> None:
    """Charge that moves along contacts only, as in an insulator of split charges, without a Coulomb interaction."""

    def run(graph, constant_charge, density, level):
        i, j = graph.edge_index
        potential = (graph.positions @ graph.external_field[0])[:, None]
        moved = torch.zeros_like(potential).index_add(0, i, -0.05 * (potential[i] - potential[j]))
        p = torch.cat([moved, torch.zeros(len(moved), 3, dtype=moved.dtype)], dim=1)
        zero = torch.zeros(1)
        return {"density": p, "fermi_level": zero, "total_charge": zero, "status": zero, "conducts": zero.bool()}

    found = diagnose_response(StructureSolver(run, [1, 8], 4.5, torch.float64), water_cluster(4))
    assert found.exchange.flow > 10 * CONDUCTING and found.exchange.apart < 1e-15
    assert found.behaviour is Behaviour.INSULATOR and found.exponent < 0.1 and found.chain[-1].carried > 0.1


def test_a_model_that_says_that_nothing_conducts_is_not_asked_for_a_level() -> None:
    model = insulator()
    own = solver_of(model)

    def run(graph, constant_charge, density, level):
        assert constant_charge, "a constant level was asked for"
        return own.run(graph, constant_charge, density, level) | {"conducts": torch.tensor([False])}

    found = diagnose_response(StructureSolver(run, own.elements, own.cutoff, own.dtype), water_cluster(2))
    assert not found.has_level and found.capacitance == 0.0 and found.level_by_charge is None
    assert found.behaviour is Behaviour.INSULATOR and "nothing conducts" in found.reasons()[-1]


def test_wrong_sign_of_the_charge_response_is_named() -> None:
    def run(graph, constant_charge, density, level):
        p = torch.zeros(len(graph.batch), 4, dtype=torch.float64)
        p[:, 0] = 0.0 if constant_charge else 0.02 * graph.fermi_level
        zero = torch.zeros(1)
        return {"density": p, "fermi_level": zero, "total_charge": p[:, :1].sum(0), "status": zero}

    settings = ResponseSettings(lengths=(1, 2))
    found = diagnose_response(StructureSolver(run, [1, 8], 4.5, torch.float64), water_cluster(1), settings=settings)
    assert found.capacitance == pytest.approx(-0.06) and "a higher Fermi level makes" in found.notes[-1]
    # nothing flows, and yet the charge follows the level
    assert found.behaviour is Behaviour.MIXED and found.sentence.startswith("mixed: H2O, 10 Å apart, exchanges 0 me/V")
    assert ", but the capacitance -dQ/dmu is -60 me/V" in found.sentence


def test_wires_have_two_open_axes() -> None:
    """The field that gives the larger flow counts."""
    model, atoms = metal(), salt_water("TFF")
    found = exchange(solver_of(model), atoms, Conditions(), ResponseSettings())
    fragments = fragments_of(atoms)
    flows = []
    for direction in open_directions(atoms):
        ends = []
        for sign in (1, -1):
            field = 1e-3 * sign * direction
            ends.append(solver_of(model)(atoms, Conditions(external_field=field.tolist())).charges)
        flows.append(np.abs(fragments.sums(ends[0] - ends[1])) / 2e-3 / np.ptp(atoms.positions @ direction))
    assert found.flow == pytest.approx(np.max(flows), rel=1e-6) and len(flows) == 2
    assert found.apart > CONDUCTING and not found.notes


def test_softness_of_an_update_stands_beside_the_shares() -> None:
    atoms = water_cluster(2)
    softness = np.where(atoms.numbers == 8, 0.3, 0.1)
    found = diagnose_response(solver_of(metal()), atoms, settings=ResponseSettings(lengths=(1, 2)), softness=softness)
    assert {element.symbol: element.softness for element in found.elements} == pytest.approx({"O": 0.3, "H": 0.1})


def test_loops_that_fail() -> None:
    """That of the structure ends the diagnosis, others leave out what they were for."""
    atoms = water_cluster(2)
    with pytest.raises(NotConverged, match="of 6 atoms ended with status 1"):
        diagnose_response(solver_of(metal(), steps=2), atoms)
    own = solver_of(metal())

    def run(graph, constant_charge, density, level):
        out = own.run(graph, constant_charge, density, level)
        return out | {"status": out["status"] + int(not constant_charge or len(graph.batch) > 24)}

    found = diagnose_response(StructureSolver(run, own.elements, own.cutoff, own.dtype), atoms)
    assert found.capacitance is None and found.chain == [] and found.level_by_charge is not None
    assert [note.split(":")[0] for note in found.notes] == ["chains of copies", "at constant Fermi level"]
    assert found.behaviour is Behaviour.METAL


def test_large_structures_have_no_chain() -> None:
    found = diagnose_response(solver_of(insulator()), water_cluster(1), settings=ResponseSettings(lengths=(1, 2, 400)))
    assert [point.copies for point in found.chain] == [1, 2]
    found = diagnose_response(solver_of(insulator()), water_cluster(1), settings=ResponseSettings(lengths=(1, 400)))
    assert found.chain == [] and "more than 1000 atoms" in found.notes[-1]


def test_fields_and_charges_of_the_structure_are_kept() -> None:
    """For models that are not affine."""
    seen = []
    own = solver_of(metal())

    def run(graph, constant_charge, density, level):
        seen.append((graph.total_charge.item(), graph.external_field[0].tolist()))
        return own.run(graph, constant_charge, density, level)

    atoms = water_cluster(2)
    solver = StructureSolver(run, own.elements, own.cutoff, own.dtype)
    exchange(solver, atoms, Conditions(total_charge=2.0, external_field=[0.0, 0.01, 0.0]))
    assert seen[0] == (2.0, [0.0, 0.01, 0.0])
    here, far = seen[1:-2], seen[-2:]  # the pair is flat along z
    assert len(here) == 4 and {charge for charge, _ in here} == {2.0}
    assert np.mean([field for _, field in here], axis=0) == pytest.approx([0.0, 0.01, 0.0])
    assert {charge for charge, _ in far} == {2.0}  # one each, as the charges here are when rounded
    seen.clear()
    diagnose_response(solver, atoms, Conditions(total_charge=2.0), ResponseSettings(lengths=(1, 2, 4)))
    of_chains = [charge for charge, _ in seen if charge not in (2.05, 1.95)]
    assert of_chains == pytest.approx([2.0] * 9 + [4.0] * 2 + [8.0] * 2 + [2.0] * 2)


def test_chain_is_the_same_along_any_axis() -> None:
    atoms = water_cluster(2)
    turned = atoms.copy()
    turned.positions = turned.positions[:, [2, 0, 1]]
    made, other = chain(atoms, 3, 3.0), chain(turned, 3, 3.0)
    assert made.atoms.get_all_distances() == pytest.approx(other.atoms.get_all_distances())
    solver = partial(diagnose_response, solver_of(metal()), settings=ResponseSettings(lengths=(1, 2, 4)))
    assert [p.polarizability for p in solver(atoms).chain] == pytest.approx(
        [p.polarizability for p in solver(turned).chain], rel=1e-8
    )
