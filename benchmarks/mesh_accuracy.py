"""Error of the mesh against the exact sums, by order and spacing, beside the error model that chooses meshes.

    python benchmarks/mesh_accuracy.py [--atoms 80] [--seeds 3]

Random charges and dipoles at random sites of a triclinic cell, and the same as an isolated cluster.  Printed are the
relative rms errors of field features, forces of the energy, forces of a random read-out of the features and stress (the
largest over the systems), and the model's error of the forces; at the end a power law fitted to the larger of the
forces' errors.
"""

import argparse
import platform

import numpy as np
import torch

from fp_potential.electrostatics import Electrostatics
from fp_potential.electrostatics.mesh.accuracy import ERROR_MODEL
from fp_potential.electrostatics.mesh.particle_mesh import MeshChoice

SIGMA, WIDTHS, EDGE = 1.5, [1.5, 3.0], 13.0
SPACINGS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.33)


def system(seed: int, atoms: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions, cell and density (charges sum to zero)."""
    g = torch.Generator().manual_seed(seed)
    cell = EDGE * torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.2, 0.25, 1.1]], dtype=torch.float64)
    density = torch.randn(atoms, 4, generator=g, dtype=torch.float64) * torch.tensor([1.0, 0.3, 0.3, 0.3])
    density[:, 0] -= density[:, 0].mean()
    return torch.rand(atoms, 3, generator=g, dtype=torch.float64) @ cell, cell, density


def results(operator: Electrostatics, seed: int, atoms: int, periodic: bool) -> dict[str, torch.Tensor]:
    """Field, forces, forces of a random read-out and strain derivative."""
    positions, cell, density = system(seed, atoms)
    positions.requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deformed = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.t())
    pbc = torch.full((1, 3), periodic)
    batch = torch.zeros(atoms, dtype=torch.int64)
    cache = operator.prepare(positions @ deformed, (cell @ deformed)[None], pbc, batch)
    field = operator.field(cache, density, False)
    energy = 0.5 * (density * operator.potentials(cache, density, False)).sum()
    weights = torch.randn(field.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    forces, stress = torch.autograd.grad(energy, [positions, strain], retain_graph=True)
    (readout,) = torch.autograd.grad((weights * field).sum(), [positions])
    return {"features": field.detach(), "forces": forces, "read-out": readout, "stress": stress}


def errors(order: int, x: float, seeds: int, atoms: int) -> dict[str, float]:
    """Largest relative errors over the systems with splines of an order and a spacing of x sigma_eff."""
    worst: dict[str, float] = {}
    for periodic in (True, False):
        exact = Electrostatics(SIGMA, WIDTHS, 2.0, False, True)
        exact.set_kspace("reciprocal" if periodic else "open", 1e-5)
        coarse = Electrostatics(SIGMA, WIDTHS, 2.0, False, True)
        coarse.set_kspace("mesh", 1e-9)
        spacing = x * SIGMA
        coarse.mesh.choose = lambda box, *_, h=spacing: MeshChoice(  # type: ignore[method-assign]
            order, [max(order, round(length / h)) for length in box.lengths], 0.0
        )
        coarse.mesh.spacing = lambda *_, h=spacing: h  # type: ignore[method-assign]
        for seed in range(seeds):
            reference, found = results(exact, seed, atoms, periodic), results(coarse, seed, atoms, periodic)
            for key, value in reference.items():
                error = float((found[key] - value).norm() / value.norm())
                worst[key] = max(worst.get(key, 0.0), error)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, torch {torch.__version__}, one thread, float64, {arguments.atoms} atoms")
    for order, (coefficient, exponent) in ERROR_MODEL.items():
        print(f"\norder {order}\n   x   features    forces  read-out    stress     model")
        points = []
        for x in SPACINGS:
            e = errors(order, x, arguments.seeds, arguments.atoms)
            points.append((x, max(e["forces"], e["read-out"])))
            row = "  ".join(f"{e[key]:8.1e}" for key in ("features", "forces", "read-out", "stress"))
            print(f"{x:5.2f}  {row}  {coefficient * x**exponent:8.1e}", flush=True)
        slope, constant = np.polyfit(np.log([p[0] for p in points]), np.log([p[1] for p in points]), 1)
        print(f"fitted: {np.exp(constant):.2g} x^{slope:.1f}")


if __name__ == "__main__":
    main()
