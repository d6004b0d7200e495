"""Tools of pseudopotentials: sources, k-points, dense bands, edges, densities, terms, clusters."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fp_potential.train.bands.systems import load_systems
from fp_potential.train.bands.targets import valence_band
from fp_potential.train.bands.tools.cluster import Curves, clustered, read_curves
from fp_potential.train.bands.tools.decompose import decomposed, write_terms
from fp_potential.train.bands.tools.dense import bands_at, evaluate
from fp_potential.train.bands.tools.density import density_of, points_of
from fp_potential.train.bands.tools.edges import edge_states, edges_of
from fp_potential.train.bands.tools.files import read_table, tables_figure, write_results
from fp_potential.train.bands.tools.paths import along_letters, mesh, refined, with_points
from fp_potential.train.bands.tools.source import load_source
from fp_potential.train.errors import InputError

import bands_training
from bands_files import bands_file
from figures import at_most
from fp_potential.bands import HARTREE, solve
from fp_potential.bands.density import charge_density

GAMMA_TO_X = np.array([[0.0, 0.0, 0.0], [0.0, 0.25, 0.25], [0.0, 0.5, 0.5]])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Analytic potentials of InAs and GaAs with spin-orbit and non-local terms."""
    terms = {"spin_orbit": True, "non_local": True}
    return load_source(bands_file(tmp_path_factory.mktemp("tools") / "train.yaml", model={"terms": terms}))


def test_bands_of_many_points_in_two_processes_are_those_of_the_whole_matrix(source):
    k = np.array([[0.1, 0.25, 0.4], [-0.1, -0.25, -0.4], [0.25, 0.4, 0.1], [0.3, 0.05, 0.2], [0.5, 0.5, 0.5]])
    (system, _) = source.systems()
    points = torch.from_numpy(k)
    with torch.no_grad():
        exact = HARTREE * torch.linalg.eigvalsh(system.hamiltonian.matrix(points, source.potential))[:, :10]
    for processes, symmetry in ((1, False), (2, False), (2, True)):
        found = bands_at(system.hamiltonian, source.potential, points, 10, processes, symmetry)
        at_most("bands of many points, eV", float((found - exact).abs().max()), 1e-11)


def test_paths_by_letters_are_those_of_the_lattice(source):
    geometry = source.data[0].geometry
    path = along_letters(geometry, "GX,LG", 30)
    assert len(path) == 30
    reciprocal = 2 * np.pi * np.linalg.inv(geometry.cell).T
    lengths = np.linalg.norm(path @ reciprocal, axis=1)
    a = 2 * abs(geometry.cell[0]).max()
    at_most("|X|", abs(lengths.max() - 2 * np.pi / a), 1e-12)
    assert np.isclose(lengths, np.sqrt(3) * np.pi / a, atol=1e-12).any()
    with pytest.raises(InputError, match=r"path 'GQ'.*special points of this lattice: .*G.*K.*L"):
        along_letters(geometry, "GQ", 10)


def test_refined_points_lie_between_and_keep_the_reference(tmp_path):
    """Also where the path jumps: there is nothing in between."""
    points = [[0, 0.1 * n, 0.1 * n] for n in range(4)] + [[0.5, 0.5, 0.5], [0.45, 0.45, 0.45]]
    own = bands_training.system(kpoints=points, deformation=[[4, 0, 0.99, 1.0, 1.0]])
    (data,) = load_systems(bands_training.bands_config(systems=[own]).systems)
    data = replace(data, reference=np.arange(60.0).reshape(6, 10), band_weights=np.ones((6, 10)))
    found = refined(data, 2)
    old = [0, 3, 6, 9, 10, 13]
    assert len(found.kpoints) == 14
    assert np.array_equal(found.kpoints[old], data.kpoints) and np.array_equal(found.reference[old], data.reference)
    assert np.allclose(found.kpoints[1], [0, 0.1 / 3, 0.1 / 3])
    assert np.flatnonzero(found.band_weights[:, 0]).tolist() == old and found.transitions[0].k_to == 10
    assert (np.diff(found.path) > 0).all() and found.k_weights.sum() == 6
    with pytest.raises(InputError, match="-1 k-points between neighbours"):
        refined(data, -1)


def test_mesh_has_gamma_and_the_negative_of_each_point():
    for sizes in ((2, 3, 4), (1, 1, 1)):
        points = mesh(sizes)
        assert len(points) == np.prod(sizes) and (np.abs(points).max(1) == 0).any()
        shifted = (points[:, None] + points[None]) % 1.0
        assert (np.abs(shifted - shifted.round()).max(2) < 1e-12).any(1).all()
    with pytest.raises(InputError, match="mesh 2 0 2: expected three numbers of at least 1"):
        mesh((2, 0, 2))


@pytest.mark.parametrize(
    "species, number, expected",
    [
        (["Cd", "Se"], 16, 7),
        (["In", "As"], 16, 7),
        (["Pb", "I", "I", "I", "Cs"], 32, 25),
        (["Si", "Si"], 28, 7),
        (["Hg", "Te"], 16, 7),
        (["A", "B"], 6, 3),
        (["Pb", "I", "I", "I", "Cs"], 6, 3),
        (["Cd", "P"], 6, 3),
    ],
)
def test_valence_band_by_electrons_or_the_highest_gap(species, number, expected):
    energies = torch.arange(number, dtype=torch.float64).repeat(3, 1) * 0.01
    energies[:, 4:] += 1.0
    assert valence_band(species, energies) == expected


def test_edges_have_the_derivatives_of_their_bands(source):
    """Deformation potential and masses of a state without degeneracy against differences."""
    (system, _) = source.systems([with_points(source.data[0], np.array([[0.02, 0.13, 0.07]])), source.data[1]])
    (result,) = evaluate([system], source.potential).systems
    found = edges_of(result)
    assert (found.valence, found.conduction) == (7, 8)
    states = edge_states(result, source.potential, found)
    top, bottom = states[0], states[-1]
    assert [state.label for state in states] == ["VBM", "VBM - 1", "VBM - 2", "CBM"] and bottom.band == 8
    step = 1e-4
    for state in (top, bottom):
        around = [
            bands_at(system.hamiltonian.scaled(1 + s), source.potential, system.k, 10)[0, state.band]
            for s in (step, -step)
        ]
        slope = float(around[0] - around[1]) / (3 * np.log((1 + step) / (1 - step)))
        at_most("deformation potential of an edge, eV", abs(state.deformation - slope), 1e-5)
        fractions = torch.linalg.inv(system.hamiltonian.crystal.reciprocal)
        h = 2e-4 * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) @ fractions
        e = bands_at(system.hamiltonian, source.potential, torch.cat([system.k + h, system.k, system.k - h]), 10)
        inverse = float(e[0, state.band] - 2 * e[1, state.band] + e[2, state.band]) / HARTREE / 2e-4**2
        assert state.masses[2] is not None
        at_most("inverse mass of an edge", abs(1 / state.masses[2] - inverse), 2e-4)
    with pytest.raises(InputError, match=r"valence band 9: expected 0 … 8"):
        edges_of(result, 9)


def test_density_of_a_mesh_is_that_of_all_its_points(source):
    """Time reversal leaves 5 of 9; the valence bands are those of the electrons."""
    (data,) = points_of(source.data[:1], None, (3, 3, 1), None)
    assert len(data.kpoints) == 5 and data.k_weights.sum() == 9
    (system,) = source.systems([data])
    found = density_of(system, source.potential)
    assert (found.first, found.last) == (0, 7)
    at_most("electrons of a density", abs(found.electrons - 8), 1e-10)
    states = solve(system.hamiltonian, source.potential, torch.from_numpy(mesh((3, 3, 1))), 8)
    every = charge_density(states, torch.ones(8))
    at_most("density of a mesh, electrons/Bohr³", float((found.values - every).abs().max()), 1e-12)
    with pytest.raises(InputError, match="bands '3:99': expected numbers from 0 to 9"):
        density_of(system, source.potential, "3:99")
    with pytest.raises(InputError, match="a grid of"):
        density_of(system, source.potential, "0", grid=(2, 2, 2))


def test_terms_add_up_to_the_bands(source, tmp_path):
    (system, _) = source.systems()
    found = decomposed(system, source.potential)
    expected = evaluate([system], source.potential).systems[0].energies
    at_most("terms of a band, eV", float((found.energies - expected).abs().max()), 1e-10)
    assert float(found.terms[:, :, 0].min()) > 0 and float(found.terms[:, :, 3].abs().max()) > 1e-3
    table, picture = write_terms(found, tmp_path)
    numbers = np.loadtxt(table)
    assert numbers.shape == (40, 8) and picture.stat().st_size > 1000
    at_most("terms in a file, eV", float(np.abs(numbers[:, 3] - numbers[:, 4:].sum(1)).max()), 1e-7)


def test_clusters_of_two_families_of_curves(tmp_path):
    """Labels, and shares of the variance by the eigenvalues of the covariance."""
    q, generator = np.linspace(0, 8, 50), np.random.default_rng(3)
    centers = np.where(np.arange(7) % 3 == 0, 1.0, -1.0)
    values = centers[:, None, None] * np.exp(-(q**2))[None, :, None] + 0.05 * generator.normal(size=(7, 50, 2))
    found = clustered(Curves([str(n) for n in range(7)], ("A", "B"), q, values), 3)
    assert found.labels.tolist() == [0, 1, 1, 0, 1, 1, 0] and 0.7 < found.silhouette <= 1
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(values.reshape(7, -1).T)))[::-1]
    at_most("shares of the variance", float(np.abs(found.shares - eigenvalues[:3] / eigenvalues.sum()).max()), 1e-12)
    for number, name in enumerate("ab"):
        table = np.column_stack([np.linspace(0, 9, 40), np.full((40, 2), number)])
        np.savetxt(tmp_path / f"{name}_qSpace_pot.par", table)
    curves = read_curves([str(tmp_path / f"{name}_qSpace_pot.par") for name in "ab"], 8.0)
    assert np.allclose(curves.values[1] - curves.values[0], 1)
    with pytest.raises(InputError, match="ends at q = 9; expected up to 20"):
        read_curves([str(tmp_path / f"{name}_qSpace_pot.par") for name in "ab"], 20.0)
    with pytest.raises(InputError, match="1 potential: expected two or more"):
        read_curves(["one"], 8.0)


def test_tables_are_drawn_by_what_their_names_say(source, tmp_path):
    written = write_results(evaluate(source.systems(), source.potential), tmp_path)
    bands, points, picture = written[0], written[1], written[-1]
    assert picture.read_bytes().startswith(b"%PDF") and np.loadtxt(points).shape == (4, 4)
    table = read_table(bands)
    energies = evaluate(source.systems(), source.potential).systems[0].energies.numpy()
    assert table.kind == "bands" and np.allclose(table.columns, energies, atol=1e-12)
    (axes,) = tables_figure([table], (-20, 5)).axes
    assert len(axes.lines) == 10 and axes.get_ylim() == (-20, 5)
    np.savetxt(tmp_path / "final_In_qSpace_pot.dat", np.ones((5, 2)))
    np.savetxt(tmp_path / "some.dat", np.ones((5, 1)))
    potential = read_table(tmp_path / "final_In_qSpace_pot.dat")
    assert potential.kind == "reciprocal" and read_table(potential.path, "real").kind == "real"
    with pytest.raises(InputError, match="one picture shows one kind of table, these are bands, reciprocal"):
        tables_figure([table, potential])
    for name, kind, message in (
        ("none.dat", None, "does not exist"),
        ("some.dat", None, "its name does not say what it holds; give --kind"),
        ("some.dat", "cost", "1 columns; expected an abscissa and one or more others"),
        ("bands.pdf", "bands", "expected a table of numbers"),
    ):
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / name, kind)
