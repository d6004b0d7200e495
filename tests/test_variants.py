"""One physics suite for every update and read-out: derivatives, the archive, rotation, batches."""

from typing import get_args

import numpy as np
import pytest
import torch
from ase import Atoms

from figures import at_most
from fp_potential.export import export_model, load_model, run_model
from fp_potential.graph import collate
from fp_potential.model import FixedPointPotential
from fp_potential.options import ReadoutOptions, UpdateOptions
from fp_potential.scf.status import CONVERGED, NO_FERMI_LEVEL
from structures import UPDATES, evaluate, make_model, salt_water_box, to_graph, water_cluster

READOUTS = [
    "NullFieldReadout",
    "StrictQuadraticFieldEnergyReadout",
    "OneBodyMLPFieldReadout",
    "ManyBodyChargesReadout",
    "ManyBodyChargesFieldReadout",
    "VariationalFieldReadout",
]
INPUTS = {"total_charge": 0.3, "fermi_level": -1.7}
#: updates that differ from others by their response only: with the default read-out
ONE_READOUT = ("monotone affine", "symmetric", "tanh", "many-body MLP")
#: updates that the variational read-out is the energy of
SPLIT_CHARGES = ("split charge", "insulator")
VARIANTS = [
    (update, readout)
    for update in UPDATES
    for readout in READOUTS
    if (update not in ONE_READOUT or readout == "StrictQuadraticFieldEnergyReadout")
    and (readout != "VariationalFieldReadout" or update in SPLIT_CHARGES)
]


#: every update with the default read-out, every read-out with the default update, and messages in both
FAST = [
    (update, readout)
    for update, readout in VARIANTS
    if readout in ("StrictQuadraticFieldEnergyReadout", "VariationalFieldReadout")
    or update == "skip path"
    or (update, readout) == ("many-body", "ManyBodyChargesFieldReadout")
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(v, marks=() if v in FAST else pytest.mark.slow) for v in VARIANTS],
    ids=lambda v: f"{v[0]}, {v[1]}",
)
def variant(request: pytest.FixtureRequest) -> FixedPointPotential:
    update, readout = request.param
    return make_model(3, fixedpoint_update_config=UPDATES[update], field_readout_config={"type": readout})


def structure(kind: str) -> Atoms:
    return salt_water_box() if kind == "periodic" else water_cluster(2)


def graph_of(model: FixedPointPotential, atoms: Atoms):
    field = {} if atoms.pbc.any() else {"external_field": [0.02, -0.03, 0.05]}
    return to_graph(atoms, model, **INPUTS, **field)


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("kind", ["periodic", "open"])
def test_forces_and_stress_are_the_derivatives(variant, kind: str, constant_charge: bool) -> None:
    """Along a random displacement of all atoms, and along a random strain; fourth-order differences."""
    atoms = structure(kind)
    rng = np.random.default_rng(5)
    displacement, strain = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
    strain = 0.5 * (strain + strain.T)
    out = evaluate(variant, graph_of(variant, atoms), constant_charge=constant_charge)
    # derivatives are right where a Fermi level means nothing, too
    insulates = not out["conducts"].item()
    assert out["status"].tolist() == [NO_FERMI_LEVEL if insulates and not constant_charge else CONVERGED]
    assert not constant_charge or out["total_charge"].item() == pytest.approx(0.3, abs=1e-10)

    def slope(change) -> float:
        step = 1e-4
        energies = []
        for factor in (-2, -1, 1, 2):
            moved = atoms.copy()
            change(moved, factor * step)
            settings = {"constant_charge": constant_charge, "compute_forces": False}
            energies.append(evaluate(variant, graph_of(variant, moved), **settings)["energy"].item())
        return (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)

    def move(moved: Atoms, size: float) -> None:
        moved.positions += size * displacement

    def deform(moved: Atoms, size: float) -> None:
        moved.set_cell(moved.cell.array @ (np.eye(3) + size * strain), scale_atoms=False)
        moved.positions = moved.positions @ (np.eye(3) + size * strain)

    length = np.linalg.norm(displacement)
    expected = -(out["forces"].numpy() * displacement).sum()
    at_most(
        "all updates and read-outs: forces against differences, eV/Å",
        abs(slope(move) - expected) / length,
        1e-6 / np.sqrt(len(atoms)),
    )
    if kind == "periodic":
        expected = (out["strain_gradient"][0].numpy() * strain).sum()
        error = abs(slope(deform) - expected) / atoms.get_volume()
        at_most("all updates and read-outs: stress against differences, eV/Å³", error, 1e-7)


def test_archive_batch_and_rotation(variant, tmp_path) -> None:
    """Script, save and load equal eager; a batch equals its parts; energies do not see a rotation."""
    export_model(variant, tmp_path / "model.pt")
    module, _ = load_model(tmp_path / "model.pt")
    graphs = [graph_of(variant, structure(kind)) for kind in ("periodic", "open")]
    batch = collate(graphs)
    start = (torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    for constant_charge in (True, False):
        eager = evaluate(variant, batch, constant_charge=constant_charge)
        loaded = run_model(module, *batch, 80, 1e-11, 0.3, "anderson", constant_charge, True, *start)
        for key, value in eager.items():
            if key != "history":
                error = (loaded[key].double() - value.double()).abs() / (1.0 + value.double().abs())
                at_most("all updates and read-outs: archive against eager", error, 1e-12)
        for number, graph in enumerate(graphs):
            alone = evaluate(variant, graph, constant_charge=constant_charge)
            error = (alone["energy"][0] / eager["energy"][number] - 1.0).abs()
            at_most("all updates and read-outs: batch against one by one, energy, relative", error, 1e-11)
            mine = batch.batch == number
            assert torch.allclose(alone["forces"], eager["forces"][mine], rtol=0, atol=1e-9)
        turned = structure("periodic")
        turned.rotate(40, (1, 2, 3), rotate_cell=True)
        energy = evaluate(variant, graph_of(variant, turned), constant_charge=constant_charge)["energy"].item()
        at_most(
            "all updates and read-outs: rotation, energy, relative",
            abs(energy / eager["energy"][0].item() - 1.0),
            1e-10,
        )


def test_every_type_is_among_the_variants() -> None:
    """A new update or read-out goes through all of the above."""
    updates = {UpdateOptions(**options).type for options in UPDATES.values()}
    assert updates == set(get_args(UpdateOptions.model_fields["type"].annotation))
    assert set(READOUTS) == set(get_args(ReadoutOptions.model_fields["type"].annotation))
