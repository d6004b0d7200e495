"""Runs LAMMPS on several ranks and reads what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from fp_potential._plugin_path import PLUGIN, find
from refusals import SYSTEM

TYPES = ["O", "Na", "H", "Cl"]  # not the model's order
SCRIPTS = Path(sysconfig.get_path("scripts"))

#: a simulation with everything that is compared; the variables are arguments of `Simulation.frames`
INPUT = """
units           ${units}
atom_style      charge
boundary        p p p
${setup}
read_data       system.data
pair_style      fixedpoint ${style}
pair_coeff      * * model.pt O Na H Cl
${extra}
neighbor        0.3 bin
neigh_modify    every 1 delay 0 check yes
fix             move all nve
fix             fp all pair 1 fixedpoint charge 0 dipole 0 potential 0
compute         fp all pair fixedpoint
compute         virial all pressure NULL virial
compute         eatom all pe/atom
thermo_style    custom step pe vol lx ly lz xy xz yz c_virial[*] c_fp[*]
thermo_modify   format float %.17g
thermo          1
dump            1 all custom 1 out.dump id type x y z fx fy fz q f_fp[1] f_fp[2] f_fp[3] f_fp[4] f_fp[5] c_eatom
dump_modify     1 sort id format float %.17g
velocity        all create ${temperature} 11
run             ${steps}
"""


@dataclass
class Frame:
    """One step of a simulation, in LAMMPS' units."""

    thermo: dict[str, float]
    table: np.ndarray  #: rows of the dump, sorted by id

    def atoms(self) -> Atoms:
        """The structure as ASE sees it."""
        t = self.thermo
        cell = [[t["Lx"], 0, 0], [t["Xy"], t["Ly"], 0], [t["Xz"], t["Yz"], t["Lz"]]]
        symbols = [TYPES[int(k) - 1] for k in self.table[:, 1]]
        return Atoms(symbols, positions=self.table[:, 2:5], cell=cell, pbc=True)

    @property
    def forces(self) -> np.ndarray:
        return self.table[:, 5:8]

    @property
    def charges(self) -> np.ndarray:
        return self.table[:, 8]

    @property
    def pressure(self) -> np.ndarray:
        """xx, yy, zz, xy, xz, yz."""
        return np.array([self.thermo[f"c_virial[{k}]"] for k in range(1, 7)])

    def global_value(self, index: int) -> float:
        """Entry of ``compute pair``, counted from 1."""
        return self.thermo[f"c_fp[{index}]"]


def environment(**extra: str) -> dict[str, str]:
    """One thread per rank, and MPI's collectives without busy waiting: tests have more ranks than cores."""
    settings = {"OMP_NUM_THREADS": "1", "MPIR_CVAR_DEVICE_COLLECTIVES": "none"}
    return {**os.environ, **settings, **extra}


def run(command: list[str], cwd: Path, timeout: float = 300, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; a hang is a failure."""
    return subprocess.run(
        command, cwd=cwd, env=environment(**extra), capture_output=True, text=True, timeout=timeout, check=False
    )


def lammps_command(ranks: int, script: str = "in.lammps", *arguments: str) -> list[str]:
    launcher = [str(SCRIPTS / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
    return [*launcher, str(SCRIPTS / "lmp"), "-in", script, "-log", "log.lammps", *arguments]


def read_thermo(log: str) -> list[dict[str, float]]:
    """Rows of all tables of thermodynamic output."""
    rows, header = [], None
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            header = words
        elif line.startswith("Loop time"):
            header = None
        elif header and len(words) == len(header):
            rows.append(dict(zip(header, map(float, words), strict=True)))
    return rows


def read_dump(path: Path) -> list[np.ndarray]:
    tables, lines = [], path.read_text().splitlines()
    for start in [k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS")]:
        n = next(k for k in range(start + 1, len(lines) + 1) if k == len(lines) or lines[k].startswith("ITEM"))
        tables.append(np.array([[float(w) for w in line.split()] for line in lines[start + 1 : n]]))
    return tables


class Simulation:
    """A folder with a model and a structure in which LAMMPS runs."""

    def __init__(self, folder: Path, model_file: Path) -> None:
        self.folder = folder
        self.model_file = model_file
        (folder / "model.pt").symlink_to(model_file)

    def write_structure(self, atoms: Atoms, units: str = "metal") -> None:
        write(
            self.folder / "system.data",
            atoms,
            format="lammps-data",
            specorder=TYPES,
            atom_style="charge",
            masses=True,
            units=units,
        )

    def run_script(self, script: str, ranks: int = 1, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        (self.folder / "in.lammps").write_text(script)
        return run(lammps_command(ranks), self.folder, timeout)

    def run_python(self, arguments: list[str], ranks: int, timeout: float) -> subprocess.CompletedProcess[str]:
        """A Python program in the folder."""
        launcher = [str(SCRIPTS / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
        return run([*launcher, sys.executable, *arguments], self.folder, timeout)

    def thermo(self) -> list[dict[str, float]]:
        """Rows of the last script's thermodynamic output, of all its runs."""
        return read_thermo((self.folder / "log.lammps").read_text())

    def frames(
        self,
        ranks: int = 1,
        style: str = "charge 0",
        steps: int = 0,
        setup: str = "",
        units: str = "metal",
        temperature: float = 300,
        extra: str = "",
    ) -> tuple[list[Frame], str]:
        """Run `INPUT`; returns the frames of all steps and the log."""
        values = {"style": style, "steps": steps, "setup": setup, "units": units, "temperature": temperature}
        values["extra"] = extra
        script = INPUT
        for name, value in values.items():
            script = script.replace("${" + name + "}", str(value))
        done = self.run_script(script, ranks)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        log = (self.folder / "log.lammps").read_text()
        thermo, tables = self.thermo(), read_dump(self.folder / "out.dump")
        assert len(thermo) == len(tables) == steps + 1
        return [Frame(*pair) for pair in zip(thermo, tables, strict=True)], log


@pytest.fixture(scope="session", autouse=True)
def plugin() -> str:
    """Path of the compiled plugin; without it there is nothing to test here."""
    path = find(PLUGIN)
    if path is None:
        pytest.skip("the LAMMPS plugin is not built in this installation")
    return path


@pytest.fixture(scope="session")
def model_file(archive_of) -> Path:
    return archive_of()


@pytest.fixture(scope="session")
def simulation_in(archive_of) -> Callable[[Path], Simulation]:
    """A simulation with the usual model in a folder."""
    return lambda folder: Simulation(folder, archive_of())


@pytest.fixture
def simulation(model_file, tmp_path) -> Simulation:
    return Simulation(tmp_path, model_file)


@pytest.fixture
def box(simulation) -> Simulation:
    """The folder of the scripts of `refusals`."""
    simulation.write_structure(SYSTEM)
    return simulation


@pytest.fixture
def simulation_of(archive_of, tmp_path) -> Callable[..., Simulation]:
    """A folder with another model, that of the arguments of `make_model`."""
    return lambda *arguments, **options: Simulation(tmp_path, archive_of(*arguments, **options))


@dataclass
class Tools:
    """Programs of this environment."""

    scripts: Path

    def run(self, command: list[str], cwd: Path, timeout: float = 300, **extra: str):
        return run(command, cwd, timeout, **extra)


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools(SCRIPTS)
