"""Published bundles of both generations, read as training files."""

import numpy as np
import pytest
from fp_potential.train.bands.bundle.read import is_bundle, read_bundle
from fp_potential.train.bands.config import load_config
from fp_potential.train.bands.data import species_of
from fp_potential.train.bands.systems import load_systems

from train.bands.bundles import CDSE, III_V


def test_older_generation():
    """The III-V bundle: k-points without weights, five parameters whose fifth is the strain's, no PPmodel."""
    notes: list[str] = []
    config = read_bundle(III_V, notes=notes)
    systems = load_systems(config.systems)
    assert [system.name for system in systems] == ["InAs", "InP", "GaAs", "GaP"]
    assert species_of(systems) == ("As", "Ga", "In", "P")
    for system in systems:
        assert system.kpoints.shape == (61, 3) and system.reference.shape == system.band_weights.shape == (61, 16)
        assert (system.k_weights == 1).all() and (system.band_weights == 1).all()
        assert system.n_bands == 16 and system.max_ke == 6
    assert np.allclose(systems[0].geometry.cell, 11.4485278 * (1 - np.eye(3)) / 2)
    assert tuple(systems[0].reference[0, :3]) == (-15.6593, -15.6593, -10.1545)
    # the gaps that the files are known to have
    for system, gap in zip(systems, (0.4841, 1.5882, 1.5190, 2.3500), strict=True):
        assert round(system.reference[:, 8].min() - system.reference[:, 7].max(), 4) == gap
    assert config.model.parameters["In"] == [50.61980368, 2.16277701, 3.04453741, 0.54417263, 0, 0, 0, 0, 0.64666079]
    assert config.model.basis == "published" and config.model.local.ppmodel == "Net_relu_xavier_decay2"
    stage = config.train_schedule[0]
    assert (stage.workflow, stage.epochs, stage.lr, stage.step_factor, stage.step_epochs) == (
        "gradient",
        600,
        0.005,
        0.9,
        80,
    )
    assert (stage.lr_decay, stage.patience, stage.paced_by) == ("step", 500, "train")
    start = config.training.initialise
    assert (start.method, start.fit.epochs, start.fit.lr) == ("zunger", 1000, 0.1)
    assert "NN_config.par: no PPmodel: Net_relu_xavier_decay2, that of older bundles" in notes


def test_folder_without_settings():
    """The CdSe folder of the published tests: the analytic potential of its parameters, evaluated."""
    assert is_bundle(CDSE) and not is_bundle(CDSE.parent)
    config = read_bundle(CDSE)
    (system,) = load_systems(config.systems)
    assert system.max_ke == 10 and system.reference.shape == (61, 16)
    assert system.path[0] == 0.47529 and (system.k_weights == 1).all()
    assert config.model.local.form == "zunger"
    assert config.model.parameters["Cd"] == [-31.4518, 1.3890, -0.0502, 1.6603, 0, 0, 0, 0, 0]
    assert [stage.workflow for stage in config.train_schedule] == ["evaluate"]


@pytest.mark.parametrize("folder", [III_V.parent, CDSE.parent], ids=lambda folder: folder.name)
def test_example(folder):
    """The training file of an example has the numbers of its bundle, and what is ours besides."""
    config, bundle = load_config(folder / "train.yaml"), read_bundle(folder / "data")
    for own, published in zip(load_systems(config.systems), load_systems(bundle.systems), strict=True):
        assert own.name == published.name and (own.kpoints == published.kpoints).all()
        assert (own.reference == published.reference).all() and (own.geometry.cell == published.geometry.cell).all()
    # the one begins at the cost that the published code prints, the other has all plane waves
    basis = "published" if folder.name.startswith("iii_v") else "complete"
    assert config.model.parameters == bundle.model.parameters and config.model.basis == basis
