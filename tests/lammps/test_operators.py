"""The communication operators in one process, and their buffers in LAMMPS."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

import fp_potential
from fp_potential import communication
from fp_potential.export import METADATA_FILE


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_in_one_process(rows, shape, dtype):
    x = torch.randn(rows, *shape, dtype=dtype)
    for y in (
        communication.ghost_gather(x, rows),
        communication.ghost_reduce(x, rows),
        communication.sum_ranks(x),
        *communication.sum_max_ranks(x, x),
    ):
        assert torch.equal(x, y)
        assert y.dtype == dtype
        assert y.data_ptr() != x.data_ptr() or x.numel() == 0


def test_second_derivatives():
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    for operator in (
        lambda x: communication.ghost_gather(x, 4),
        lambda x: communication.ghost_reduce(x, 4),
        communication.sum_ranks,
    ):
        assert torch.autograd.gradcheck(lambda x, f=operator: f(x) ** 3, x)
        assert torch.autograd.gradgradcheck(lambda x, f=operator: f(x) ** 3, x)


def test_wrong_number_of_atoms():
    with pytest.raises(RuntimeError, match="ghost_gather got an array of 3 rows and the count 5"):
        communication.ghost_gather(torch.zeros(3, 2), 5)


class Layer(torch.nn.Module):
    """Uses every operator, as a scripted model does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = communication.sum_ranks(communication.ghost_gather(x, x.shape[0]) ** 2)
        sums, maxima = communication.sum_max_ranks(y, y)
        return y + 0.0 * (sums + maxima)


def test_script():
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    torch.jit.script(Layer())(x).sum().backward()
    assert torch.allclose(x.grad, 2 * x)


class Constants(torch.nn.Module):
    """Communicates numbers that are known when it is compiled."""

    def forward(self) -> torch.Tensor:
        ones = torch.ones(2, dtype=torch.float64)
        box = torch.tensor([[0, 1, 0, 1, 0, 2]])
        total = communication.sum_ranks(communication.ghost_reduce(communication.ghost_gather(ones, 2), 2))
        total = total + communication.sum_max_ranks(ones, ones)[0] + communication.gather_ranks(ones)[0]
        ones = communication.redistribute(ones.reshape([1, 1, 1, 2]), box, box, [1, 1, 2])
        return total + ones[0, 0, 0] + communication.this_rank()


def test_not_computed_by_the_compiler():
    """Results depend on the run: none may be stored in the archive."""
    scripted = torch.jit.script(Constants())
    assert torch.equal(scripted(), torch.full((2,), 4.0, dtype=torch.float64))
    kinds = {node.kind() for node in scripted.inlined_graph.nodes()}
    assert {"fixedpoint::" + name for name in (
        "ghost_gather", "ghost_reduce", "sum_ranks", "sum_max_ranks", "this_rank", "gather_ranks", "redistribute"
    )} <= kinds  # fmt: skip


def test_without_compiled_parts(tmp_path):
    """A package that was not compiled defines the trivial operators itself, and says that it is slow."""
    source = Path(fp_potential.__file__).parent
    (tmp_path / "fp_potential").mkdir()
    for name in ("__init__.py", "_plugin_path.py", "communication.py"):
        shutil.copy(source / name, tmp_path / "fp_potential" / name)
    program = f"""
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
sys.path.insert(0, {str(tmp_path)!r})
import torch
from fp_potential import communication as c
assert c.__file__.startswith({str(tmp_path)!r}), c.__file__
assert c._python_library is not None
x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
assert torch.autograd.gradgradcheck(lambda x: c.sum_ranks(c.ghost_gather(x, 3)) ** 3, x)
assert torch.equal(c.sum_max_ranks(x, x)[1], x)
assert c.this_rank() == 0 and torch.equal(c.gather_ranks(x[0]), x[:1])
wave = torch.arange(24, dtype=torch.float64).reshape(1, 2, 3, 4).requires_grad_()
boxes = [torch.tensor([box]) for box in ([-1, 1, 0, 3, 2, 6], [1, 3, 4, 6, 0, 5])]
out = c.redistribute(wave, *boxes, [2, 3, 5])
zero = torch.zeros(1, 2, 2, 1, dtype=torch.float64)
there = wave.detach()[:, :, 1:]
expected = torch.cat([there[..., 3:], zero, there[..., :3]], dim=3)
assert torch.equal(out, expected)
assert torch.autograd.gradgradcheck(lambda x: c.redistribute(x, *boxes, [2, 3, 5]) ** 3, wave)
empty = torch.tensor([[0, 2, 1, 1, 0, 5]])
assert not c.redistribute(wave[:, :, :0, :1].expand(1, 2, 0, 5), empty, boxes[1], [2, 3, 5]).any()
for wrong in ([[0, 2, 0, 4, 0, 5]], [[0, 2, 2, 1, 0, 5]], [[0, 1, 0, 3, 2, 6]]):
    try:
        c.redistribute(wave, torch.tensor(wrong), boxes[1], [2, 3, 5])
        raise SystemExit("accepted")
    except ValueError as e:
        assert "fixedpoint" in str(e)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RuntimeWarning" in done.stderr
    assert f"{tmp_path / 'fp_potential'} has no compiled operators" in done.stderr


SCATTERED = Atoms(
    "NaClO6H12",
    positions=np.random.default_rng(5).uniform(0, 1, (20, 3)) * [11.0, 6.0, 6.5],
    cell=[11.0, 6.0, 6.5],
    pbc=True,
)


@pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_narrow_buffers(simulation, width):
    """Arrays wider than LAMMPS' buffers travel in pieces."""
    simulation.write_structure(SCATTERED)
    wide = simulation.frames(2)[0][0]
    extra = {METADATA_FILE: ""}
    module = torch.jit.load(str(simulation.model_file), _extra_files=extra)
    extra[METADATA_FILE] = json.dumps({**json.loads(extra[METADATA_FILE]), "comm_width": width})
    (simulation.folder / "model.pt").unlink()
    torch.jit.save(module, str(simulation.folder / "model.pt"), _extra_files=extra)
    narrow = simulation.frames(2)[0][0]
    np.testing.assert_allclose(narrow.table, wide.table, rtol=0, atol=1e-10)
