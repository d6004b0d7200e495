"""Potentials in real space against closed forms, and what is said where the transform has not converged."""

import math

import pytest
import torch
from fp_potential.train.bands.config import OutputOptions
from fp_potential.train.bands.tables import write_real, write_reciprocal
from fp_potential.train.bands.transform import to_real_space

from bands_training import bands_config, bands_problem
from figures import at_most


def test_gaussian():
    """v(q) = exp(-q²/2s²) gives s³ exp(-s²r²/2)/(2π)^(3/2), also at r = 0."""
    s = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = to_real_space(lambda q: torch.exp(-(q[:, None] ** 2) / (2 * s**2)), 20.0, 200, 8.0, 41)
    expected = s**3 * torch.exp(-(s**2) * found.r[:, None] ** 2 / 2) / (2 * math.pi) ** 1.5
    at_most("real-space transform of Gaussians", float((found.values - expected).abs().max()), 1e-12)
    assert found.converged and found.cutoff_error < 1e-15 and "not converged" not in found.sentence()


@pytest.mark.parametrize("q_max, n_q", [(2.0, 200), (20.0, 2)])
def test_what_has_not_converged_is_said(q_max, n_q, monkeypatch):
    """Cut off where v(q) is not small, or on too coarse a grid of q."""
    monkeypatch.setattr("fp_potential.train.bands.transform.DOUBLINGS", 1)
    found = to_real_space(lambda q: torch.exp(-(q[:, None] ** 2) / 2), q_max, n_q, 8.0, 11)
    assert not found.converged and found.sentence().endswith("raise outputs.q_max or n_q")
    assert (found.cutoff_error > 1e-3) == (q_max == 2.0)


def test_long_range_tail(tmp_path):
    """-a4 (4π/q²) exp(-q²/4γ²) is -a4 erf(γr)/r: what is left at large r, and finite at r = 0."""
    options = OutputOptions(n_q=400, q_max=12.0, n_r=61, r_max=30.0)
    with_tail = bands_problem(bands_config(model={"terms": {"long_range": True}}), shift=0.0).module
    without = bands_problem(bands_config(), shift=0.0).module
    write_real(with_tail, tmp_path, "a", options)
    write_real(without, tmp_path, "b", options)
    for column, name in enumerate(with_tail.species):
        tables = [[line.split() for line in (tmp_path / f"{p}_{name}_pot.dat").read_text().splitlines()] for p in "ab"]
        a4, gamma = float(with_tail.charges()[column].detach()), with_tail.gamma
        for row, other in zip(*tables, strict=True):
            r = float(row[0])
            tail = -a4 * (math.erf(gamma * r) / r if r else 2 * gamma / math.sqrt(math.pi))
            assert float(row[1]) - float(other[1]) == pytest.approx(tail, abs=1e-11)


def test_tables_in_reciprocal_space(tmp_path):
    """The table of all species is one that another run can be started from."""
    problem = bands_problem(bands_config(), shift=0.0)
    write_reciprocal(problem.module, tmp_path, "final", OutputOptions(n_q=11, q_max=5.0))
    rows = [[float(x) for x in line.split()] for line in (tmp_path / "final_qSpace_pot.par").read_text().splitlines()]
    q = torch.tensor([row[0] for row in rows], dtype=torch.float64)
    expected = problem.module.local(q).detach()
    torch.testing.assert_close(
        torch.tensor([row[1:] for row in rows], dtype=torch.float64), expected, rtol=1e-11, atol=0
    )
    for column, name in enumerate(problem.species):
        lines = (tmp_path / f"final_{name}_qSpace_pot.dat").read_text().splitlines()
        assert [float(line.split()[1]) for line in lines] == [row[1 + column] for row in rows]
