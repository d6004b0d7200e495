"""The memory of a mesh is estimated before it is allocated."""

import warnings

import numpy as np
import pytest
import torch
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator
from fp_potential.electrostatics import memory
from fp_potential.electrostatics.memory import MeshMemory, demand_memory, mesh_memory
from structures import make_model, salt_water_box, water_cluster


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


def boxed(edge: float, pbc: bool = True) -> Atoms:
    atoms = water_cluster(1)
    atoms.set_cell([edge] * 3)
    atoms.pbc = pbc
    return atoms


def found(electrostatics, atoms: Atoms) -> MeshMemory | None:
    return mesh_memory(
        electrostatics, torch.tensor(atoms.positions), torch.tensor(atoms.cell.array), torch.tensor(atoms.pbc)
    )


def test_estimate_is_the_mesh_that_is_made() -> None:
    """Points as the tables have them, and memory that grows with the volume; None where there is no mesh."""
    operator = make_model().electrostatics
    assert found(operator, water_cluster(1)) is None  # pairs
    assert found(operator, salt_water_box()) is None  # few waves
    operator.set_kspace("mesh", 1e-5)
    sizes = []
    for edge in (20.0, 40.0):
        atoms = boxed(edge)
        estimate = found(operator, atoms)
        tables = operator.prepare(
            torch.tensor(atoms.positions),
            torch.tensor(atoms.cell.array).unsqueeze(0),
            torch.tensor(atoms.pbc).unsqueeze(0),
            torch.zeros(3, dtype=torch.int64),
        ).meshes[0]
        assert estimate.shape == list(tables.layout.shape)
        # the arrays of the filters alone, and not a hundred times that
        filters = tables.filters.numel() * 8
        assert filters < estimate.size < 30 * filters
        sizes.append(estimate.size)
    assert sizes[1] == pytest.approx(8 * sizes[0], rel=0.3)


def test_mesh_that_does_not_fit_is_refused(archive, monkeypatch) -> None:
    atoms = boxed(300.0)
    calculator = FixedPointCalculator(archive, total_charge=0.0, kspace="mesh")
    monkeypatch.setattr(memory, "free_memory", lambda device: 2e9)
    message = (
        r"the mesh of the long range has (\d+) x \1 x \1 points for 3 atoms and takes about \d+\.\d GB, more than the "
        r"2.0 GB that are free; the cell is mostly empty \(9000000 Å³ per atom\): make the axes along which there is "
        r"nothing open axes \(pbc False\)"
    )
    with pytest.raises(ValueError, match=message):
        calculator.get_potential_energy(atoms)
    atoms.pbc = False
    calculator.set(kspace=None)
    assert np.isfinite(calculator.get_potential_energy(atoms))


def test_large_for_nothing_is_said_once(archive, monkeypatch) -> None:
    monkeypatch.setattr(memory, "MUCH", 1e6)
    calculator = FixedPointCalculator(archive, total_charge=0.0, kspace="mesh")
    atoms = boxed(30.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            calculator.get_potential_energy(atoms)
            atoms.positions[0, 0] += 0.01
    assert [str(w.message).count("the cell is mostly empty") for w in caught] == [1]
    dense = MeshMemory([100, 100, 100], 5e9, 10_000, 1e6)
    assert demand_memory(dense._replace(size=1.9e9), torch.device("cpu")) == ""
    monkeypatch.setattr(memory, "free_memory", lambda device: 2e9)
    with pytest.raises(
        ValueError, match=r"takes about 5.0 GB, more than the 2.0 GB that are free; ask for less kspace"
    ):
        demand_memory(dense, torch.device("cpu"))


def test_free_memory_of_this_machine() -> None:
    free = memory.free_memory(torch.device("cpu"))
    assert free is None or free > 1e6


def test_refusals_of_compiled_code_are_sentences(archive) -> None:
    """What the model itself refuses, without a trace of its code."""
    calculator = FixedPointCalculator(archive, total_charge=0.0, kspace="open")
    with pytest.raises(ValueError, match=r"^kspace method open is for structures without periodic axes") as raised:
        calculator.get_potential_energy(salt_water_box())
    assert "Traceback" not in str(raised.value)
