"""The convolution of a mesh with filters, and the operators of the mesh where nothing is compiled."""

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from figures import at_most
from fp_potential.electrostatics.mesh.layout import wave_numbers, waves_up_to
from fp_potential.electrostatics.mesh.splines import basis, gather, spread, stencil

ops = torch.ops.fixedpoint
#: even, odd, one point, vectors' worth and a point more; with prime factors that only torch transforms
SHAPES = [[4, 4, 4], [6, 10, 7], [9, 5, 14], [1, 2, 3], [28, 27, 49], [12, 48, 33], [11, 13, 22], [16, 9, 17]]
#: largest wave numbers that are kept
KEPT = {"all": [999, 999, 999], "some": [3, 2, 4], "planes": [0, 1, 0]}
AXES = [1, 2, 3]


def at_all_waves(filters: Tensor, shape: list[int]) -> Tensor:
    """Filters of all waves of a real mesh, from those that are kept."""
    for axis in (1, 2):
        number = wave_numbers(filters.shape[axis], 0, filters.shape[axis])
        size = list(filters.shape)
        size[axis] = shape[axis - 1]
        filters = filters.new_zeros(size).index_copy(axis, torch.remainder(number, shape[axis - 1]), filters)
    return torch.nn.functional.pad(filters, [0, shape[2] // 2 + 1 - filters.shape[3]])


def filtered(grids: Tensor, filters: Tensor) -> Tensor:
    """The definition, by torch."""
    shape = list(grids.shape[1:])
    spectra = torch.fft.rfftn(grids, dim=AXES) * at_all_waves(filters, shape)
    return torch.fft.irfftn(spectra, s=shape, dim=AXES, norm="forward")


def sample(shape: list[int], kept: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A grid, three filters and three grids."""
    g = torch.Generator().manual_seed(sum(shape))
    waves = waves_up_to(shape, KEPT[kept])
    return tuple(torch.randn(n, *size, dtype=dtype, generator=g) for n, size in ((1, shape), (3, waves), (3, shape)))


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_convolutions_are_products_with_the_spectrum(shape, kept, dtype):
    grid, filters, grids = sample(shape, kept, dtype)
    limit = 1e-14 if dtype == torch.float64 else 1e-6
    name = f"mesh convolution, {str(dtype)[6:]}, relative"
    at_most(name, difference(ops.mesh_convolve(grid, filters), filtered(grid, filters)), limit)
    transposed = filtered(grids, filters).sum(0, keepdim=True)
    at_most(name, difference(ops.mesh_convolve_transposed(grids, filters), transposed), limit)
    variable = filters.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad((filtered(grid, variable) * grids).sum(), [variable])
    at_most(name, difference(ops.mesh_correlate(grids, grid, list(filters.shape[1:])), expected), limit)


@pytest.mark.parametrize("kept", ["all", "planes"])
@pytest.mark.parametrize("shape", [[4, 5, 6], [5, 3, 11]], ids=["compiled", "torch"])
def test_convolutions_have_derivatives_of_any_order(shape, kept):
    grid, filters, grids = (x.requires_grad_(True) for x in sample(shape, kept, torch.float64))
    waves = list(filters.shape[1:])
    for function, x in (
        (ops.mesh_convolve, (grid, filters)),
        (ops.mesh_convolve_transposed, (grids, filters)),
        (lambda a, b: ops.mesh_correlate(a, b, waves), (grids, grid)),
    ):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


def test_threads_change_nothing():
    """A mesh that is large enough to be divided, more than two channels."""
    grid, filters, grids = sample([40, 42, 36], "all", torch.float64)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(
                [
                    ops.mesh_convolve(grid, filters),
                    ops.mesh_convolve_transposed(grids, filters),
                    ops.mesh_correlate(grids, grid, list(filters.shape[1:])),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for one, several in zip(*results, strict=True):
        assert torch.equal(one, several)


def test_what_does_not_fit_is_refused():
    grid = torch.zeros(1, 4, 6, 8, dtype=torch.float64)
    for shape in ([1, 4, 6, 6], [1, 2, 6, 5], [1, 4, 8, 5], [1, 4, 6, 0]):
        with pytest.raises(RuntimeError, match=r"filters at \[.*\] waves do not fit a mesh of \[4, 6, 8\]"):
            ops.mesh_convolve(grid, torch.zeros(shape, dtype=torch.float64))
    for wrong in (torch.zeros(2, 4, 6, 5), torch.zeros(4, 6, 5, dtype=torch.float64)):
        with pytest.raises(RuntimeError, match="do not fit together"):
            ops.mesh_convolve(grid, wrong)
    with pytest.raises(RuntimeError, match="do not fit together"):
        ops.mesh_convolve_transposed(grid, torch.zeros(2, 4, 6, 5, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="are not grids and a grid of one mesh"):
        ops.mesh_correlate(grid, torch.zeros(1, 4, 6, 7, dtype=torch.float64), [4, 6, 5])


@pytest.mark.parametrize("part", ["whole", "brick"])
@pytest.mark.parametrize("order", [4, 6, 8, 10])
def test_stencils_without_kernels(order, part):
    """On devices without kernels torch spreads and gathers; an empty table asks for that anywhere."""
    g = torch.Generator().manual_seed(order)
    size, lower = ([10, 11, 12], [0, 0, 0]) if part == "whole" else ([12, 13, 12], [-2, 3, -7])
    u = torch.rand(7, 3, dtype=torch.float64, generator=g)
    # anywhere, images too; or where the stencils lie in the brick
    u = (
        30.0 * u - 9.0
        if part == "whole"
        else u * (torch.tensor(size) - order + 1) + torch.tensor(lower) + order // 2 - 1
    )
    box = lower + size + (size if part == "whole" else [20, 25, 30])
    sequence, table = stencil(u, order, box, False)
    nothing = (torch.zeros(0, dtype=torch.int32), torch.zeros(0))
    grids = torch.randn(2, *size, dtype=torch.float64, generator=g)
    for degree in range(5):
        values = gather(u, sequence, table, grids, order, degree, box)
        at_most(
            "gather without kernels, relative",
            difference(gather(u, *nothing, grids, order, degree, box), values),
            1e-13,
        )
        spread_out = spread(u, sequence, table, values, order, degree, box)
        found = spread(u, *nothing, values, order, degree, box)
        at_most("spread without kernels, relative", difference(found, spread_out), 1e-13)
    if part == "whole":
        weights = [basis(u[:, a] - u[:, a].floor(), order, 0) for a in range(3)]
        points = [(u[:, a : a + 1].floor().long() + torch.arange(order) - order // 2 + 1) % size[a] for a in range(3)]
        i, j, k = points[0][:, :, None, None], points[1][:, None, :, None], points[2][:, None, None, :]
        expected = torch.einsum("cnijk,ni,nj,nk->nc", grids[:, i, j, k], *weights)
        at_most("gather by its definition, relative", difference(values[:, :, 0], expected), 1e-13)


UNCOMPILED = """
import json, sys, torch
if sys.argv[1] == "torch":
    import fp_potential._plugin_path
    fp_potential._plugin_path.find = lambda name: None
from fp_potential.electrostatics import Electrostatics
import fp_potential.backbone.convolution
out = []
for pattern in ([True, True, True], [True, False, True], [False, False, False]):
    g = torch.Generator().manual_seed(1)
    x = (9.0 * torch.rand(8, 3, dtype=torch.float64, generator=g)).requires_grad_(True)
    p = torch.randn(8, 4, dtype=torch.float64, generator=g).requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    frame = torch.eye(3, dtype=torch.float64) + strain
    cell = torch.tensor([[9.0, 0.4, 0.0], [0.0, 10.0, 0.0], [0.0, 1.0, 11.0]], dtype=torch.float64)
    e = Electrostatics(1.5, [1.5, 3.0], 1.5, False, True)
    e.set_kspace("mesh", 1e-4)
    batch = torch.zeros(8, dtype=torch.int64)
    cache = e.prepare(x @ frame, (cell @ frame).unsqueeze(0), torch.tensor([pattern]), batch, False)
    energy = (e.field(cache, p, False) ** 2).sum() + (p * e.potentials(cache, p, False)).sum()
    energy = energy + (e.apply_transposed(cache, e.field(cache, p, False), False) ** 2).sum()
    first = torch.autograd.grad(energy, [x, p, strain], create_graph=True)
    second = torch.autograd.grad((first[0] ** 2).sum(), [x, p, strain])
    out += [float(y.norm()) for y in (energy, *first, *second)]
    out += [float((y.flatten() * torch.arange(y.numel())).sum()) for y in (*first, *second)]
with open("/proc/self/maps") as file:
    compiled = "libfixedpoint_ops" in file.read()
print(json.dumps([compiled, out]))
"""


def test_mesh_of_an_uncompiled_package(tmp_path):
    """Energy, forces, stress and their derivatives are those of the compiled operators."""
    results = {}
    for which in ("compiled", "torch"):
        command = [sys.executable, "-W", "ignore", "-c", UNCOMPILED, which]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        compiled, results[which] = json.loads(done.stdout)
        assert compiled == (which == "compiled")
    found, expected = (torch.tensor(results[which], dtype=torch.float64) for which in ("torch", "compiled"))
    at_most("mesh of an uncompiled package, relative", ((found - expected) / expected).abs().max(), 1e-8)
