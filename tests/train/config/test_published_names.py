"""Names of the published method: where each option is here, what the others mean, and why some are refused."""

import copy

import pytest
import yaml
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import TrainConfig, load_config
from fp_potential.train.potential.config.published_names import NAMES

#: the method's options: architecture, electrostatics, optimiser, data, running
OPTIONS = {
    "model": "atomic_multipoles_max_l atomic_multipoles_smearing_width kspace_cutoff_factor electrostatic_pbc_method "
    "include_electrostatic_self_interaction include_field_si field_feature_max_l field_feature_widths "
    "field_feature_norms fermi_level_offset fixedpoint_update_config field_readout_config "
    "include_local_electron_energy use_linear_local_charges atom_density_scaling "
    "fixedpoint_initial_charge_head_scale r_max num_radial_basis num_cutoff_basis max_ell correlation num_channels "
    "max_L num_interactions radial_MLP interaction interaction_first avg_num_neighbors",
    "training": "optimizer weight_decay local_charges_weight_decay field_block_weight_decay beta_two amsgrad ema_decay "
    "clip_grad batch_size valid_batch_size seed device default_dtype",
    "statistics": "E0s",
    "data": "valid_fraction",
}
OTHER_NAMES = (
    "model hidden_irreps MLP_irreps quadrupole_feature_corrections field_norm_factor return_electrostatic_potentials "
    "scaling ema beta heads train_file valid_file test_file valid_set_seed eval_interval max_num_epochs lr loss "
    "restart_latest scf_convergence_summary name error_table"
).split()

BASE = {
    "files": "a.xyz",
    "keys": {"energy": "E", "atomic_multipoles": "M"},
    "train_schedule": [
        {
            "name": "one",
            "epochs": 1,
            "loss": {"energy_per_atom": 1.0},
            "fixed_point_training_options": {"mode": "direct"},
        }
    ],
}


def read(**options) -> TrainConfig:
    return validate(copy.deepcopy(BASE) | options, TrainConfig, "train.yaml")


def message(**options) -> str:
    with pytest.raises(InputError) as caught:
        read(**options)
    return str(caught.value)


@pytest.mark.parametrize(("section", "name"), [(s, name) for s, names in OPTIONS.items() for name in names.split()])
def test_options_stand_at_the_top_level_or_in_their_section(section, name):
    """With the same result; in both places it is an error that names both."""
    values = {
        "field_readout_config": {"type": "NullFieldReadout"},
        "fixedpoint_update_config": {"type": "ManyBodyUpdate"},
        "atomic_multipoles_max_l": 0,
        "field_feature_max_l": 0,
        "field_feature_widths": [1.0, 2.0],
        "field_feature_norms": None,
        "radial_MLP": [8],
        "electrostatic_pbc_method": "slab",
        "atom_density_scaling": None,
        "interaction": "RealAgnosticInteractionBlock",
        "interaction_first": "RealAgnosticInteractionBlock",
        "E0s": {"H": -1.0},
        "optimizer": "adamw",
        "device": "cuda",
        "default_dtype": "float32",
        "valid_fraction": 0.5,
        "ema_decay": 0.5,
        "beta_two": 0.5,
        "max_L": 2,
        "max_ell": 3,
        "correlation": 3,
        "num_interactions": 3,
    }
    before = getattr(getattr(read(), section), name)
    value = values.get(name, (not before) if isinstance(before, bool) else 2)
    top = read(**{name: value})
    found = getattr(getattr(top, section), name)
    assert (found.model_dump(exclude_unset=True) if hasattr(found, "model_dump") else found) == value
    assert found != before or value is None
    if section != "data":
        assert read(**{section: {name: value}}) == top
        twice = message(**{name: value, section: {name: value}})
        assert f"option '{name}' is given a second time, as '{section}.{name}'" in twice


def test_every_other_name_is_in_the_table():
    missing = [name for name in OTHER_NAMES if name not in NAMES]
    assert not missing
    assert all(entry.meaning and name == entry.name for name, entry in NAMES.items())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_irreps", "128x0e + 128x1o", {"model.num_channels": 128, "model.max_L": 1}),
        ("hidden_irreps", "8x0e+8x1o+8x2e", {"model.num_channels": 8, "model.max_L": 2}),
        ("MLP_irreps", "16x0e", {"model.readout_channels": 16}),
        ("MLP_irreps", "24x0e+24x1o", {"model.readout_channels": 24}),
        ("valid_set_seed", 5, {"data.valid_seed": 5}),
        ("valid_file", "v.xyz", {"data.valid_files": ["v.xyz"]}),
        ("test_file", ["t.xyz", "u.xyz"], {"data.test_files": ["t.xyz", "u.xyz"]}),
        ("eval_interval", 3, {"training.eval_every": 3}),
        ("beta", 0.8, {"training.beta_one": 0.8}),
        ("ema", False, {"training.ema_decay": None}),
        ("name", "water", {"run_dir": "water"}),
    ],
)
def test_names_with_another_name_here(name, value, expected):
    entry = NAMES[name]
    for given in ({name: value}, {entry.section: {name: value}} if entry.section else {name: value}):
        if entry.section == "data" and name not in given:
            given = {"data": given["data"]}
        config = read(**given).model_dump()
        for place, wanted in expected.items():
            found = config
            for part in place.split("."):
                found = found[part]
            assert found == wanted, place


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "FixedPoint"),
        ("quadrupole_feature_corrections", False),
        ("field_norm_factor", 1.0),
        ("field_norm_factor", 1),
        ("return_electrostatic_potentials", True),
        ("return_electrostatic_potentials", False),
        ("scaling", "no_scaling"),
        ("pair_repulsion", False),
        ("ema", True),
        ("restart_latest", True),
        ("scf_convergence_summary", True),
        ("skip_scf_convergence_summary", False),
        ("error_table", "PerAtomRMSE"),
        ("save_cpu", True),
    ],
)
def test_values_that_ask_for_nothing_change_nothing(name, value):
    assert read(**{name: value}) == read()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *(
            ("model", kind, "FixedPoint is what this package trains")
            for kind in ("MACE", "ScaleShiftMACE", "LocalCharges", "LocalSplitCharges", "MACEQEq", "PolarMACE")
        ),
        ("quadrupole_feature_corrections", True, "no quadrupoles"),
        ("field_norm_factor", 2.0, "field_feature_norms"),
        ("field_norm_factor", True, "field_feature_norms"),
        ("scaling", "rms_forces_scaling", "no scale and shift"),
        ("pair_repulsion", True, "core_repulsion"),
        ("max_num_epochs", 100, "each stage of train_schedule says it: epochs, or start and end"),
        ("lr", 0.01, "each stage of train_schedule says it: lr"),
        ("loss", {"forces": 1.0}, "each stage of train_schedule says it: loss"),
        ("restart_latest", False, "--restart"),
        ("scf_convergence_summary", False, "always says how many loops converged"),
        ("skip_scf_convergence_summary", True, "always says how many loops converged"),
        ("ema", 0.5, "expected true or false"),
        ("energy_key", "E", "data.keys, {energy: KEY}"),
        ("atomic_multipoles_key", "M", "data.keys, {atomic_multipoles: KEY}"),
        ("electrostatic_potentials_key", "V", "data.keys, {electrostatic_potentials: KEY}"),
        ("checkpoints_dir", "c", "use run_dir"),
        ("hidden_irreps", "128x0e", "vectors are needed, as in '128x0e + 128x1o'"),
        ("hidden_irreps", "128x0e + 64x1o", "must be the same for every l"),
        ("hidden_irreps", "8x0e + 8x1e", "parity"),
        ("hidden_irreps", "8x0e + 8x2e", "l = 0, 1, … once each"),
        ("hidden_irreps", "large", "expected terms like 128x0e"),
        ("MLP_irreps", "", "expected terms like 128x0e"),
        ("interaction", "RealAgnosticDensityInteractionBlock", "divided by `avg_num_neighbors`"),
        ("interaction_first", "RealAgnosticDensityResidualInteractionBlock", "use RealAgnosticResidualInteraction"),
    ],
)
def test_refused_with_the_reason(name, value, reason):
    said = message(**{name: value})
    assert reason in said and name in said


HEADS = {
    "revPBEd3": {
        "info_keys": {
            "energy": "E_dft",
            "dipole": "D",
            "fermi_level": "VBM",
            "external_field": "F",
            "total_charge": "Q",
        },
        "arrays_keys": {"forces": "F_dft", "atomic_multipoles": "M"},
    }
}


def test_one_head_is_the_keys():
    data = {name: value for name, value in BASE.items() if name != "keys"}
    config = validate({**data, "heads": HEADS}, TrainConfig, "train.yaml")
    mapped = {name: key for name, key in config.data.keys.model_dump().items() if key is not None}
    assert mapped == HEADS["revPBEd3"]["info_keys"] | HEADS["revPBEd3"]["arrays_keys"]
    head = HEADS["revPBEd3"] | {"train_file": "t.xyz", "E0s": "isolated_atoms"}
    config = validate({"train_schedule": BASE["train_schedule"], "heads": {"one": head}}, TrainConfig, "train.yaml")
    assert config.data.files == ["t.xyz"] and config.statistics.E0s == "isolated_atoms"
    assert validate({**data, "heads": str(HEADS)}, TrainConfig, "train.yaml").data.keys.energy == "E_dft"


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        ({"a": {}, "b": {}}, "expected one head, .* got \\['a', 'b'\\]"),
        ({"a": {"info_keys": {"enrgy": "E"}}}, "a.info_keys.enrgy: no such label here"),
        ({"a": {"keys": {"energy": "E"}}}, "a.keys: a head has info_keys and arrays_keys"),
        ({"a": {"info_keys": {"energy": "E2"}}}, "'heads' is given a second time, as 'data.keys.energy'"),
    ],
)
def test_heads_that_cannot_be(heads, reason):
    with pytest.raises(InputError, match=reason):
        read(heads=heads)


def test_translation_can_be_repeated():
    once, problems = TrainConfig.translator().translated(
        copy.deepcopy(BASE) | {"model": "FixedPoint", "hidden_irreps": "4x0e+4x1o"}
    )
    assert not problems and once["model"] == {"num_channels": 4, "max_L": 1}
    assert TrainConfig.translator().translated(once) == (once, [])


def test_the_file_of_a_user_is_not_changed():
    data = copy.deepcopy(BASE) | {"hidden_irreps": "4x0e+4x1o", "data": {"valid_seed": 2}}
    before = copy.deepcopy(data)
    validate(data, TrainConfig, "train.yaml")
    assert data == before


def test_all_problems_are_told_at_once():
    said = message(max_num_epochs=3, modle=1, model={"r_mx": 3})
    assert all(part in said for part in ("max_num_epochs", "unknown option 'modle'", "unknown option 'model.r_mx'"))


def test_an_override_replaces_what_the_file_says(tmp_path):
    """Whatever the name it is given by there and here."""
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(BASE | {"hidden_irreps": "8x0e + 8x1o", "batch_size": 2, "model": "FixedPoint"}))
    config = load_config(path, ["num_channels=4", "training.batch_size=5", "eval_interval=7", "E0s={1: -2.0}"])
    assert (config.model.num_channels, config.model.max_L, config.training.batch_size) == (4, 1, 5)
    assert config.training.eval_every == 7 and config.statistics.E0s == {"1": -2.0}
    assert load_config(path, ["model.hidden_irreps=6x0e+6x1o"]).model.num_channels == 6
    update = load_config(path, ["fixedpoint_update_config.type=ManyBodyUpdate"]).model.fixedpoint_update_config
    assert update.type == "ManyBodyUpdate"
    with pytest.raises(InputError, match="override 'max_num_epochs=3': each stage"):
        load_config(path, ["max_num_epochs=3"])
    with pytest.raises(InputError, match="not a value in YAML"):
        load_config(path, ["r_max=[1"])


def test_note_on_a_deprecated_name(tmp_path):
    path = tmp_path / "train.yaml"
    stage = copy.deepcopy(BASE["train_schedule"][0])
    stage["scf_training_options"] = stage.pop("fixed_point_training_options")
    path.write_text(yaml.safe_dump(BASE | {"train_schedule": [stage]}))
    notes: list[str] = []
    with pytest.warns(DeprecationWarning):
        load_config(path, notes=notes)
    assert [note.split(":")[0] for note in notes] == ["train_schedule.0.scf_training_options is deprecated"]


def test_notes_on_names_that_change_nothing(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(BASE | {"return_electrostatic_potentials": True, "ema": True}))
    notes: list[str] = []
    load_config(path, ["error_table=PerAtomRMSE"], notes)
    assert [note.split(":")[0] for note in notes] == ["return_electrostatic_potentials", "error_table"]
