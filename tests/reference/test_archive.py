"""Known models as archives: scripted = eager, the ASE calculator, and that molecular dynamics is possible."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from fp_potential.calculator import FixedPointCalculator, NoFermiLevel
from fp_potential.export import OUTPUTS, export_model, load_model
from fp_potential.options import SCFOptions
from fp_potential.reference import exact_solution
from reference.systems import make, solved, system
from structures import salt_water_box

KINDS = ["charges", "dipoles", "both", "split charges", "mixture"]


def exported(kind: str, folder: Path, *symbols: str) -> Path:
    path = folder / f"{kind}.pt"
    export_model(make(kind, *symbols), path, SCFOptions(scf_tolerance=1e-10))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_scripted_saved_and_loaded_equals_eager(kind: str, tmp_path: Path) -> None:
    module, metadata = load_model(exported(kind, tmp_path))
    # bonds need the field at ghosts
    assert metadata["num_interactions"] == 0 and metadata["comm_width"] == (4 if kind in KINDS[3:] else 0)
    assert metadata["elements"] == ["H", "O", "Na", "Cl"]
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    for boundary in ("triclinic", "open"):
        model, graph = system(kind, boundary)
        for constant_charge in (True, False) if kind != "split charges" else (True,):
            eager = solved(model, graph, constant_charge, num_scf_steps=80, scf_tolerance=1e-11)
            for distributed in (False, True):
                arguments = (80, 1e-11, 0.3, "anderson", constant_charge, True, nothing, nothing[:, 0])
                out = module(*graph._replace(distributed=distributed), *arguments)
                assert set(out) == set(eager) == set(OUTPUTS)
                for key, value in eager.items():
                    assert torch.allclose(out[key].double(), value.double(), rtol=1e-12, atol=1e-12), key


@pytest.mark.parametrize("kind", KINDS)
def test_calculator(kind: str, tmp_path: Path) -> None:
    path = exported(kind, tmp_path)
    model, graph = system(kind, "triclinic")
    for given in ({"total_charge": 0.4}, {"fermi_level": -5.5}):
        constant_charge = "total_charge" in given
        if kind == "split charges" and not constant_charge:
            atoms = salt_water_box()
            atoms.calc = FixedPointCalculator(path, **given)
            with pytest.raises(NoFermiLevel, match=r"no atom of .* conducts in this model"):
                atoms.get_potential_energy()
            with pytest.raises(ValueError, match="nothing conducts in this structure"):
                exact_solution(model, graph, False)
            continue
        # the calculator has no charge to give to fixed charges at constant Fermi level
        inputs = graph if constant_charge else graph._replace(total_charge=torch.zeros_like(graph.total_charge))
        exact = exact_solution(model, inputs, constant_charge)
        atoms = salt_water_box()
        atoms.calc = FixedPointCalculator(path, **given)
        assert atoms.get_potential_energy() == pytest.approx(exact.energy.item(), rel=1e-10)
        assert abs(atoms.get_forces() - exact.forces.numpy()).max() <= 1e-8
        assert abs(atoms.get_charges() - exact.density[:, 0].numpy()).max() <= 1e-9
        stress = exact.strain_gradient.numpy() / atoms.get_volume()
        assert abs(atoms.get_stress(voigt=False) - stress).max() <= 1e-9


@pytest.mark.parametrize("kind", KINDS[:3])
def test_dynamics_keeps_its_energy(kind: str, tmp_path: Path) -> None:
    """Hot salt for 50 fs: ions stay apart and the total energy is constant."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = FixedPointCalculator(exported(kind, tmp_path, "Na", "Cl"), total_charge=0.0)
    width = np.sqrt(atoms.get_masses() * units.kB * 1500)[:, None]
    atoms.set_momenta(width * np.random.default_rng(1).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
    totals = []
    for _ in range(5):
        dynamics.run(10)
        totals.append(atoms.get_total_energy() / len(atoms))
    distances = atoms.get_all_distances(mic=True)
    assert max(totals) - min(totals) < 1e-3
    assert distances[distances > 0].min() > 1.8
