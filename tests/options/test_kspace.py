"""Settings of the long-range sums: in options, archives, the calculator and commands."""

import numpy as np
import pytest
from pydantic import ValidationError

from fp_potential.cli.main import main
from fp_potential.electrostatics import Electrostatics
from fp_potential.export import export_model, load_model
from fp_potential.options import ModelOptions, kspace
from fp_potential.options.kspace import KSpace
from structures import make_model, salt_water
from training_data import labelled, write_frames


def test_options_refuse_what_the_operator_refuses() -> None:
    operator = Electrostatics(1.5, [1.5], 1.0, False, True)
    assert operator.accuracy == kspace.DEFAULT
    for method, accuracy in (("ewald", 1e-5), ("mesh", 0.5), ("mesh", 1e-12)):
        with pytest.raises(ValueError, match="kspace"):
            operator.set_kspace(method, accuracy)
    for wrong in ({"kspace": "ewald"}, {"kspace_accuracy": 0.5}, {"kspace_accuracy": 1e-12}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            ModelOptions(**wrong)


def test_an_archive_keeps_its_settings_until_it_is_told_others(tmp_path) -> None:
    path = tmp_path / "model.pt"
    export_model(make_model(kspace="mesh", kspace_accuracy=1e-4), path)
    module, _ = load_model(path)

    def settings() -> tuple[str, float, bool]:
        operator = module.model.electrostatics
        return operator.method, operator.accuracy, operator.remove_net_force

    assert settings() == ("mesh", 1e-4, False)
    KSpace().apply(module)
    assert settings() == ("mesh", 1e-4, False)
    KSpace(accuracy=1e-6, remove_net_force=True).apply(module)
    assert settings() == ("mesh", 1e-6, True)
    KSpace("reciprocal").apply(module)
    assert settings() == ("reciprocal", 1e-6, False)


def test_commands(tmp_path, capsys) -> None:
    """A coarse mesh moves the energy by as much as it may, and not by nothing; pairs are refused."""
    model = make_model(seed=5)
    export_model(model, tmp_path / "model.pt")
    write_frames(tmp_path / "a.xyz", [labelled(salt_water("TTT"), model, "box", "train")])

    def energy(*options: str) -> float:
        command = ["scf", str(tmp_path / "model.pt"), str(tmp_path / "a.xyz"), "--no_spectrum", *options]
        assert main(command) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("energy "))
        return float(line.split()[1])

    exact = energy("--kspace", "reciprocal")
    assert energy() == exact
    coarse = energy("--kspace", "mesh", "--kspace_accuracy", "0.1")
    assert 0 < abs(coarse - exact) < 0.1
    files = [str(tmp_path / "model.pt"), str(tmp_path / "a.xyz")]
    assert main(["eval", *files, "--kspace", "mesh", "--kspace_accuracy", "1e-3", "--key", "energy=REF_energy"]) == 0
    assert np.isfinite(coarse) and "converged" in capsys.readouterr().out
    for command in ("scf", "eval"):
        assert main([command, *files, "--kspace_accuracy", "2"]) == 2
        assert "`kspace_accuracy` is 2.0; expected a relative force error" in capsys.readouterr().err
