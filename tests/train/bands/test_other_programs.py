"""Bands of Quantum ESPRESSO and BerkeleyGW into a bundle, and structures: files as these programs write them."""

import numpy as np
import pytest
from ase.build import bulk
from fp_potential.train.bands.bundle import other_programs
from fp_potential.train.bands.bundle.read import read_bundle
from fp_potential.train.bands.structures import cell_from_ase, geometry_of, primitive, read_structure, write_structure
from fp_potential.train.bands.systems import load_system, load_systems
from fp_potential.train.errors import InputError

from bands.materials import GAMMA, analytic
from fp_potential.bands import HARTREE, Crystal, Hamiltonian, PlaneWaves, band_energies
from fp_potential.cli.main import main
from train.bands.bundles import CDSE, change, copy

PATH = np.array([[0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0, 0, 0], [0.25, 0, 0.25], [0.5, 0, 0.5]])
PW_INPUT = """&control
 calculation = 'bands'
/
K_POINTS crystal_b
3
 0.5 0.5 0.5 2 ! L
 0.0 0.0 0.0 2
 0.5 0.0 0.5 1
"""


@pytest.fixture
def silicon(tmp_path):
    """The folder, with a crystal and a k-path; energies of four bands; Cartesian k-points in units of 2 pi/alat."""
    atoms = bulk("Si", "diamond", a=5.43)
    atoms.write(tmp_path / "si.cif")
    (tmp_path / "bands.in").write_text(PW_INPUT, encoding="utf-8")
    energies = np.random.default_rng(1).normal(size=(5, 4)).round(4)
    return tmp_path, np.sort(energies, axis=1), (PATH @ np.linalg.inv(read_cell(tmp_path)).T) * 5.43 / 0.529177


def read_cell(folder):
    return geometry_of(read_structure(folder / "si.cif")).cell


def filband(energies, k):
    lines = [f" &plot nbnd=   {energies.shape[1]}, nks=     {len(k)} /"]
    for point, row in zip(k, energies, strict=True):
        lines.append("".join(f"{value:20.6f}" for value in point))
        lines.append("".join(f"{value:8.3f}" for value in row))
    return "\n".join(lines) + "\n"


def bandstructure(energies, k):
    head = "# spin    band          kx          ky          kz          E(MF)          E(QP)        Delta E\n"
    rows = [
        f"1 {5 + band} {point[0]:.8f} {point[1]:.8f} {point[2]:.8f} {row[band] - 1:.9f} {row[band]:.9f} 1.0"
        for band in range(energies.shape[1])
        for point, row in zip(k, energies, strict=True)
    ]
    return head + "\n".join(rows) + "\n"


def eqp(energies):
    blocks = []
    for point, row in zip(PATH, energies, strict=True):
        blocks.append(f"{point[0]:13.9f}{point[1]:13.9f}{point[2]:13.9f}{len(row):8d}")
        blocks += [f"{1:8d}{band + 1:8d}{value - 1:15.9f}{value:15.9f}" for band, value in enumerate(row)]
    return "\n".join(blocks) + "\n"


def schema(energies, folder, noncolin="false"):
    cell = read_cell(folder)
    k = PATH @ np.linalg.inv(cell).T * 10.2
    points = "".join(
        f'<ks_energies><k_point weight="0.4">{p[0]:.10e} {p[1]:.10e} {p[2]:.10e}</k_point><eigenvalues size="4">'
        f"{' '.join(f'{e / 27.211386245988:.12e}' for e in row)}</eigenvalues></ks_energies>"
        for p, row in zip(k, energies, strict=True)
    )
    vectors = "".join(f"<a{i + 1}>{row[0]:.12e} {row[1]:.12e} {row[2]:.12e}</a{i + 1}>" for i, row in enumerate(cell))
    quarter = cell.sum(0) / 4
    return (
        '<?xml version="1.0"?><qes:espresso xmlns:qes="http://www.quantum-espresso.org/ns/qes/qes-1.0"><output>'
        '<atomic_structure nat="2" alat="10.2"><atomic_positions><atom name="Si1" index="1">0 0 0</atom>'
        f'<atom name="Si2" index="2">{quarter[0]:.12e} {quarter[1]:.12e} {quarter[2]:.12e}</atom>'
        f"</atomic_positions><cell>{vectors}</cell>"
        f"</atomic_structure><band_structure><lsda>false</lsda><noncolin>{noncolin}</noncolin>{points}</band_structure>"
        "</output></qes:espresso>"
    )


@pytest.mark.parametrize("kind", ["filband", "bandstructure", "eqp", "xml"])
def test_bands_become_a_system(silicon, kind, capsys):
    folder, energies, k = silicon
    texts = {"filband": filband(energies, k), "bandstructure": bandstructure(energies, k), "eqp": eqp(energies)}
    source = folder / ("data-file-schema.xml" if kind == "xml" else "bands.dat")
    source.write_text(schema(energies, folder) if kind == "xml" else texts[kind], encoding="utf-8")
    words = ["--max-ke", "4", "--bands", "2:4", "--shift", "-1.5"]
    words += [] if kind == "xml" else ["--structure", str(folder / "si.cif")]
    words += ["--kpoints", str(folder / "bands.in")] if kind in ("filband", "bandstructure") else []
    bundle = copy(CDSE, folder / "bundle")
    assert main(["bands", "convert", str(source), str(bundle), *words]) == 0
    assert "wrote system_1.par, input_1.par, kpoints_1.par" in capsys.readouterr().out
    (bundle / "init_SiParams.par").write_text("1 2 3 4", encoding="utf-8")
    system = load_systems(read_bundle(bundle).systems)[1]
    assert (system.name, system.n_bands, system.max_ke) == ("Si", 6, 4.0)
    assert np.abs(system.kpoints - PATH).max() < 1e-7
    expected = np.repeat(energies[:, 1:], 2, axis=1) - 1.5
    assert np.abs(system.reference - expected).max() < (6e-4 if kind == "filband" else 1e-8)
    assert np.allclose(system.geometry.cell, read_cell(folder), atol=1e-8)
    lengths = np.linalg.norm(np.diff(PATH @ np.linalg.inv(read_cell(folder)).T * 2 * np.pi, axis=0), axis=1).cumsum()
    assert np.allclose(system.path, [0, *lengths], atol=1e-7)


def test_spinor_and_mean_field_bands(silicon):
    folder, energies, _ = silicon
    (folder / "eqp.dat").write_text(eqp(energies), encoding="utf-8")
    choice = other_programs.Choice(structure=folder / "si.cif", mean_field=True, spinor=True)
    assert np.allclose(other_programs.read(folder / "eqp.dat", choice).energies, energies - 1, atol=1e-8)
    (folder / "a.xml").write_text(schema(energies, folder, "true"), encoding="utf-8")
    assert other_programs.read(folder / "a.xml", other_programs.Choice()).energies.shape == (5, 4)


WRONG = {
    "no crystal": ({"structure": None}, eqp, "holds no crystal; give it by --structure FILE"),
    "no k-points": ({"kpoints": None}, bandstructure, "its k-points are Cartesian, in units that it does not say"),
    "other path": ({"kpoints": "other.par"}, bandstructure, " is not that of /"),
    "shorter path": ({"kpoints": "short.par"}, bandstructure, "1 k-points, expected 5 as in"),
    "Cartesian path": (
        {"kpoints": "tpiba.in"},
        bandstructure,
        "tpiba.in:1: K_POINTS tpiba, expected K_POINTS crystal_b",
    ),
    "bands": ({"bands": "3:5"}, eqp, "--bands 3:5: expected FIRST:LAST between 1 and 4, the bands that there are"),
    "torn": ({}, lambda energies: eqp(energies)[:-40], "bands.dat:21: not 4 rows below it, expected 4 rows: spin band"),
    "other": (
        {},
        lambda energies: "1 2 3\n",
        "bands.dat:1: 3 columns, expected '&plot' (filband of bands.x), 8 columns",
    ),
    "missing numbers": (
        {},
        lambda energies: "&plot nbnd= 4, nks= 5 /\n1.0 2.0\n",
        "2 numbers, expected 35: for each of 5",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bands(silicon, name):
    folder, energies, k = silicon
    (folder / "other.par").write_text("0.5 0.5 0.5\n0 0 0\n0.25 0.25 0.25\n0.25 0 0.25\n0.5 0 0.5\n", encoding="utf-8")
    (folder / "short.par").write_text("0.5 0.5 0.5\n", encoding="utf-8")
    (folder / "tpiba.in").write_text("K_POINTS tpiba\n1\n0 0 0 1\n", encoding="utf-8")
    changed, text, expected = WRONG[name]
    options = {"structure": "si.cif", "kpoints": "bands.in"} | changed
    for option in ("structure", "kpoints"):
        options[option] = None if options[option] is None else folder / options[option]
    (folder / "bands.dat").write_text(text(energies, k) if text is bandstructure else text(energies), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        other_programs.read(folder / "bands.dat", other_programs.Choice(**options))
    assert expected in str(caught.value)


def test_structure_of_any_file(tmp_path):
    """The same system from a published file and from one that ASE writes."""
    config = read_bundle(CDSE)
    system = load_system(config.systems[0])
    write_structure(tmp_path / "cdse.vasp", read_structure(CDSE / "system_0.par"))
    other = load_system(config.systems[0].model_copy(update={"structure": str(tmp_path / "cdse.vasp")}))
    assert other.species == system.species
    assert np.allclose(other.geometry.cell, system.geometry.cell, atol=1e-9)
    assert np.allclose((other.geometry.positions - system.geometry.positions) % 1.0 % 1.0, 0, atol=1e-9)
    with pytest.raises(InputError, match=r"ASE cannot read it"):
        (tmp_path / "a.cif").write_text("nothing", encoding="utf-8")
        read_structure(tmp_path / "a.cif")
    with pytest.raises(InputError, match=r"no cell with three periodic directions"):
        (tmp_path / "a.xyz").write_text("1\n\nHe 0 0 0\n", encoding="utf-8")
        read_structure(tmp_path / "a.xyz")


def bands_at_gamma(cell, max_ke, n_bands):
    geometry = geometry_of(cell)
    crystal = Crystal(geometry.cell, geometry.species, geometry.positions)
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, max_ke))
    return HARTREE * band_energies(hamiltonian, analytic(crystal), GAMMA, n_bands)[0].detach().numpy()


def test_primitive_cell(tmp_path, capsys):
    """Of eight atoms of zinc blende, two; bands of the small cell at Gamma are among those of the large one."""
    large = bulk("CdSe", "zincblende", a=6.0583, cubic=True)
    large.write(tmp_path / "large.cif")
    assert main(["bands", "primitive", str(tmp_path / "large.cif"), str(tmp_path / "system_0.par")]) == 0
    assert "F-43m (216): 8 atoms, 2 in the primitive cell (4 times as large)" in capsys.readouterr().out
    small, big = read_structure(tmp_path / "system_0.par"), cell_from_ase(large)
    ratio = np.linalg.det(geometry_of(big).cell) / np.linalg.det(geometry_of(small).cell)
    assert abs(ratio - 4) < 1e-9 and sorted(geometry_of(small).species) == ["Cd", "Se"]
    few, many = bands_at_gamma(small, 2.0, 8), bands_at_gamma(big, 2.0, 40)
    assert np.abs(few[:, None] - many).min(1).max() < 1e-9
    with pytest.raises(InputError, match=r"ASE has no format of this name"):
        write_structure(tmp_path / "a.nothing", small)
    change(tmp_path / "system_0.par", "scale", "scale")
    assert primitive(small)[1] == "F-43m (216)"
