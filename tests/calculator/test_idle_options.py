"""Options that change nothing where they are given: said once, or refused."""

import warnings

import pytest

from fp_potential.calculator import FixedPointCalculator
from fp_potential.cli.main import main
from structures import water_cluster


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


MIXING = "mixing_parameter has no effect: it belongs to solver linear, and the solver is anderson"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scf_options": {"mixing_parameter": 0.3}}, MIXING),
        ({"scf_options": {"mixing_parameter": 0.3, "solver": "linear"}}, None),
        ({"scf_options": {"initial_fermi_level": "from_data"}}, "this model finds the level without a search"),
        (
            {"scf_options": {"initial_fermi_level": "from_data", "constant_charge": False}, "fermi_level": -2.0},
            "initial_fermi_level has no effect: the level is held",
        ),
        ({"kspace": "open", "kspace_accuracy": 1e-6}, "kspace_accuracy has no effect: it belongs to the mesh"),
        ({"kspace": "reciprocal", "remove_net_force": True}, "remove_net_force has no effect"),
        ({"kspace": "mesh", "kspace_accuracy": 1e-6, "remove_net_force": True}, None),
        ({"kspace_accuracy": 1e-6}, None),
    ],
)
def test_said_once_by_the_calculator(archive, arguments, said) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        calculator = FixedPointCalculator(archive, **arguments)
        calculator.set(scf_options=arguments.get("scf_options", {}))
    found = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert len(found) == (said is not None) and (said or "") in "".join(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scf_restart": True, "restart_density": False}, "`scf_restart` and `restart_density` contradict each other"),
        ({"restart_density": False, "scf_restart": True}, "`scf_restart` and `restart_density` contradict each other"),
        (
            {"scf_restart": True, "scf_options": {"initial_density": "local_guess"}},
            "`scf_options` has initial_density = 'local_guess', `scf_restart` or `restart_density` asks for 'restart'",
        ),
    ],
)
def test_restart_flags_do_not_depend_on_their_order(archive, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        FixedPointCalculator(archive, **arguments)
    both = FixedPointCalculator(archive, scf_restart=True, restart_density=True)
    assert both.scf.initial_density == "restart"


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    from ase.io import write

    path = tmp_path_factory.mktemp("frame") / "frame.xyz"
    atoms = water_cluster(1)
    atoms.info |= {"total_charge": 0.0, "fermi_level": -2.0}
    write(path, atoms, format="extxyz")
    return str(path)


@pytest.mark.parametrize("command", ["scf", "eval"])
def test_notes_of_commands(archive, frame, command, capsys) -> None:
    quiet = ["--no_spectrum"] if command == "scf" else []
    words = ["--mixing_parameter", "0.3", "--kspace", "open", "--kspace_accuracy", "1e-6"]
    assert main([command, str(archive), frame, *words, *quiet]) == 0
    text = capsys.readouterr().out
    assert text.count(f"note: {MIXING}") == 1 and text.count("note: kspace_accuracy has no effect") == 1
    assert main([command, str(archive), frame, "--solver", "linear", "--mixing_parameter", "0.3", *quiet]) == 0
    assert "no effect" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--chain_copies", "4"], 2, "--chain_copies belongs to --response: add that, or leave it out"),
        (["--bond_factor", "1.1"], 2, "--bond_factor belongs to --response"),
        (["--use_autograd_forces", "false"], 0, "--use_autograd_forces changes forces only, of which this command pri"),
        (["--history", "5"], 2, "--history 5: it is 80 in this archive and fixed at export"),
        (["--constant_charge", "true"], 0, "total charge 0 e"),
        (["--constant_charge", "false"], 0, "Fermi level -2 eV"),
        (["--constant_charge", "false", "--key", "fermi_level=mu"], 2, "the frame has no number under 'mu'"),
        (["--constant_charge", "true", "--constant_fermi", "-2"], 2, "--constant_fermi holds the Fermi level, --cons"),
        (["--constant_charge", "false", "--total_charge", "0"], 2, "--total_charge holds the charge, --constant_ch"),
        (["--initial_fermi_level", "from_data"], 0, "note: initial_fermi_level has no effect: this model finds"),
        (
            ["--initial_fermi_level", "from_data", "--key", "fermi_level=mu"],
            2,
            "--initial_fermi_level from_data: the f",
        ),
        (["--scf_tolerance", "0"], 2, "`--scf_tolerance` is 0.0: Input should be greater than 0"),
    ],
)
def test_every_option_of_the_loop_in_scf(archive, frame, words, status, said, capsys) -> None:
    assert main(["scf", str(archive), frame, "--no_spectrum", *words]) == status
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_options_of_eval_that_belong_to_others(archive, frame, capsys) -> None:
    assert main(["eval", str(archive), frame, "--response_frames", "5"]) == 2
    assert "--response_frames belongs to --response" in capsys.readouterr().err
    assert main(["eval", str(archive), frame, "--threads", "0"]) == 2
    assert "--threads 0: expected at least 1" in capsys.readouterr().err
