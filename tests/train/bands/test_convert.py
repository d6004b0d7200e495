"""Training file ↔ bundle with the same content; bands of other programs; primitive cells."""

import numpy as np
import pytest
from fp_potential.train.bands.bundle import files, write
from fp_potential.train.bands.bundle.convert import differences, to_bundle, to_yaml
from fp_potential.train.bands.bundle.read import read_bundle
from fp_potential.train.bands.config import load_config
from fp_potential.train.bands.data import Transition
from fp_potential.train.bands.systems import load_systems
from fp_potential.train.errors import InputError

from train.bands.bundles import CDSE, III_V, NEWER, change, copy

STEPS = "0.5 0.1 0.1 0.1 0 0 0 0 0".replace(" ", "\n")
MOVES = "mc_bool = 1\nmc_iter = 500\nmc_percentage = 0.1\nmc_beta = 2.0\n"


def full(folder):
    """A bundle with every file that describes a system."""
    copy(CDSE, folder)
    (folder / "NN_config.par").write_text(NEWER.replace("SObool = 0", "SObool = 1\ncacheSO = 0"), encoding="utf-8")
    change(
        folder / "input_0.par", "", "\nidxVB = 7\nidxCB = 8\nidxGap = 20\nrelE_bIdx = 7\nfit_defPot = 1\nfit_eph = 1\n"
    )
    change(folder / "input_0.par", "", "fit_eff_masses = 1\nBS_plot_center = -5.5\nsystemName = zbCdSe\ntrainLR = 1\n")
    (folder / "bandWeights_0.par").write_text("\n".join(map(str, range(16))), encoding="utf-8")
    order = np.tile(np.arange(16), (61, 1))
    order[3, :2] = 1, 0
    np.savetxt(folder / "kpoints_0_orderMatrix.par", order, fmt="%d")
    table = "# k b\n20 7 20 8 1.01 -2.70 1.5   # the gap\n20 7 40 8 0.99 1.75 0.5\n"
    (folder / "expDefPot_0.par").write_text(table, encoding="utf-8")
    (folder / "qpoints_0.par").write_text("0.5 0.5 0.5 1.0\n0.1 0.1 0.1 2.0\n", encoding="utf-8")
    (folder / "expEffMasses_0.par").write_text("0.12\n0.45\n2.0\n", encoding="utf-8")
    blocks = "".join(
        f"Atom idx = {atom}   atom = {name}   position = XXX\n"
        + "".join(
            f"{edge} coupling elements. polarization of derivative = x\n0.028   0.69\n"
            f"polarization of derivative = y\n{atom}.5 Not-fit\npolarization of derivative = z\n0.009   0.69\n\n"
            for edge in ("vb-vb", "cb-cb")
        )
        for atom, name in enumerate(("Cd", "Se"))
    )
    (folder / "expCoupling_0.par").write_text(blocks, encoding="utf-8")
    for species, charge in (("Cd", 0.3), ("Se", -0.3)):
        values = [-31.4518, 1.389, -0.0502, 1.6603, charge, 0.8, 0.01, -0.02, 0.05]
        write.write_vector(folder / f"init_{species}Params.par", values)
    return folder


def monte_carlo(folder):
    """A bundle of the Monte Carlo driver: two tempering stages, steps, zeros that are not fitted."""
    copy(CDSE, folder)
    change(folder / "expBandStruct_0.par", "-19.9419263358807228", "0.00000")
    for number, gaps in ((1, "True"), (2, "False")):
        text = f"betas = 100 1\nstepsAtTemp = 5 4\ntempStepSizeMod = 1.0 2.0\ntotalIter = 20\noptGaps = {gaps}\n"
        (folder / f"mcOpts{number}.par").write_text(text + "fitDefPot = False\nfitCoupling = False\n", encoding="utf-8")
    for species in ("Cd", "Se"):
        (folder / f"{species}ParamSteps.par").write_text(STEPS, encoding="utf-8")
    return folder


def annealed(folder):
    """A network's Monte Carlo with a schedule of inverse temperatures, from a checkpoint with its optimiser."""
    copy(CDSE, folder)
    settings = NEWER.replace("max_num_epochs = 5\n", MOVES + "mc_beta_schedule = betas\nmc_perturb_mode = 4\n")
    (folder / "NN_config.par").write_text(settings.replace("init_Zunger_num_epochs = 10\n", ""), encoding="utf-8")
    (folder / "betas").write_text("0 1.0\n100 20.0\n", encoding="utf-8")
    for name in ("init_PPmodel.pth", "init_AdamState.pth"):
        (folder / name).write_bytes(name.encode())
    return folder


def from_table(folder):
    """A fit of the network to a table of v(q)."""
    copy(CDSE, folder)
    (folder / "NN_config.par").write_text(NEWER, encoding="utf-8")
    (folder / "init_qSpace_pot.par").write_text("0.0 -40 -100\n0.5 -20.5 -70\n3 0 0\n", encoding="utf-8")
    return folder


BUNDLES = {
    "III-V": lambda folder: copy(III_V, folder),
    "CdSe": lambda folder: copy(CDSE, folder),
    "every file": full,
    "driver": monte_carlo,
    "annealed": annealed,
    "table": from_table,
}


@pytest.mark.parametrize(
    ("name", "inline"),
    [(name, inline) for name in BUNDLES for inline in (False, True) if (name, inline) != ("III-V", True)],
)
def test_round_trip(tmp_path, name, inline):
    """bundle -> training file -> bundle: the same options and the same numbers, to the last digit."""
    config = read_bundle(BUNDLES[name](tmp_path / "bundle"))
    to_yaml(config, tmp_path / "train.yaml", inline)
    again = load_config(tmp_path / "train.yaml")
    assert differences(config, again) == []
    to_bundle(again, tmp_path / "again")
    assert differences(config, read_bundle(tmp_path / "again")) == []
    if not inline:
        assert "/" not in (tmp_path / "train.yaml").read_text().replace("bundle/", "")  # names relative to the file


def test_every_file_is_read(tmp_path):
    config = read_bundle(full(tmp_path / "bundle"))
    (system,) = load_systems(config.systems)
    assert system.name == "zbCdSe" and system.relative_band == 7 and system.gap_kpoint == 20
    assert system.transitions[1] == Transition(20, 7, 40, 8, 0.99, 1.75, 0.5)
    assert system.band_weights.shape == (61, 16) and system.band_weights[5].tolist() == list(range(16))
    assert system.band_order[3, :3].tolist() == [1, 0, 2]
    assert system.qpoints.tolist() == [[0.5] * 3, [0.1] * 3] and system.q_weights.tolist() == [1, 2]
    assert (system.masses.electron, system.masses.hole, system.masses.weight) == (0.12, 0.45, 2.0)
    assert len(system.couplings) == 2 * 2 * 3 * 2 - 4
    found = {(c.atom, c.edge, c.axis, c.q): c.target for c in system.couplings}
    assert found[1, "conduction", 1, 0] == 1.5 and found[0, "valence", 0, 1] == 0.69
    terms = config.model.terms
    assert terms.spin_orbit and terms.non_local and terms.long_range and not terms.cache and not terms.strain
    assert config.model.trainable == ["network", "long_range", "spin_orbit", "nonlocal"]


def test_driver_bundle(tmp_path):
    config = read_bundle(monte_carlo(tmp_path / "bundle"))
    (system,) = load_systems(config.systems)
    assert (system.band_weights == 0).sum() == 1 and system.band_weights[0, 0] == 0
    first, second = config.train_schedule
    moves, objective = first.monte_carlo, first.objective
    assert (first.name, second.name) == ("mcOpts1", "mcOpts2")
    assert first.length * moves.moves_per_batch == 20 and moves.tempering == "two_temperatures"
    assert moves.betas == [100, 1] and moves.steps_at == [5, 4] and moves.step_factors == [1, 2]
    assert moves.steps["Se"][0] == 0.5
    assert objective.gaps and objective.mean and not second.objective.gaps and objective.deformation == 0


@pytest.mark.parametrize("rows, expected", [
    ("12 15 1.01 -2.70 1.50   # VBM\n12 8 0.99 2.60 0.50\n", [Transition(None, None, 12, 15, 1.01, -2.7, 1.5),
                                                              Transition(None, None, 12, 8, 0.99, 2.6, 0.5)]),
    ("12 7 30 8 1.01 -7.5 1\n", [Transition(12, 7, 30, 8, 1.01, -7.5, 1.0)]),
    ("-2.7\n2.6\n", [Transition(None, None, 20, 7, 1.01, -2.7, 1.0), Transition(None, None, 20, 8, 1.01, 2.6, 1.0)]),
])  # fmt: skip
def test_three_forms_of_deformation_potentials(tmp_path, rows, expected):
    path = tmp_path / "expDefPot_0.par"
    path.write_text(rows, encoding="utf-8")
    assert list(files.read_deformation(path, 61, 16, (20, 7, 8))) == expected
    if "\n12" in rows or rows.startswith("12"):
        write.write_deformation(path, expected)
        assert list(files.read_deformation(path, 61, 16, None)) == expected


def test_mixed_deformation_potentials_are_no_published_table(tmp_path):
    mixed = [Transition(None, None, 1, 2, 1.01, 1.0, 1.0), Transition(1, 2, 3, 4, 1.01, 1.0, 1.0)]
    with pytest.raises(InputError, match="1 single states and 1 transitions; a published table holds one kind"):
        write.write_deformation(tmp_path / "a.par", mixed)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": {"basis": "complete"}}, "a published bundle cannot say: model.basis: complete"),
        ({"model": {"terms": {"strain": True}}}, "model.terms.strain: True"),
        (
            {"model": {"local": {"form": "neural", "activation": "tanh", "start": "he"}}},
            "no class for this model.local: tanh, he, none",
        ),
        (
            {
                "model": {
                    "local": {
                        "form": "neural",
                        "dropout": 0.1,
                        "normalisation": "batch",
                        "activation": "relu",
                        "start": "xavier",
                    }
                }
            },
            "model.local.dropout: 0.1",
        ),
        ({"objective": {"bands": 2.0}}, "objective.bands: 2.0"),
        ({"training": {"hold_out": 3}}, "training.hold_out: 3"),
        ({"train_schedule": [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 1}]}, "train_schedule: 2 stages, of"),
    ],
)
def test_what_a_bundle_cannot_say(tmp_path, changes, expected):
    data = read_bundle(CDSE).model_dump()
    for section, values in changes.items():
        data[section] = data[section] | values if isinstance(values, dict) else values
    config = type(read_bundle(CDSE)).model_validate(data)
    with pytest.raises(InputError) as caught:
        to_bundle(config, tmp_path / "bundle")
    assert expected in str(caught.value) and not (tmp_path / "bundle").exists()


def test_network_by_its_parts_is_a_published_class(tmp_path):
    data = read_bundle(CDSE).model_dump()
    envelope = {"type": "gaussian", "std": 3.0}
    data["model"]["local"] = {"form": "neural", "activation": "celu", "start": "he", "envelope": envelope}
    config = type(read_bundle(CDSE)).model_validate(data)
    to_bundle(config, tmp_path / "bundle")
    local = read_bundle(tmp_path / "bundle").model.local
    assert (local.ppmodel, local.envelope.std) == ("Net_celu_HeInit_decayGaussian", 3.0)
