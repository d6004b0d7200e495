"""What the mesh would cost on many ranks: message sizes and counts of an SCF iteration.

    python benchmarks/scaling_model.py [--atoms 1e8 --ranks 64 256 1000 4096] [--latency 2e-6 --bandwidth 25e9]

Uniform liquid in a cube, charges and dipoles, as many receivers as widths.  Every rank's boxes of points are those of
`fp_potential.electrostatics.mesh.layout`; what two ranks exchange is where their boxes overlap.  Computing times are
measured here, on one core, latency and bandwidth are given.  Per exchange the slowest rank counts:

    t = messages · latency + bytes · ranks per node / bandwidth of a node

for the larger of what it sends and what it receives; no overlap of communication with computation, no discount for
messages inside a node, no contention beyond the node's share.  An application has, for m receivers,

    bricks -> pencils, 1 real channel;  two turns of pencils, 1 complex channel;
    two turns, m complex channels;      pencils -> bricks, m real channels,

and an SCF iteration adds one sum over ranks, 2 log2(ranks) latencies.  Formulas and figures: docs/electrostatics.md.
"""

import argparse
import math
import platform
from typing import NamedTuple

import torch
from torch import Tensor

from fp_potential.electrostatics import Electrostatics
from fp_potential.electrostatics.mesh.layout import Layout, all_waves, divided, pencils
from fp_potential.electrostatics.mesh.particle_mesh import MeshTables
from fp_potential.electrostatics.mesh.splines import gather, spread

from electrostatics import System, box, medians, processor  # isort: skip

#: ranks whose messages are counted: the slowest of these stands for the slowest of all
SAMPLE = 64
#: atoms of the box that is measured
MEASURED = 8232


class Machine(NamedTuple):
    """Seconds; the first three are per point, measured on one core."""

    stencil: float  #: spreading of one and gathering of m channels, per atom and point of its stencil
    transform: float  #: per mesh point, channel and log2 of the points
    filter: float  #: per mesh point and receiver
    latency: float
    per_byte: float  #: of one rank, with its share of the node's network
    real: int  #: bytes of a number


class Exchange(NamedTuple):
    """The slowest rank's part of one redistribution."""

    messages: int
    bytes: float
    seconds: float


def processor_grid(ranks: int) -> tuple[int, int, int]:
    """The factors of the number of ranks that give bricks of a cube the least surface."""
    divisors = [p for p in range(1, ranks + 1) if ranks % p == 0]
    grids = [(a, b, ranks // a // b) for a in divisors for b in divisors if ranks % (a * b) == 0]
    return min(grids, key=sum)


def bricks(shape: list[int], ranks: int, order: int) -> Tensor:
    """Points that the stencils of the atoms of every rank touch ``(P, 6)``."""
    grid = processor_grid(ranks)
    rows = []
    for site in torch.cartesian_prod(*[torch.arange(p) for p in grid]).tolist():
        row: list[int] = []
        for n, p, i in zip(shape, grid, site, strict=True):
            begin, end = n * i // p - order // 2 + 1, n * (i + 1) // p + order // 2 + 1
            row += [begin, end] if end - begin < n else [0, n]
        rows.append(row)
    return torch.tensor(rows)


def overlaps(one: Tensor, other: Tensor, period: list[int]) -> Tensor:
    """Points that boxes ``(a, 6)`` and ``(b, 6)`` of a periodic array have in common ``(a, b)``."""
    total = torch.ones(len(one), len(other), dtype=torch.float64)
    for axis, n in enumerate(period):
        lo, hi = one[:, None, 2 * axis], one[:, None, 2 * axis + 1]
        along = torch.zeros_like(total)
        for image in (-n, 0, n):
            begin = torch.maximum(lo, other[None, :, 2 * axis] + image)
            end = torch.minimum(hi, other[None, :, 2 * axis + 1] + image)
            along += (end - begin).clamp(min=0)
        total *= along
    return total


def exchange(source: Tensor, target: Tensor, period: list[int], bytes_per_point: float, machine: Machine) -> Exchange:
    """The slowest of a sample of ranks."""
    ranks = len(source)
    sample = torch.linspace(0, ranks - 1, min(SAMPLE, ranks)).round().long()
    worst = Exchange(0, 0.0, 0.0)
    for mine, theirs in ((source, target), (target, source)):
        points = overlaps(mine[sample], theirs, period)
        points[torch.arange(len(sample)), sample] = 0.0  # stays on the rank
        messages, sizes = (points > 0).sum(1), points.sum(1) * bytes_per_point
        seconds = messages * machine.latency + sizes * machine.per_byte
        slowest = int(seconds.argmax())
        if float(seconds[slowest]) > worst.seconds:
            worst = Exchange(int(messages[slowest]), float(sizes[slowest]), float(seconds[slowest]))
    return worst


def exchanges(layout: Layout, machine: Machine, m: int) -> dict[str, Exchange]:
    """All redistributions of one application."""
    shape, waves = layout.shape, layout.waves
    after3, after2 = [shape[0], shape[1], waves[2]], [shape[0], waves[1], waves[2]]
    real, wave = machine.real, 2 * machine.real
    return {
        "bricks to pencils": exchange(layout.bricks, layout.along3, shape, real, machine),
        "turn 3 to 2": exchange(layout.along3_waves, layout.along2, after3, wave, machine),
        "turn 2 to 1": exchange(layout.along2_waves, layout.along1, after2, wave, machine),
        "turn 1 to 2": exchange(layout.along1, layout.along2_waves, after2, wave * m, machine),
        "turn 2 to 3": exchange(layout.along2, layout.along3_waves, after3, wave * m, machine),
        "pencils to bricks": exchange(layout.along3, layout.bricks, shape, real * m, machine),
    }


class Cost(NamedTuple):
    """Seconds of one SCF iteration of the slowest rank."""

    stencils: float
    transforms: float
    exchanges: dict[str, Exchange]
    sums: float
    shape: list[int]
    order: int

    @property
    def computing(self) -> float:
        return self.stencils + self.transforms

    @property
    def communicating(self) -> float:
        return sum(e.seconds for e in self.exchanges.values()) + self.sums


def cost(
    e: Electrostatics, atoms: float, ranks: int, density: float, machine: Machine, parts: list[int] | None = None
) -> Cost:
    """One application and the sum over ranks of an SCF iteration; ``parts``: pencils other than a run would have."""
    length = (atoms / density) ** (1 / 3)
    cell = length * torch.eye(3, dtype=torch.float64)
    # one atom at either end of the cell stands for all of them
    corners = torch.stack([torch.zeros(3, dtype=torch.float64), cell.sum(0)])
    region = e.mesh.box(corners, cell, [False] * 3, e.accuracy, False)
    choice = e.mesh.choose(region, e.accuracy, atoms, float(ranks))
    m, order, shape = e.n_widths, choice.order, choice.shape
    atoms_here = bricks(shape, ranks, order)
    waves = e.mesh.waves(shape, cell, region)
    layout = divided(shape, waves, atoms_here, 0, *parts) if parts else pencils(shape, waves, atoms_here, 0)
    points = math.prod(shape)
    held = int((layout.along3[:, 1::2] - layout.along3[:, 0::2]).prod(1).max())
    kept = [some / every for some, every in zip(waves, all_waves(shape), strict=True)]
    # of the transforms of three axes, the second and the third have only the waves that were kept before
    share = (1.0 + kept[2] + kept[2] * kept[1]) / 3.0
    transforms = held * ((1 + m) * math.log2(points) * machine.transform * share + m * machine.filter * math.prod(kept))
    sums = 2.0 * math.log2(max(ranks, 2)) * machine.latency if ranks > 1 else 0.0
    return Cost(
        atoms / ranks * order**3 * machine.stencil, transforms, exchanges(layout, machine, m), sums, shape, order
    )


def measured(e: Electrostatics, arguments: argparse.Namespace) -> Machine:
    """Times of the parts of an application on one core."""
    dtype = torch.float32 if arguments.single else torch.float64
    system = System(box(MEASURED), dtype, densities=1)
    with torch.no_grad():
        t: MeshTables = system.prepare(e).meshes[0]
        shape, m = t.layout.shape, e.n_widths
        values = torch.matmul(system.densities[0], t.components).unsqueeze(1)
        grid = spread(t.coordinates, t.sequence, t.table, values, t.order, 1, t.part)
        grids = grid.expand(m, *grid.shape[1:]).contiguous()
        spectrum = torch.fft.rfftn(grid, dim=[1, 2, 3])
        filters = torch.ones(m, *spectrum.shape[1:], dtype=dtype)
        waves = (spectrum * filters).contiguous()
        spreading, gathering, there, filtering, back = medians(
            lambda: spread(t.coordinates, t.sequence, t.table, values, t.order, 1, t.part),
            lambda: gather(t.coordinates, t.sequence, t.table, grids, t.order, 1, t.part),
            lambda: torch.fft.rfftn(grid, dim=[1, 2, 3]),
            lambda: spectrum * filters,
            lambda: torch.fft.irfftn(waves, s=shape, dim=[1, 2, 3], norm="forward"),
            repeats=7,
        )
    points = math.prod(shape)
    return Machine(
        (spreading + gathering) / (len(system.positions) * t.order**3),
        (there + back) / ((1 + m) * points * math.log2(points)),
        filtering / (m * points),
        arguments.latency,
        arguments.ranks_per_node / arguments.bandwidth,
        4 if arguments.single else 8,
    )


def details(
    e: Electrostatics, atoms: float, ranks: int, density: float, machine: Machine, parts: list[int] | None
) -> None:
    """Every exchange of one case."""
    c = cost(e, atoms, ranks, density, machine, parts)
    points = math.prod(c.shape)
    print(
        f"\n{atoms:.3g} atoms on {' × '.join(map(str, processor_grid(ranks)))} ranks: order {c.order}, "
        f"{' × '.join(map(str, c.shape))} points ({points / atoms:.1f} per atom)"
    )
    print(f"{'':22} {'messages':>9} {'MB':>9} {'kB/message':>11} {'ms':>9}")
    for name, x in c.exchanges.items():
        each = x.bytes / max(x.messages, 1) / 1e3
        print(f"{name:22} {x.messages:9d} {x.bytes / 1e6:9.2f} {each:11.1f} {1e3 * x.seconds:9.2f}")
    print(f"{'sum over ranks':22} {'':>9} {'':>9} {'':>11} {1e3 * c.sums:9.2f}")
    print(f"{'stencils':22} {'':>9} {'':>9} {'':>11} {1e3 * c.stencils:9.2f}")
    print(f"{'transforms, filters':22} {'':>9} {'':>9} {'':>11} {1e3 * c.transforms:9.2f}")


def ranks_where_communication_wins(e: Electrostatics, atoms: float, density: float, machine: Machine, most: int) -> str:
    """The smallest power of two of ranks from which on communication takes longer."""
    first = ""
    for k in range(1, int(math.log2(most)) + 1):
        c = cost(e, atoms, 2**k, density, machine)
        if c.communicating <= c.computing:
            first = ""
        elif not first:
            first = f"{2**k} ranks ({atoms / 2**k:.3g} atoms per rank)"
    return first or f"none up to {most}"


def main() -> None:
    """Print the table over ranks, the exchanges of one case, and where communication wins."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--atoms", type=float, default=1e8)
    parser.add_argument("--density", type=float, default=0.1, help="atoms per Å^3")
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 256, 1000, 4096])
    parser.add_argument("--detail", type=int, default=1000, help="ranks for which every exchange is shown")
    parser.add_argument(
        "--pencils", type=int, nargs=2, metavar=("P1", "P2"), help="for these: pencils other than a run would have"
    )
    parser.add_argument("--accuracy", type=float, default=1e-5, help="kspace_accuracy")
    parser.add_argument("--latency", type=float, default=2e-6, help="of a message, s")
    parser.add_argument("--bandwidth", type=float, default=25e9, help="of the network of a node, bytes/s")
    parser.add_argument("--ranks-per-node", type=float, default=64)
    parser.add_argument("--single", action="store_true", help="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    e = Electrostatics(1.5, [1.5, 3.0], 1.5, False, True)
    e.set_kspace("mesh", arguments.accuracy)
    machine = measured(e, arguments)
    print(f"{processor()}, Python {platform.python_version()}, torch {torch.__version__}, one core:")
    print(
        f"stencils {1e9 * machine.stencil:.2f} ns per atom and point, transforms {1e9 * machine.transform:.2f} ns per "
        f"point and log2, filters {1e9 * machine.filter:.2f} ns per point; messages {1e6 * machine.latency:g} µs + "
        f"{1e9 * machine.per_byte:.2f} ns per byte and rank"
    )
    print(f"\n{arguments.atoms:.3g} atoms, ms per SCF iteration")
    print(f"{'ranks':>7} {'stencils':>9} {'transforms':>11} {'bricks':>9} {'turns':>9} {'sums':>7} {'comm/comp':>10}")
    for ranks in arguments.ranks:
        c = cost(e, arguments.atoms, ranks, arguments.density, machine)
        turns = sum(x.seconds for name, x in c.exchanges.items() if name.startswith("turn"))
        halo = sum(x.seconds for name, x in c.exchanges.items() if not name.startswith("turn"))
        print(
            f"{ranks:7d} {1e3 * c.stencils:9.2f} {1e3 * c.transforms:11.2f} {1e3 * halo:9.2f} {1e3 * turns:9.2f} "
            f"{1e3 * c.sums:7.2f} {c.communicating / c.computing:10.2f}",
            flush=True,
        )
    details(e, arguments.atoms, arguments.detail, arguments.density, machine, arguments.pencils)
    print("\ncommunication takes longer than computation from")
    for atoms in (1e5, 1e6, 1e7, 1e8):
        where = ranks_where_communication_wins(e, atoms, arguments.density, machine, 4096)
        print(f"{atoms:9.0e} atoms: {where}", flush=True)


if __name__ == "__main__":
    main()
