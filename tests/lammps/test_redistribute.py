"""Boxes of a periodic array over ranks, against an array that every rank holds in full."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from fp_potential import communication
from fp_potential.export import FORMAT, FORMAT_VERSION, METADATA_FILE

PERIODS = ([4, 5, 6], [1, 3, 7], [8, 2, 5])
DTYPES = {"float32": 0, "float64": 1, "complex64": 2, "complex128": 3}


def random_boxes(rng: np.random.Generator, ranks: int, period: list[int]) -> np.ndarray:
    """Anywhere, also beyond the period; empty and full ones are frequent."""
    rows = []
    for _ in range(ranks):
        row = []
        for n in period:
            extent = int(rng.choice([0, n, rng.integers(1, n + 1), rng.integers(1, n + 1)], p=[0.1, 0.3, 0.3, 0.3]))
            lo = int(rng.integers(-2 * n, 2 * n + 1))
            row += [lo, lo + extent]
        rows.append(row)
    return np.array(rows)


def slabs(ranks: int, period: list[int], axis: int) -> np.ndarray:
    """The array divided along one axis: layouts of a Fourier transform."""
    edges = [k * period[axis] // ranks for k in range(ranks + 1)]
    rows = np.array([[0, period[0], 0, period[1], 0, period[2]]] * ranks)
    rows[:, 2 * axis], rows[:, 2 * axis + 1] = edges[:-1], edges[1:]
    return rows


def cases(ranks: int) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    rng = np.random.default_rng(ranks)
    out = [(random_boxes(rng, ranks, n), random_boxes(rng, ranks, n), n) for n in PERIODS for _ in range(12)]
    out += [(slabs(ranks, n, 0), slabs(ranks, n, 2), n) for n in PERIODS]
    out += [(random_boxes(rng, ranks, n), slabs(ranks, n, 1), n) for n in PERIODS]
    full = np.array([[-3, 1, 2, 7, 6, 12]] * ranks)
    return [*out, (full, full, PERIODS[0])]


def extents(box: torch.Tensor) -> list[int]:
    return [int(box[1] - box[0]), int(box[3] - box[2]), int(box[5] - box[4])]


def flat_index(box: torch.Tensor, period: list[int]) -> torch.Tensor:
    """Places of a box's points in the array."""
    i = torch.remainder(torch.arange(int(box[0]), int(box[1])), period[0])
    j = torch.remainder(torch.arange(int(box[2]), int(box[3])), period[1])
    k = torch.remainder(torch.arange(int(box[4]), int(box[5])), period[2])
    return ((i[:, None, None] * period[1] + j[:, None]) * period[2] + k).reshape(-1)


def values(m: int, rank: int, box: torch.Tensor, kind: int, seed: int) -> torch.Tensor:
    """What a rank's box holds: known to every rank."""
    e = extents(box)
    n = m * e[0] * e[1] * e[2]
    x = torch.sin(torch.arange(n).to(torch.float64) * 1.7 + rank * 0.9 + seed)
    if kind == 0:
        x = x.to(torch.float32)
    if kind == 2:
        x = torch.complex(x.to(torch.float32), torch.cos(2 * x).to(torch.float32))
    if kind == 3:
        x = torch.complex(x, torch.cos(2 * x))
    return x.reshape([m, e[0], e[1], e[2]])


def dense(
    m: int, rank: int, source: torch.Tensor, target: torch.Tensor, period: list[int], kind: int, seed: int
) -> torch.Tensor:
    """All source boxes added to one array, of which a rank's target box is taken."""
    points = period[0] * period[1] * period[2]
    first = values(m, 0, source[0], kind, seed)
    array = torch.zeros([m, points], dtype=first.dtype)
    for p in range(source.shape[0]):
        index = flat_index(source[p], period)
        array[:, index] += values(m, p, source[p], kind, seed).reshape([m, index.shape[0]])
    e = extents(target[rank])
    return array[:, flat_index(target[rank], period)].reshape([m, e[0], e[1], e[2]])


class Probe(torch.nn.Module):
    """Has the interface of an exported model and tries the operators inside of LAMMPS.

    The energies it returns are the largest error of any rank and the number of comparisons.
    """

    def __init__(self, sources: list[torch.Tensor], targets: list[torch.Tensor], periods: list[list[int]]) -> None:
        super().__init__()
        self.sources, self.targets, self.periods = sources, targets, periods

    def errors(self) -> list[torch.Tensor]:
        out: list[torch.Tensor] = []
        rank = communication.this_rank()
        rows = communication.gather_ranks(torch.tensor([rank, -(1 << 40) - rank]))
        p = torch.arange(rows.shape[0])
        out.append((rows - torch.stack([p, -(1 << 40) - p], dim=1)).abs().max())
        root = torch.sqrt(torch.arange(2, 4).to(torch.float64))
        out.append((communication.gather_ranks(root * rank) - torch.outer(p.to(torch.float64), root)).abs().max())
        for c in range(len(self.sources)):
            source, target, period = self.sources[c], self.targets[c], self.periods[c]
            for kind in range(4):
                m = (c + kind) % 4
                x = values(m, rank, source[rank], kind, c)
                y = communication.redistribute(x, source, target, period)
                expected = dense(m, rank, source, target, period, kind, c)
                assert y.dtype == x.dtype and y.shape == expected.shape
                if y.numel() > 0:
                    out.append((y - expected).abs().max())
            m = 1 + c % 2
            x = values(m, rank, source[rank], 1, c).requires_grad_()
            w = values(m, rank, target[rank], 1, 7).requires_grad_()
            product = (w * communication.redistribute(x, source, target, period)).sum()
            first = torch.autograd.grad([product], [x], create_graph=True)[0]
            assert first is not None
            if first.numel() > 0:
                out.append((first - dense(m, rank, target, source, period, 1, 7)).detach().abs().max())
            both = communication.sum_ranks(torch.stack([product, (first * x).sum()]).detach())
            out.append((both[0] - both[1]).abs())
            second = torch.autograd.grad([(first * x).sum()], [w])[0]
            assert second is not None
            if second.numel() > 0:
                out.append((second - dense(m, rank, source, target, period, 1, c)).abs().max())
        return out

    def forward(
        self,
        positions: torch.Tensor,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        edge_shifts: torch.Tensor,
        batch: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        total_charge: torch.Tensor,
        fermi_level: torch.Tensor,
        external_field: torch.Tensor,
        distributed: bool,
        num_scf_steps: int,
        scf_tolerance: float,
        mixing_parameter: float,
        solver: str,
        constant_charge: bool,
        use_autograd_forces: bool,
        initial_density: torch.Tensor,
        initial_level: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        found = self.errors()
        worst = torch.stack([x.to(torch.float64) for x in found]).max().unsqueeze(0)
        number = torch.full([1], len(found), dtype=torch.float64)
        number, worst = communication.sum_max_ranks(number, worst)
        zero, n = torch.zeros([1], dtype=torch.float64), batch.shape[0]
        out = {
            "energy": zero,
            "energy_local": worst,
            "energy_nonlocal": number,
            "scf_steps": torch.ones([1], dtype=torch.int64),
            "status": torch.zeros([1], dtype=torch.int64),
            "dipole": torch.zeros([1, 3]),
            "strain_gradient": torch.zeros([1, 3, 3]),
            "forces": torch.zeros_like(positions),
            "atomic_energies": torch.zeros([n]),
            "density": torch.zeros([n, 4]),
            "potentials": torch.zeros([n]),
        }
        for name in (
            "energy_coulomb", "energy_field", "fermi_level", "total_charge", "residual", "adjoint_residual"
        ):  # fmt: skip
            out[name] = zero
        return out


SCF = {"num_scf_steps": 10, "scf_tolerance": 1e-6, "mixing_parameter": 0.25, "solver": "anderson"}


def write_probe(path: Path, ranks: int) -> None:
    """An archive that LAMMPS takes for a model."""
    sources, targets, periods = zip(*cases(ranks), strict=True)
    module = Probe([torch.tensor(s) for s in sources], [torch.tensor(t) for t in targets], list(periods))
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "elements": ["O", "Na", "H", "Cl"],
        "cutoff": 3.0,
        "dtype": "float64",
        "scf": SCF,
    }
    torch.jit.save(torch.jit.script(module), str(path), _extra_files={METADATA_FILE: json.dumps(metadata)})


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2, 3, 4])
def test_over_ranks(simulation, ranks):
    """Values, first and second derivatives, in all types; sums are in the order of the ranks."""
    (simulation.folder / "model.pt").unlink()
    write_probe(simulation.folder / "model.pt", ranks)
    simulation.write_structure(Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 3]], cell=[6, 7, 8], pbc=True))
    frames, log = simulation.frames(ranks, "charge 0", steps=1)
    for frame in frames:
        assert frame.global_value(1) <= 1e-13
        assert frame.global_value(2) > 100 * ranks
    assert re.search(rf"on {ranks} procs", log)


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_one_process(dtype):
    kind = DTYPES[dtype]
    for seed, (source, target, period) in enumerate(cases(1)):
        s, t = torch.tensor(source), torch.tensor(target)
        for m in (0, 2):
            x = values(m, 0, s[0], kind, seed)
            y = communication.redistribute(x, s, t, period)
            assert y.dtype == getattr(torch, dtype)
            assert torch.equal(y, dense(m, 0, s, t, period, kind, seed))
            assert y.data_ptr() != x.data_ptr() or x.numel() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives(dtype):
    source, target = torch.tensor([[-1, 2, 0, 2, 3, 7]]), torch.tensor([[1, 4, -4, -1, 0, 5]])
    x = torch.randn(2, 3, 2, 4, dtype=dtype, requires_grad=True)

    def cubed(x: torch.Tensor) -> torch.Tensor:
        return communication.redistribute(x, source, target, [4, 3, 5]) ** 3

    assert torch.autograd.gradcheck(cubed, x)
    assert torch.autograd.gradgradcheck(cubed, x)


def test_views():
    """Conjugated, negated, transposed and expanded arrays."""
    source, target, period = torch.tensor([[0, 2, 0, 3, 0, 4]]), torch.tensor([[0, 2, 0, 3, 1, 4]]), [2, 3, 4]
    x = torch.randn(1, 2, 3, 4, dtype=torch.complex128)
    out = communication.redistribute(x.conj(), source, target, period)
    assert torch.equal(out, x.conj()[..., 1:].resolve_conj())
    out = communication.redistribute(x.conj().imag, source, target, period)
    assert torch.equal(out, -x.imag[..., 1:])
    out = communication.redistribute(x.mT.contiguous().mT, source, target, period)
    assert torch.equal(out, x[..., 1:])
    out = communication.redistribute(x[..., :1].expand(1, 2, 3, 4), source, target, period)
    assert torch.equal(out, x[..., :1].expand(1, 2, 3, 3))


BOX = [[0, 2, 0, 3, 0, 4]]
WRONG = {
    "shape": (BOX, BOX, [2, 3, 4], (1, 2, 3, 5), r"array of shape \[1, 2, 3, 5\].* expected \[m, 2, 3, 4\]"),
    "three axes": (BOX, BOX, [2, 3, 4], (2, 3, 4), r"array of shape \[2, 3, 4\]"),
    "two ranks": (BOX * 2, BOX, [2, 3, 4], (1, 2, 3, 4), r"`source` has the shape \[2, 6\].* expected \[1, 6\]"),
    "too long": (BOX, [[0, 2, 0, 3, 0, 5]], [2, 3, 4], (1, 2, 3, 4), r"`target` of rank 0 is \[0, 5\) along axis 2"),
    "reversed": (BOX, [[0, 2, 3, 2, 0, 4]], [2, 3, 4], (1, 2, 3, 4), r"\[3, 2\) along axis 1, expected an extent"),
    "period": (BOX, BOX, [2, 3], (1, 2, 3, 4), r"`period` is \[2, 3\], expected three positive"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_arguments(name):
    source, target, period, shape, message = WRONG[name]
    with pytest.raises(RuntimeError, match=message):
        communication.redistribute(torch.zeros(shape), torch.tensor(source), torch.tensor(target), period)


def test_wrong_types():
    box = torch.tensor(BOX)
    with pytest.raises(RuntimeError, match=r"expected .* real or complex values"):
        communication.redistribute(torch.zeros(1, 2, 3, 4, dtype=torch.int64), box, box, [2, 3, 4])
    with pytest.raises(RuntimeError, match=r"`target` has .* type Float, expected .* int64"):
        communication.redistribute(torch.zeros(1, 2, 3, 4), box, box.float(), [2, 3, 4])
    with pytest.raises(RuntimeError, match=r"gather_ranks got an array of shape .* type Float"):
        communication.gather_ranks(torch.zeros(3))


def test_gather_in_one_process():
    assert communication.this_rank() == 0
    for x in (torch.arange(3), torch.randn(4, dtype=torch.float64, requires_grad=True)):
        rows = communication.gather_ranks(x)
        assert torch.equal(rows, x.detach().unsqueeze(0))
        assert not rows.requires_grad
