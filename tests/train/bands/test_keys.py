"""Every key of published settings files: it sets the option that the table says, changes nothing, or is refused."""

import pytest
from fp_potential.train.bands.bundle.convert import differences
from fp_potential.train.bands.bundle.keys import INPUT_KEYS, MC_KEYS, NN_KEYS, TABLES, answer
from fp_potential.train.bands.bundle.read import read_bundle
from fp_potential.train.bands.config import BandsTrainConfig
from fp_potential.train.bands.config.model import CLASSES
from fp_potential.train.config.command_line import option_type
from fp_potential.train.errors import InputError

from fp_potential.bands.published_forms import FAMILIES
from train.bands.bundles import CDSE, III_V, NEWER, change, copy

#: keys of the published documentation
DOCUMENTED = """
PPmodel hiddenLayers nSystem num_cores SHOWPLOTS separateKptGrad checkpoint memory_flag runtime_flag printGrad SObool
cacheSO PPmodel_decay_rate PPmodel_decay_center PPmodel_gaussian_std PPmodel_scale penalize_starting penalize_lambda
penalize_mag_threshold penalize_mag_lambda init_Zunger_num_epochs init_Zunger_optimizer init_Zunger_optimizer_lr
init_Zunger_scheduler_gamma init_Zunger_plotEvery init_Zunger_printGrad max_num_epochs optimizer optimizer_lr
sgd_momentum adam_beta1 adam_beta2 scheduler_gamma schedulerStep plotEvery patience perturbEvery pre_adjust_moves
pre_adjust_stepSize mc_bool mc_iter mc_perturb_mode mc_percentage mc_beta mc_beta_schedule smooth_reorder eigvec_reorder
""".split()
DOCUMENTED_INPUT = """
nBands maxKE idxVB idxCB idxGap BS_plot_center BS_plot_CBVB_range BS_plot_CBVB_range_zoom systemName fit_defPot
relE_bIdx
""".split()
DOCUMENTED_MC = """
betas stepsAtTemp tempStepSizeMod totalIter fitDefPot fitCoupling fitEffMass optGaps defPotWeight writePerIter
""".split()

MONTE_CARLO = "max_num_epochs = 0\nmc_bool = 1\nmc_iter = 6\nmc_percentage = 0.1\nmc_beta = 2.0\n"
DECAY = "PPmodel = Net_celu_HeInit_decay\nPPmodel_decay_rate = 1\nPPmodel_decay_center = 5"
#: key -> a value that changes its option, and settings that it needs besides
VALUES = {
    "PPmodel": ("Net_sigmoid_xavier_decayGaussian", ""),
    "hiddenLayers": ("8 8", ""),
    "num_cores": ("2", "num_threads = 1"),
    "num_threads": ("3", ""),
    "separateKptGrad": ("0", ""),
    "printGrad": ("1", ""),
    "SObool": ("1", ""),
    "cacheSO": ("0", "SObool = 1"),
    "LRgamma": ("0.3", ""),
    "PPmodel_decay_rate": ("1.1", DECAY),
    "PPmodel_decay_center": ("5.5", DECAY),
    "PPmodel_gaussian_std": ("2.5", ""),
    "PPmodel_scale": ("1.0 0.5", "PPmodel = Net_celu_HeInit_scale_decayGaussian\nPPmodel_scale = 1 1"),
    "penalize_starting": ("6.0", ""),
    "penalize_lambda": ("20.0", ""),
    "penalize_mag_threshold": ("40.0", "penalize_mag_lambda = 1\npenalize_mag_threshold = 30"),
    "penalize_mag_lambda": ("2.0", "penalize_mag_threshold = 30"),
    "init_Zunger_num_epochs": ("20", ""),
    "init_Zunger_optimizer": ("sgd", ""),
    "init_Zunger_optimizer_lr": ("0.2", ""),
    "init_Zunger_scheduler_gamma": ("0.8", ""),
    "init_Zunger_plotEvery": ("5", ""),
    "init_Zunger_printGrad": ("1", ""),
    "max_num_epochs": ("7", ""),
    "optimizer": ("sgd", ""),
    "optimizer_lr": ("0.002", ""),
    "longRange_lr": ("0.1", ""),
    "sgd_momentum": ("0.5", ""),
    "adam_beta1": ("0.8", ""),
    "adam_beta2": ("0.99", ""),
    "scheduler_gamma": ("0.5", ""),
    "schedulerStep": ("4", ""),
    "plotEvery": ("2", ""),
    "patience": ("3", ""),
    "perturbEvery": ("4", ""),
    "pre_adjust_moves": ("2", ""),
    "pre_adjust_stepSize": ("0.1", ""),
    "mc_bool": ("1", "max_num_epochs = 0\nmc_iter = 6\nmc_percentage = 0.1\nmc_beta = 2.0"),
    "mc_iter": ("600", MONTE_CARLO),
    "mc_perturb_mode": ("3", MONTE_CARLO),
    "mc_percentage": ("0.2", MONTE_CARLO),
    "mc_beta": ("3.0", MONTE_CARLO),
    "mc_beta_schedule": ("betas.txt", MONTE_CARLO),
    "smooth_reorder": ("1", ""),
    "eigvec_reorder": ("1", ""),
    "Rmax": ("20.0", ""),
    "qmax": ("30.0", ""),
    "nQGrid": ("1024", ""),
    "nRGrid": ("512", ""),
}
ONE_OF_TWO = {"nSystem": "systems"}  #: keys that say how many there are of something, and set nothing


def bundle(folder, settings):
    """The CdSe bundle with newer settings and these over them."""
    copy(CDSE, folder)
    given = dict(line.split(" = ") for line in settings.splitlines() if line)
    kept = [line for line in NEWER.splitlines() if "=" in line and line.split(" = ")[0] not in given]
    text = "\n".join([*kept, *(f"{key} = {value}" for key, value in given.items())]) + "\n"
    (folder / "NN_config.par").write_text(text, encoding="utf-8")
    (folder / "betas.txt").write_text("0 1.0\n3 2.0\n", encoding="utf-8")
    return folder


def test_documented_keys_are_in_the_tables():
    assert set(DOCUMENTED) <= set(NN_KEYS)
    assert set(DOCUMENTED_INPUT) <= set(INPUT_KEYS)
    assert set(DOCUMENTED_MC) <= set(MC_KEYS)
    shipped = {line.split("=")[0].strip() for line in (III_V / "NN_config.par").read_text().splitlines() if "=" in line}
    assert shipped <= set(NN_KEYS)
    placed = {name for name, key in NN_KEYS.items() if key.place}
    assert placed == set(VALUES) | set(ONE_OF_TWO)


@pytest.mark.parametrize("file", TABLES)
def test_each_key_has_one_answer(file):
    """Its option exists in the training file, or there is a reason."""
    for name, key in TABLES[file].items():
        assert sum(map(bool, (key.place, key.idle, key.refused))) == 1 and answer(key), name
        if key.place and "." in key.place:
            option_type(key.place.replace("stage.", "train_schedule.0."), BandsTrainConfig)
        elif key.place:
            option_type("systems" if key.place == "systems" else f"systems.0.{key.place}", BandsTrainConfig)


@pytest.mark.parametrize("name", VALUES)
def test_key_sets_its_option(tmp_path, name):
    """And no other one, but those of its stage that follow from it."""
    value, besides = VALUES[name]
    before = read_bundle(bundle(tmp_path / "before", besides))
    after = read_bundle(bundle(tmp_path / "after", f"{besides}\n{name} = {value}"))
    place = NN_KEYS[name].place.replace("stage.", "train_schedule.0.")
    changed = [line.partition(":")[0] for line in differences(before, after)]
    assert any(option == place or place.startswith(f"{option}.") for option in changed), changed
    follow = {
        "SObool": ["model.terms.non_local"],
        "schedulerStep": ["training.initialise.fit.gamma_epochs"],
        "patience": ["train_schedule.0.paced_by"],
        "mc_percentage": ["train_schedule.0.monte_carlo.relative_step"],
    }.get(name, [])
    own = [option for option in changed if not (place.startswith(option) or option in follow)]
    if name not in ("mc_bool", "max_num_epochs", "mc_iter"):  # the stage is another one
        assert own == []


@pytest.mark.parametrize("name", [name for name, key in NN_KEYS.items() if key.idle])
def test_idle_key_is_said(tmp_path, name):
    notes: list[str] = []
    one = read_bundle(bundle(tmp_path / "before", ""))
    other = read_bundle(bundle(tmp_path / "after", f"{name} = 1"), notes=notes)
    assert differences(one, other) == []
    assert f"NN_config.par: {name}: {NN_KEYS[name].idle}" in notes


@pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, table in TABLES.items() for name, key in table.items() if key.refused]
)
def test_refused_key_gives_its_reason(tmp_path, file, name):
    folder = bundle(tmp_path / "bundle", "max_num_epochs = 0" if file.startswith("mc") else "")
    change(folder / file.replace("X", "0").replace("*", "1"), "", f"\n{name} = 1\n")
    with pytest.raises(InputError) as caught:
        read_bundle(folder)
    assert TABLES[file][name].refused in str(caught.value)


def test_settings_over_those_of_the_file():
    """Keys of a bundle and dotted options, as on the command line."""
    config = read_bundle(III_V, ["optimizer_lr=0.001", "hiddenLayers=8 8", "training.seed=3", "systems.0.max_ke=4"])
    assert config.train_schedule[0].lr == 0.001 and config.model.local.hidden_layers == [8, 8]
    assert config.training.seed == 3 and config.systems[0].max_ke == 4
    with pytest.raises(InputError, match=r"got 'quick', expected a number"):
        read_bundle(III_V, ["optimizer_lr=quick"])


def test_classes_are_those_of_the_model():
    """The catalogue in the training file, which takes no torch, is that of the networks."""
    assert list(CLASSES) == list(FAMILIES)
    for name, family in FAMILIES.items():
        activation, start, normalisation, envelope = CLASSES[name]
        assert (activation, start, envelope) == (family.activation, family.start, family.envelope)
        assert (normalisation == "batch") == (family.normalisation == "batch_norm")
