"""Where a pseudopotential begins: the strategies, what the log says of them, and states of optimisers."""

import pytest
import torch
from fp_potential.train.bands.tables import pot_state, write_reciprocal
from fp_potential.train.errors import InputError

from bands_training import ZUNGER, bands_config, bands_problem, bands_trainer, parameters_of, start
from line_problem import same_state, shown

NETWORK = {"local": {"form": "neural", "hidden_layers": [8], "envelope": {"type": "gaussian", "std": 2.5}}}
FIT = {"epochs": 60, "optimizer": "lbfgs", "lr": 1.0}


def made(model=NETWORK, **initialise):
    """A problem after its start, and what was said."""
    problem = bands_problem(bands_config(model=model, initialise=initialise), shift=0.0)
    return problem, start(problem)


def distance(problem, other):
    """Root mean square difference of two potentials on 0 … 6, Ha Bohr³."""
    q = torch.linspace(0.0, 6.0, 100, dtype=torch.float64)
    with torch.no_grad():
        return float((problem.module.local(q) - other.module.local(q)).square().mean().sqrt())


@pytest.mark.parametrize(
    "optimizer, epochs, lr, limit", [("lbfgs", 60, 1.0, 2.5), ("adam", 500, 0.1, 3.0), ("sgd", 5, 1e-7, 40)]
)
def test_fit_to_the_zunger_form(optimizer, epochs, lr, limit):
    analytic, _ = made({})
    problem, lines = made(method="zunger", fit={"epochs": epochs, "optimizer": optimizer, "lr": lr})
    assert lines[0] == "initialisation: fit to the Zunger form" and "seed 3" in lines[1]
    assert lines[-1].startswith(f"fitted to v(q) at 400 q in {epochs} epochs of {optimizer}: rms ")
    assert distance(problem, analytic) < limit


def test_fit_to_a_table(tmp_path):
    analytic, _ = made({})
    write_reciprocal(analytic.module, tmp_path, "init", analytic.config.outputs)
    table = str(tmp_path / "init_qSpace_pot.par")
    problem, lines = made(method="table", table=table, fit=FIT)
    assert lines[0] == f"initialisation: fit to the table {table}" and distance(problem, analytic) < 1.0
    # the table itself as a form: no fit
    tabulated, lines = made({"local": {"form": "table", "table": table}})
    assert lines == ["initialisation: table as in the training file"] and distance(tabulated, analytic) < 1e-3


def test_table_of_the_analytic_form():
    """Splines through its values at the knots."""
    analytic, _ = made({})
    tabulated, lines = made({"local": {"form": "table", "knots": [0.1, 8.0]}})
    assert lines == ["initialisation: table as in the training file"] and distance(tabulated, analytic) < 0.02
    (values,) = parameters_of(tabulated)
    assert values.shape == (81, 3)
    with pytest.raises(InputError, match="none for Ga; expected nine numbers"):
        made({"local": {"form": "table"}, "parameters": {name: ZUNGER[name] for name in ("In", "As")}})


def test_weights_of_the_network_alone():
    he, lines = made()
    assert lines == ["initialisation: weights He (normal of variance 2/fan-in), seed 3"]
    again, _ = made()
    assert same_state(he.module.state_dict(), again.module.state_dict())
    xavier, lines = made(method="xavier")
    assert "Xavier" in lines[0] and not same_state(he.module.state_dict(), xavier.module.state_dict())
    # of the published class, and those that differ from run to run
    _, lines = made({"local": {"form": "neural", "ppmodel": "Net_relu_xavier_decay2", "hidden_layers": [8]}})
    assert "Xavier" in lines[0]
    random = {"local": {"form": "neural", "ppmodel": "Net_celu_RandInit", "hidden_layers": [8]}}
    (one, lines), (two, _) = made(random), made(random)
    assert lines == ["initialisation: weights random, not of the seed"]
    assert not same_state(one.module.state_dict(), two.module.state_dict())


def test_analytic_potential():
    _, lines = made({})
    assert lines == ["initialisation: analytic parameters of the training file"]
    with pytest.raises(InputError, match=r"method: zunger fits a network, but model\.local\.form: zunger has none"):
        made({}, method="zunger")
    zero = {"parameters": {}} | NETWORK
    with pytest.raises(InputError, match=r"needs model\.parameters a0 … a3 of every species"):
        made(zero, method="zunger")


@pytest.mark.parametrize("which", ["folder", "checkpoint", "final_pot.pth", "epoch_2_pot.pth", "epoch_2_PPmodel.pth"])
def test_another_run(tmp_path, which):
    """A run folder, its checkpoint, potentials and networks that it writes; the last ones under published names."""
    problem = bands_problem(bands_config({"epochs": 2, "lr": 1e-3}, model=NETWORK))
    bands_trainer(problem, tmp_path).run()
    problem.finish()
    path = tmp_path / {"folder": ".", "checkpoint": "checkpoints/latest.pt"}.get(which, which)
    other, lines = made(init_from=str(path))
    assert lines[0] == f"initialisation: checkpoint {path}" and distance(problem, other) == 0
    if which.endswith("PPmodel.pth"):
        assert "hidden_l.0.weight" in " ".join(torch.load(path, weights_only=True))
    wrong = {"local": NETWORK["local"] | {"hidden_layers": [5]}}
    if which.endswith(".pth"):
        with pytest.raises(InputError, match=which):
            made(wrong, init_from=str(path))


def test_state_of_the_optimiser(tmp_path):
    """A run that goes on with the moments of another takes the step that the other would have taken."""
    stage = {"epochs": 3, "lr": 1e-3}
    problem = bands_problem(bands_config(stage, model=NETWORK))
    bands_trainer(problem, tmp_path / "whole").run()
    short = bands_problem(bands_config(stage | {"epochs": 2}, model=NETWORK))
    bands_trainer(short, tmp_path / "first").run()
    files = {name: str(tmp_path / "first" / f"epoch_2_{name}.pth") for name in ("PPmodel", "AdamState")}
    initialise = {"init_from": files["PPmodel"], "optimizer_state": files["AdamState"]}
    one = stage | {"epochs": 1}
    ends = {}
    for name, options in (("with", initialise), ("without", {"init_from": files["PPmodel"]})):
        other = bands_problem(bands_config(one, model=NETWORK, initialise=options))
        trainer = bands_trainer(other, tmp_path / name)
        trainer.run()
        assert ("state of the optimiser taken for 4 tensors" in shown(trainer)) == (name == "with")
        ends[name] = [p.detach().clone() for p in parameters_of(other)]
    expected = [p.detach().clone() for p in parameters_of(problem)]
    torch.testing.assert_close(ends["with"], expected, rtol=1e-12, atol=1e-14)
    assert max(float((a - b).abs().max()) for a, b in zip(ends["without"], expected, strict=True)) > 1e-6
    with pytest.raises(InputError, match="expected the state of an optimiser of this network"):
        made({"local": NETWORK["local"] | {"hidden_layers": [8, 8]}}, **initialise)


def test_state_of_another_potential(tmp_path):
    analytic, _ = made({})
    torch.save(pot_state(analytic.module) | {"species": ["A", "B", "C"]}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="a potential of A B C, expected one of As Ga In"):
        made({}, init_from=str(tmp_path / "a.pth"))
    (tmp_path / "b.pth").write_text("no state")
    with pytest.raises(InputError, match=r"b\.pth: not a readable checkpoint"):
        made(init_from=str(tmp_path / "b.pth"))
    with pytest.raises(InputError, match=r"expected a run folder, a checkpoint or a \.pth file"):
        made(init_from=str(tmp_path / "c.pth"))
