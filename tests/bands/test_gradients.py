"""Derivatives of bands by all parameters against finite differences: every term, switch and family."""

import pytest
import torch

from bands.materials import GAMMA, GENERAL, L, analytic, perovskite, zincblende
from figures import at_most
from fp_potential.bands import (
    Hamiltonian,
    NeuralForm,
    PlaneWaves,
    Pseudopotential,
    TabulatedForm,
    Terms,
    ZungerForm,
    solve,
)
from fp_potential.bands.published_forms import FAMILIES, ZERO, by_published_name

POINTS = torch.cat([GAMMA, L, GENERAL])
KEYS = {
    "PPmodel_decay_rate": 2.0,
    "PPmodel_decay_center": 3.0,
    "PPmodel_gaussian_std": 2.0,
    "PPmodel_scale": [0.7, 1.3],
}
SWITCHES = ["analytic", "long_range", "spin_orbit", "nonlocal_", "strain"]
COMBINATIONS = [(switch,) for switch in SWITCHES] + [("spin_orbit", "nonlocal_"), tuple(SWITCHES)]


def values(n_species):
    """Nine parameters of moderate size, other ones for each species."""
    first = torch.tensor([8.0, 2.5, 2.8, 0.5, 0.3, 3.0, 0.4, 0.2, 0.6], dtype=torch.float64)
    return torch.stack([first * (1.0 + 0.15 * i) for i in range(n_species)])


def network(n_species=2):
    return NeuralForm([8, 8], n_species, generator=torch.Generator().manual_seed(3))


def objective(hamiltonian, potential, n_bands, method="dense"):
    """A smooth function of the bands, the same for every band: it has a derivative where bands are degenerate."""
    states = solve(hamiltonian, potential, POINTS, n_bands, method)
    return (torch.sin(3.0 * states.bands()) * torch.tensor([[1.0], [0.5], [2.0]])).sum()


def difference(hamiltonian, potential, n_bands=6, method="dense"):
    """The relative error of the derivative of `objective` along a random direction of all parameters."""
    parameters = [p for p in potential.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(1)
    gradients = torch.autograd.grad(objective(hamiltonian, potential, n_bands, method), parameters, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]
    directions = [
        torch.randn(p.shape, dtype=p.dtype, generator=generator) * (0.1 * p.detach().abs() + 0.01) for p in parameters
    ]
    along = sum((g * d).sum() for g, d in zip(gradients, directions))
    found, original = [], [p.detach().clone() for p in parameters]
    for step in (2e-4, -2e-4, 1e-4, -1e-4):
        with torch.no_grad():
            for p, p0, d in zip(parameters, original, directions):
                p.copy_(p0 + step * d)
            found.append(objective(hamiltonian, potential, n_bands, method))
    coarse, fine = (found[0] - found[1]) / 4e-4, (found[2] - found[3]) / 2e-4
    expected = (4.0 * fine - coarse) / 3.0
    size = sum((g * d).norm() for g, d in zip(gradients, directions))
    assert float(size) > 1e-4
    return float((along - expected).abs() / size)


@pytest.mark.parametrize("switches", COMBINATIONS, ids="+".join)
def test_terms(switches):
    """Each term and all together, beside a network, in a strained crystal whose anion's charge is slaved."""
    crystal = zincblende().scaled(1.02)
    slaved = "Se" if "long_range" in switches else None
    terms = Terms(**{name: True for name in switches})
    potential = Pseudopotential(crystal.kinds, network(), values(2), terms, slaved=slaved)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 2.5))
    at_most("derivative of bands by parameters, terms", difference(hamiltonian, potential), 1e-6)


def test_three_species():
    """A crystal of several atoms of a kind, whose pseudopotential has them in another order, and one it lacks."""
    crystal = perovskite()
    terms = Terms(analytic=True, spin_orbit=True, nonlocal_=True)
    potential = Pseudopotential(("I", "Cs", "Br", "Pb"), network(4), values(4), terms)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 0.8))
    at_most("derivative of bands by parameters, three species", difference(hamiltonian, potential, 9), 1e-6)


@pytest.mark.parametrize("name", [*FAMILIES, ZERO])
def test_families(name):
    """Every published family."""
    crystal = zincblende()
    form = by_published_name(name, [6, 5], 2, **KEYS, generator=torch.Generator().manual_seed(5))
    potential = Pseudopotential(crystal.kinds, form, values(2), Terms(analytic=name == ZERO))
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 1.5))
    at_most("derivative of bands by parameters, families", difference(hamiltonian, potential), 1e-6)


@pytest.mark.parametrize("form", ["zunger", "table"])
def test_analytic_and_tabulated_forms(form):
    crystal, q = zincblende(), torch.linspace(0.0, 6.0, 20, dtype=torch.float64)
    forms = {"zunger": ZungerForm(values(2)), "table": TabulatedForm(q, ZungerForm(values(2))(q))}
    potential = Pseudopotential(crystal.kinds, forms[form])
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 2.0))
    at_most("derivative of bands by parameters, tables", difference(hamiltonian, potential), 1e-6)


def test_iterative():
    """The iterative solution has the same derivatives."""
    crystal = zincblende()
    terms = Terms(analytic=True, spin_orbit=True, nonlocal_=True)
    potential = Pseudopotential(crystal.kinds, network(), values(2), terms)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 2.5))
    at_most("derivative of bands by parameters, iterative", difference(hamiltonian, potential, 6, "iterative"), 1e-6)


def test_against_the_matrix():
    """Hellmann–Feynman against torch's derivative through the matrix and `eigvalsh`, where no bands are degenerate."""
    crystal = zincblende()
    terms = Terms(analytic=True, spin_orbit=True, nonlocal_=True, long_range=True)
    potential = Pseudopotential(crystal.kinds, network(), values(2), terms)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 2.0))
    weights = torch.linspace(1.0, 2.0, 7, dtype=torch.float64)
    ours = (solve(hamiltonian, potential, GENERAL, 7).bands() * weights).sum()
    theirs = (torch.linalg.eigvalsh(hamiltonian.matrix(GENERAL, potential))[:, :7] * weights).sum()
    parameters = list(potential.parameters())
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters)):
        at_most("derivative of bands against torch's", (a - b).abs().max() / (1.0 + b.abs().max()), 1e-10)


def test_cut_group():
    """A degenerate group of which fewer bands are asked for has the derivative of its mean energy."""
    crystal = zincblende()
    potential = analytic(crystal)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 2.5))
    parameters = list(potential.parameters())
    energies = solve(hamiltonian, potential, GAMMA, 12).bands(potential)
    group = (energies - energies[0, 3]).abs().detach()[0] < 1e-8
    first, size = int(group.nonzero()[0]), int(group.sum())
    assert size == 6, "three p states, twice"
    whole = torch.autograd.grad(energies[0, group].mean(), parameters)
    cut = solve(hamiltonian, potential, GAMMA, first + 1).bands(potential)
    for a, b in zip(whole, torch.autograd.grad(cut[0, first], parameters)):
        at_most("derivative of a cut degenerate group", (a - b).abs().max(), 1e-10)


def test_dropout():
    """Neurons that are left out are the same ones in the bands and in their derivatives."""
    crystal = zincblende()
    form = NeuralForm([30, 30], 2, dropout=0.5, generator=torch.Generator().manual_seed(3))
    potential = Pseudopotential(crystal.kinds, form)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 1.5))
    torch.manual_seed(0)
    ours = solve(hamiltonian, potential, GENERAL, 6).bands().sum()
    torch.manual_seed(0)
    theirs = 2.0 * torch.linalg.eigvalsh(hamiltonian.matrix(GENERAL, potential))[:, :3].sum()
    for a, b in zip(*(torch.autograd.grad(e, list(form.parameters())) for e in (ours, theirs))):
        at_most("derivative of bands with dropout", (a - b).abs().max(), 1e-10)
