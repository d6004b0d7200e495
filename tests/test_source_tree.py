"""Python started in the root of the repository, where it finds the sources first, takes the built package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fp_potential

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(fp_potential.__file__).parent


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of the sources."""
    folder = tmp_path / "sources"
    folder.mkdir()
    shutil.copy2(ROOT / "pyproject.toml", folder)
    for name in ("fp_potential", "train"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def python(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


LOOK = """
import sys
import fp_potential
import fp_potential.train.errors as errors
from fp_potential import _plugin_path
print(fp_potential.__file__, errors.__file__, _plugin_path.find(_plugin_path.OPERATORS), sep="\\n")
print("torch" in sys.modules, fp_potential.__spec__.origin == fp_potential.__file__)
"""


@pytest.mark.parametrize("place", ["root", "another folder", "path"])
def test_built_package(tree, tmp_path, place):
    """Modules, fp_potential.train and compiled operators are those of the built package; nothing heavy is loaded."""
    where = {"root": (tree, None), "another folder": (tmp_path, None), "path": (tmp_path, tree)}
    done = python(where[place][0], "-W", "error", "-c", LOOK, path=where[place][1])
    assert done.returncode == 0 and done.stderr == "", done.stderr
    files = [str(BUILT / "__init__.py"), str(BUILT / "train" / "errors.py")]
    assert done.stdout.splitlines()[:2] == files
    assert done.stdout.splitlines()[2].startswith(str(BUILT / "lib"))
    assert done.stdout.splitlines()[3] == "False True"


def test_module_run_in_the_root(tree):
    done = python(tree, "-W", "error", "-m", "fp_potential.cli.main", "--version")
    assert done.returncode == 0 and fp_potential.__version__ in done.stdout, done.stderr


def test_plugin_found_in_the_root(tree):
    """What LAMMPS asks at its start."""
    program = "from importlib.metadata import entry_points as e; (p,) = e(group='lammps.plugins', name='fixedpoint'); "
    done = python(tree, "-W", "error", "-c", program + "print(p.load()())")
    assert done.stdout.strip() == str(BUILT / "lib"), done.stderr


@pytest.mark.parametrize("setup_done", [False, True])
def test_without_a_built_package(tree, tmp_path, setup_done):
    """The last line of the error says what to do, and another source tree on the path does not help."""
    if setup_done:
        (tree / ".venv").mkdir()
        (tree / ".venv" / "installed").touch()
    other = tmp_path / "other"
    shutil.copytree(tree, other)
    program = f"import sys; sys.path[:0] = [{str(tree)!r}, {str(other)!r}]; import fp_potential.train"
    done = python(tmp_path, "-I", "-S", "-c", program)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {tree} holds the sources of fp_potential, which are not built: ")
    interpreter = tree / ".venv" / "bin" / "python"
    expected = f"use {interpreter}" if setup_done else f"run `make setup` there, then {interpreter}; or `pip install .`"
    assert last.endswith(expected)


def test_older_built_package(tree):
    """A line says so where version or files differ from the sources; the same content in a younger file is none."""
    look = ("-c", "import fp_potential")
    os.utime(tree / "train" / "run.py")
    assert python(tree, *look).stderr == ""
    with open(tree / "train" / "run.py", "a") as file:
        file.write("\n")
    changed = python(tree, *look)
    assert changed.returncode == 0 and len(changed.stderr.splitlines()) == 1
    assert f"{BUILT} is not made from the sources in {tree} as they are: `pip install .`" in changed.stderr
    init = tree / "fp_potential" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{fp_potential.__version__}"', '"99.0"'))
    other = python(tree, *look)
    assert other.returncode == 0 and len(other.stderr.splitlines()) == 1
    assert f"is version {fp_potential.__version__}, the sources in {tree} are 99.0" in other.stderr
