"""Wrong bundles: each mistake is one sentence with file, line and column, what was expected and what to do."""

import re

import numpy as np
import pytest
import yaml
from fp_potential.train.bands.bundle.read import read_bundle
from fp_potential.train.bands.config import load_config
from fp_potential.train.bands.systems import load_system, load_systems
from fp_potential.train.errors import InputError

from bands_training import bands_config, bands_problem, system
from train.bands.bundles import CDSE, NEWER, change, copy

CONFIG, SYSTEM, INPUT = "NN_config.par", "system_0.par", "input_0.par"
KPOINTS, BANDS, WEIGHTS = "kpoints_0.par", "expBandStruct_0.par", "bandWeights_0.par"
DEFORMATION, COUPLINGS, ORDER = "expDefPot_0.par", "expCoupling_0.par", "kpoints_0_orderMatrix.par"
REMOVED = None
RISING = " ".join(map(str, range(16))) + "\n"

#: name -> (changes of the CdSe bundle with newer settings: file, old text, new text), what the message says
WRONG: dict[str, tuple[list[tuple[str, str, str | None]], str]] = {
    "unknown key": (
        [(CONFIG, "\noptimizer_lr", "\noptimiser_lr")],
        "NN_config.par:14:1: got 'optimiser_lr', expected a key that exists; did you mean 'optimizer_lr'?",
    ),
    "key twice": (
        [(CONFIG, "", "SObool = 1\n")],
        "NN_config.par:20:1: got 'SObool', expected each key once (it is also in line 6); remove one",
    ),
    "no value": (
        [(CONFIG, "optimizer = adamw", "optimizer =")],
        "NN_config.par:13: 'optimizer' has no value, expected optimizer = VALUE; or remove the line",
    ),
    "no equals": ([(CONFIG, "SObool = 0", "SObool 0")], "NN_config.par:6: got 'SObool 0', expected KEY = VALUE"),
    "word for a number": ([(CONFIG, "0.01", "fast")], "NN_config.par:14:16: got 'fast', expected a number"),
    "two values": (
        [(CONFIG, "adamw", "adamw"), (CONFIG, "= 5", "= 5 6")],
        "NN_config.par:12:20: got '6', expected one value for max_num_epochs; remove what follows it, "
        "or write it behind #",
    ),
    "fraction of an epoch": (
        [(CONFIG, "max_num_epochs = 5", "max_num_epochs = 5.5")],
        "NN_config.par:12:18: got '5.5', expected an integer for max_num_epochs",
    ),
    "truth": ([(CONFIG, "SObool = 0", "SObool = yes")], "NN_config.par:6:10: got 'yes', expected 0 or 1 for SObool"),
    "both modes": (
        [(CONFIG, "", "mc_bool = 1\n")],
        "NN_config.par:20:11: got '1', expected 0 beside max_num_epochs = 5: a bundle is trained by "
        "gradients or by Monte Carlo for mc_bool; set one of them to 0, or chain both",
    ),
    "Monte Carlo without beta": (
        [(CONFIG, "max_num_epochs = 5", "mc_bool = 1\nmc_iter = 5\nmc_percentage = 0.1")],
        "NN_config.par:12:11: got '1', expected mc_beta beside it for mc_bool; add mc_beta",
    ),
    "both orders": (
        [(CONFIG, "", "smooth_reorder = 1\neigvec_reorder = 1\n")],
        "NN_config.par:21:18: got '1', expected 0 beside smooth_reorder = 1: bands have one order for "
        "eigvec_reorder; set one of them to 0",
    ),
    "cache of nothing": (
        [(CONFIG, "", "cacheSO = 1\n")],
        "NN_config.par:20:11: got '1', expected 0 where SObool = 0: there is nothing to keep for "
        "cacheSO; set SObool = 1, or cacheSO = 0",
    ),
    "local environment": (
        [(CONFIG, "", "local_env_corr = 1\n")],
        "expected no local_env_corr = True; the correction of potentials by their local environment is "
        "another learned model",
    ),
    "sparse optimiser": (
        [(CONFIG, "adamw", "sparseadam")],
        "got 'sparseadam', expected another optimiser for optimizer; it is for sparse gradients",
    ),
    "unknown optimiser": (
        [(CONFIG, "adamw", "adan")],
        "NN_config.par:13:13: got 'adan', expected an optimiser for optimizer; did you mean 'adam'?",
    ),
    "gradient without a rate": (
        [(CONFIG, "optimizer_lr = 0.01\n", "")],
        "got '5', expected optimizer_lr beside it for max_num_epochs; add its learning rate",
    ),
    "fit without a rate": (
        [(CONFIG, "init_Zunger_optimizer_lr = 0.1\n", "")],
        "got '10', expected init_Zunger_optimizer_lr beside it for init_Zunger_num_epochs",
    ),
    "penalty without a start": (
        [(CONFIG, "penalize_starting = 4.5\n", "")],
        "got '50.0', expected penalize_starting beside it for penalize_lambda; add penalize_starting, "
        "or remove penalize_lambda",
    ),
    "unknown network": (
        [(CONFIG, "Net_celu_HeInit_decayGaussian", "Net_celu_HeInit_decayGauss")],
        "option 'model.local.ppmodel': no such class; did you mean 'Net_celu_HeInit_decayGaussian'?",
    ),
    "network without its width": (
        [(CONFIG, "PPmodel_gaussian_std = 2.0\n", "")],
        "NN_config.par:3:11: got 'Net_celu_HeInit_decayGaussian', expected PPmodel_gaussian_std beside it for PPmodel",
    ),
    "network without layers": ([(CONFIG, "hiddenLayers = 20 20\n", "")], "expected hiddenLayers beside it for PPmodel"),
    "scale of two species": (
        [(CONFIG, "HeInit_decay", "HeInit_scale_decay"), (CONFIG, "", "PPmodel_scale = 1.0\n")],
        "NN_config.par:20:17: got '1.0', expected 2 numbers, one for each species",
    ),
    "more systems than files": (
        [(CONFIG, "nSystem = 1", "nSystem = 2")],
        "NN_config.par: nSystem = 2 means system_0.par … system_1.par, found system_0.par; change "
        "nSystem or rename files",
    ),
    "no bands": (
        [(BANDS, "", REMOVED)],
        "expBandStruct_0.par: does not exist; expected one for each system of the bundle",
    ),
    "no parameters": (
        [("init_SeParams.par", "", REMOVED)],
        "init_SeParams.par: does not exist; expected the parameters a0 … a8 of Se, one in each line",
    ),
    "seven parameters": (
        [("init_SeParams.par", "", "\n1.0\n2.0\n")],
        "init_SeParams.par: 7 parameters, expected 9 (a0 … a8), 5 (a0 … a3 and strain) or 4 (a0 … a3)",
    ),
    "parameter that is a word": (
        [("init_SeParams.par", "8.4921", "8,4921")],
        "init_SeParams.par:1:1: got '8,4921', expected a number",
    ),
    "cell in a plane": (
        [(SYSTEM, "0.5  0.5  0.0", "0.5  0.5  1.0")],
        "system_0.par: the three vectors of the cell lie in a plane; expected a cell with a volume",
    ),
    "cell of two vectors": (
        [(SYSTEM, "0.5  0.5  0.0\n", "")],
        "system_0.par: no complete 'cell'; expected 'cell' with three vectors",
    ),
    "atom without z": (
        [(SYSTEM, "Cd 0.125  0.125  0.125", "Cd 0.125  0.125")],
        "system_0.par:9: 3 words, expected SPECIES x y z with fractional coordinates",
    ),
    "atom twice": (
        [(SYSTEM, "Cd 0.125  0.125  0.125", "Cd 0.125  0.125  0.125\nSe 1.125  0.125  0.125")],
        "atoms 0 (Cd) and 1 (Se) of the cell are at one place",
    ),
    "atom without a name": ([(SYSTEM, "Cd 0.125", "0.125 0.125")], "system_0.par:9:1: got '0.125', expected a species"),
    "scale below zero": (
        [(SYSTEM, "11.4485278", "-11.4485278")],
        "system_0.par:1:9: got '-11.4485278', expected a scale above zero, in Bohr",
    ),
    "no cutoff": ([(INPUT, "maxKE = 10", "")], "input_0.par: no maxKE; expected maxKE = NUMBER"),
    "band beyond the last": (
        [(INPUT, "", "\nidxVB = 16\n")],
        "input_0.par:3:9: got '16', expected the number of a band, 0 … 15 (nBands) for idxVB; indices count from 0",
    ),
    "edges that cross": (
        [(INPUT, "", "\nidxVB = 8\nidxCB = 7\n")],
        "option 'systems.0': conduction_band 7 is not above valence_band 8",
    ),
    "flag without its table": (
        [(INPUT, "", "\nfit_defPot = 1\n")],
        "input_0.par:3:14: got '1', expected the file expDefPot_0.par beside it for fit_defPot; add ",
    ),
    "two numbers for a k-point": (
        [(KPOINTS, "0.475000000000 0.475000000000 0.475000000000 1.0", "0.475 0.475")],
        "kpoints_0.par:2: 2 columns, expected 4 as in line 1",
    ),
    "five numbers for k-points": (
        [(KPOINTS, "", REMOVED), (KPOINTS, "", "0 0 0 1 1\n")],
        "kpoints_0.par:1: 5 columns, expected 3 or 4 columns: k-points: k1 k2 k3, or k1 k2 k3 weight",
    ),
    "weight below zero": (
        [(KPOINTS, "0.475000000000 1.0", "0.475000000000 -1.0")],
        "kpoints_0.par:2:46: got '-1.0', expected a weight of zero or more",
    ),
    "k-point too much": (
        [(KPOINTS, "", "\n0 0 0 1\n")],
        "expBandStruct_0.par: 61 rows, expected 62: one for each k-point",
    ),
    "band too many": (
        [(INPUT, "nBands = 16", "nBands = 15")],
        "expBandStruct_0.par:1: 17 columns, expected 16: the length along the path and 15 energies "
        "(nBands); change nBands, or complete the row",
    ),
    "infinite energy": (
        [(BANDS, "-19.9419263358807228", "inf")],
        "expBandStruct_0.par:1:10: got 'inf', expected an energy in eV that is finite",
    ),
    "no energy to be relative to": (
        [(INPUT, "", "\nrelE_bIdx = 0\n"), (BANDS, "-19.9419263358807228", "nan")],
        "relative_band 0: the reference has no energy of this band at k-point 0, expected one at each k-point",
    ),
    "weights of other bands": (
        [(WEIGHTS, "", "1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n")],
        "bandWeights_0.par: 15 rows with 15 weights, expected 16 (nBands)",
    ),
    "order that repeats": (
        [(ORDER, "", RISING * 60 + RISING.replace("0 1", "0 0", 1))],
        "kpoints_0_orderMatrix.par:61: the numbers do not occur once each, expected 0 … 15 in some order",
    ),
    "deformation of six columns": (
        [(DEFORMATION, "", "0 7 0 8 1.01 -2.7\n")],
        "expDefPot_0.par:1: 6 columns, expected 5 (k b ratio target weight) or 7 (k_VB b_VB k_CB b_CB "
        "ratio target weight)",
    ),
    "deformation of no k-point": (
        [(DEFORMATION, "", "# k b\n61 7 1.01 -2.7 1\n")],
        "expDefPot_0.par:2:1: got '61', expected the number of a k-point, 0 … 60; indices count from 0",
    ),
    "deformation of half a band": (
        [(DEFORMATION, "", "20 7 20 8.5 1.01 -2.7 1\n")],
        "expDefPot_0.par:1:9: got '8.5', expected the number of a band",
    ),
    "deformation without one": (
        [(DEFORMATION, "", "20 7 1.00 -2.7 1\n")],
        "expDefPot_0.par:1:6: got '1.00', expected a ratio of lattice constants above zero that is not 1; such as 1.01",
    ),
    "legacy deformation": (
        [(DEFORMATION, "", "-2.7\n2.6\n")],
        "expDefPot_0.par: two numbers, of the valence and the conduction edge, need idxVB, idxCB and idxGap",
    ),
    "coupling of another atom": (
        [
            ("qpoints_0.par", "", "0 0 0 1\n"),
            (INPUT, "", "\nfit_eph = 1\n"),
            (COUPLINGS, "", "Atom idx = 0   atom = Se   position = X\n"),
        ],
        "expCoupling_0.par:1:23: got 'Se', expected Cd, atom 0 of the crystal",
    ),
    "couplings without q-points": (
        [(COUPLINGS, "", "Atom idx = 0\n"), (INPUT, "", "\nfit_eph = 1\n")],
        "option 'systems.0': couplings need qpoints",
    ),
    "coupling too few": (
        [
            ("qpoints_0.par", "", "0 0 0 1\n0.1 0 0 1\n"),
            (INPUT, "", "\nfit_eph = 1\n"),
            (COUPLINGS, "", "Atom idx = 0\nvb-vb coupling elements. polarization = x\n0.1\n"),
        ],
        "expCoupling_0.par:3: 1 numbers, expected 2: one for each q-point",
    ),
    "state without its network": (
        [("init_AdamState.pth", "", "x")],
        "init_AdamState.pth: a state of the optimiser without init_PPmodel.pth; add that file, or remove this one",
    ),
    "schedule that goes back": (
        [
            (CONFIG, "max_num_epochs = 5", "mc_bool = 1\nmc_iter = 5\nmc_percentage = 0.1\nmc_beta = 1"),
            ("mc_beta_schedule", "", "0 1.0\n10 2.0\n5 3.0\n"),
        ],
        "mc_beta_schedule:3:1: got '5', expected the number of a move above 10; moves must increase",
    ),
    "steps of one species": (
        [
            (CONFIG, "max_num_epochs = 5", "mc_bool = 1\nmc_iter = 5\nmc_percentage = 0.1\nmc_beta = 1"),
            ("CdParamSteps.par", "", "0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n"),
        ],
        "SeParamSteps.par: does not exist, but CdParamSteps.par does; expected all or none",
    ),
    "one temperature": (
        [(CONFIG, "max_num_epochs = 5", ""), ("mcOpts1.par", "", "betas = 100\ntotalIter = 5\n")],
        "mcOpts1.par:1:9: got '100', expected two numbers, one for each temperature for betas",
    ),
    "no iterations": (
        [(CONFIG, "max_num_epochs = 5", ""), ("mcOpts1.par", "", "betas = 100 1\n")],
        "mcOpts1.par: no totalIter; expected totalIter = NUMBER of trial moves",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bundle(tmp_path, name):
    folder = copy(CDSE, tmp_path / "bundle")
    (folder / CONFIG).write_text(NEWER, encoding="utf-8")
    load_systems(read_bundle(folder).systems)  # right before it is changed
    changes, expected = WRONG[name]
    for file, old, new in changes:
        if new is REMOVED:
            (folder / file).unlink()
        else:
            change(folder / file, old, new)
    with pytest.raises(InputError) as caught:
        load_systems(read_bundle(folder).systems)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_windows(tmp_path):
    """Lines that end with CR LF, and files that begin with a byte-order mark, are the same bundle."""
    folder = copy(CDSE, tmp_path / "bundle")
    (folder / CONFIG).write_text(NEWER, encoding="utf-8")
    before = read_bundle(folder).model_dump_json(), load_systems(read_bundle(folder).systems)[0].reference
    for file in folder.glob("*.par"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_bundle(folder).model_dump_json() == before[0]
    assert (load_systems(read_bundle(folder).systems)[0].reference == before[1]).all()


def test_no_bundle(tmp_path):
    with pytest.raises(InputError, match=r"not a bundle: expected a folder with NN_config\.par, or with system_0\.par"):
        read_bundle(tmp_path)


#: name -> (path of the option in the training file, its new value), what the message says
WRONG_FILES: dict[str, tuple[tuple, object, str]] = {
    "no type": (("model", "type"), None, "option 'model.type'"),
    "unknown option": (("systems", 0, "max_kE"), 6, "unknown option 'systems.0.max_kE'; did you mean 'max_ke'?"),
    "two crystals": (("systems", 0, "structure"), "a.cif", "give structure: FILE or cell: {...}, one of them"),
    "no crystal": (("systems", 0, "cell"), None, "give structure: FILE or cell: {...}, one of them"),
    "missing k-points": (("systems", 0, "kpoints"), "none.par", "none.par: does not exist; expected a file with k-p"),
    "row of k-points": (("systems", 0, "kpoints", 1), [0.0, 0.5], "systems.0.kpoints.1: 2 numbers, expected 3 or 4"),
    "row of bands": (("systems", 0, "bands", 1), [0.0, 0.5], "systems.0.bands.1: 2 numbers, expected 3, as in all"),
    "rows of bands": (("systems", 0, "bands"), [[0.0, 0.0, 0.0]], "systems.0.bands: 1 rows, expected 3: one for each"),
    "weights": (("systems", 0, "band_weights"), [1.0], "systems.0.band_weights: shape (1,), expected 2 weights"),
    "negative weight": (("systems", 0, "band_weights"), [-1.0, 1.0], "a weight is -1; expected zero or more"),
    "gap beyond the path": (("systems", 0, "gap_kpoint"), 3, "systems.0.gap_kpoint 3 is beyond the 3 k-points"),
    "relative band": (("systems", 0, "relative_band"), 2, "relative_band 2 is beyond n_bands 2"),
    "deformation": (("systems", 0, "deformation"), [[3, 1, 1.01, -2.7, 1]], "systems.0.deformation:1:1: got '3'"),
    "same names": (("systems", 1, "name"), "InAs", "systems: the name InAs is given twice; names must differ"),
    "nothing to fit": (("systems", 0, "bands"), None, "systems.0 has no bands to fit: give bands: FILE"),
    "parameters": (
        ("model", "parameters", "In"),
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        "species In: 6 parameters, expected 9 (a0 … a8)",
    ),
    "class of another form": (("model", "local", "form"), "zero", "ppmodel 'Net_relu_xavier_decay2' belongs to form"),
    "table of a network": (
        ("model", "local"),
        {"form": "neural", "table": "a"},
        "table belongs to form: table, not to",
    ),
    "neutral by nobody": (("model", "terms"), {"neutral_by": "Cd"}, "terms.neutral_by 'Cd' has no parameters; species"),
    "no objective": (("objective",), {"bands": 0.0, "deformation": 0.0, "coupling": 0.0, "masses": 0.0}, "no term has"),
    "table of the start": (("training", "initialise"), {"method": "table"}, "method: table and table: FILE go"),
    "temperatures": (
        ("train_schedule", 0),
        {
            "name": "a",
            "epochs": 1,
            "workflow": "monte_carlo",
            "monte_carlo": {"tempering": "two_temperatures", "betas": [1, 2, 3]},
        },
        "has two betas, got 3",
    ),
    "k-point that is no number": (("systems", 0, "kpoints", 1), [float("nan"), 0.0, 0.0], "a finite number"),
    "infinite energy": (("systems", 0, "bands", 1), [0.1, float("inf"), 0.0], "systems.0.bands: an energy is infinite"),
    "endless cutoff": (("systems", 0, "max_ke"), float("inf"), "option 'systems.0.max_ke': input should be a finite"),
    "parameter that is no number": (("model", "parameters", "In"), [float("nan")] * 4, "a finite number"),
    "negative weight of masses": (("systems", 0, "masses"), [0.1, 0.4, -1.0], "masses: weight -1, expected zero or"),
    "kernel": (("train_schedule", 0, "perturbation"), {"kernel": 8}, "option 'train_schedule.0.perturbation.kernel'"),
}


#: a small training file, its tables written out
RIGHT = """
model:
  type: bands
  local: {form: neural, ppmodel: Net_relu_xavier_decay2}
  parameters: {In: [50.6, 2.2, 3.0, 0.5], As: [25.8, 2.6, 1.6, 0.5]}
systems:
- name: InAs
  cell:
    scale: 11.4
    vectors: [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    atoms: [[In, 0, 0, 0], [As, 0.25, 0.25, 0.25]]
  max_ke: 6
  n_bands: 2
  kpoints: [[0, 0, 0], [0.1, 0.1, 0.1], [0.5, 0.5, 0.5]]
  bands: [[0, -15.6, -15.6], [0.1, -15.5, -15.5], [0.5, -14.0, nan]]
- {name: GaAs, structure: a.cif, max_ke: 6, n_bands: 2, kpoints: k.par, bands: b.par}
objective: {}
training: {}
train_schedule: [{name: gradient, epochs: 2}]
"""


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_training_file(tmp_path, name):
    file = tmp_path / "train.yaml"
    data = yaml.safe_load(RIGHT.replace("nan", ".nan"))
    place, value, expected = WRONG_FILES[name]
    section = data
    for part in place[:-1]:
        section = section[part]
    if value is None:
        del section[place[-1]]
    else:
        section[place[-1]] = value
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_system(load_config(file).systems[0], "systems.0")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_ke": 1e7}, "GaAs: a cutoff of 1e+07 Ha means about 4.6"),
        ({"kpoints": [[0.0, 0.0, 0.0, 0.0]]}, "stage 'descent' has nothing to fit: no energy of the reference"),
        ({"kpoints": [[0, 0, 0], [3, 0, 3]]}, "GaAs: k-point 1, 3 0 3, has |k|²/2 = 6.2"),
        ({"max_ke": 0.5}, "GaAs: 10 bands, but 1 plane waves below 0.5 Ha have 2"),
    ],
)
def test_plane_waves_for_the_bands(options, expected):
    with pytest.raises(InputError, match=re.escape(expected)):
        bands_problem(bands_config(systems=[system("Ga", **options)]))


def test_right_training_file(tmp_path):
    """That of which they are changes."""
    file = tmp_path / "train.yaml"
    file.write_text(RIGHT, encoding="utf-8")
    system = load_system(load_config(file).systems[0])
    assert system.band_weights.tolist() == [[1, 1], [1, 1], [1, 0]]
    assert system.reference is not None and np.isfinite(system.reference).all()
