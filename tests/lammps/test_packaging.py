"""The plugin in the wheel: found by plain LAMMPS, light, without traces of the build, harmless when broken."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fp_potential._plugin_path import OPERATORS, PLUGIN, directory, find

OTHER_SCRIPT = """
units lj
region box block 0 4 0 4 0 4
create_box 1 box
create_atoms 1 single 1 1 1
mass 1 1
pair_style lj/cut 2
pair_coeff * * 1 1
run 0
print "all other work is done"
"""
DONE = "all other work is done"


def dynamic_strings(path: Path, wanted: int) -> list[str]:
    """Strings of the entries ``wanted`` of the dynamic section of a 64-bit ELF file."""
    data = path.read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + k * size) for k in range(count)]
    dynamic = next(s for s in sections if s[1] == 6)
    strings = sections[dynamic[6]]
    out = []
    for at in range(dynamic[4], dynamic[4] + dynamic[5], 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == wanted:
            start = strings[4] + value
            out.append(data[start : data.index(b"\0", start)].decode())
    return out


@pytest.mark.parametrize("name", [PLUGIN, OPERATORS])
def test_runpath(name):
    """Libraries are looked for beside the package only; MPI and LAMMPS come from the process."""
    path = Path(find(name))
    runpath, rpath, needed = (dynamic_strings(path, tag) for tag in (29, 15, 1))
    folders = [f for entry in runpath + rpath for f in entry.split(":")]
    assert folders and all(f == "$ORIGIN" or f.startswith("$ORIGIN/") for f in folders), folders
    assert not [n for n in needed if "mpi" in n or "lammps" in n]


def test_hook_is_light(tmp_path):
    """The hook loads neither torch nor numpy, and plain `lmp` finds the plugin (away from the sources)."""
    program = (
        "import sys, os, lammps.executable; "
        "assert not {'torch', 'numpy', 'ase'} & set(sys.modules); "
        "print(os.environ['LAMMPS_PLUGIN_PATH'])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert directory() in done.stdout.strip().split(":")


def test_hook_never_raises(monkeypatch):
    import fp_potential._plugin_path as hook

    monkeypatch.setattr(hook, "find", lambda name: 1 / 0)
    assert hook.directory() == ""


def test_style_is_found(tools, tmp_path):
    (tmp_path / "in.lammps").write_text("info styles pair\n")
    done = tools.run([str(tools.scripts / "lmp"), "-in", "in.lammps"], tmp_path, 60)
    assert "fixedpoint" in done.stdout
    program = "import mpi4py.MPI, lammps; l = lammps.lammps(cmdargs=['-screen', 'none', '-log', 'none']); "
    program += "assert 'fixedpoint' in l.available_styles('pair'); print('found')"
    done = tools.run([sys.executable, "-c", program], tmp_path, 60)
    assert "found" in done.stdout, done.stderr[-1000:]


def run_with_plugin_folder(tools, folder: Path, where: Path) -> subprocess.CompletedProcess[str]:
    """The LAMMPS binary itself, with only ``folder`` to search for plugins."""
    import lammps.executable as executable

    (where / "in.lammps").write_text(OTHER_SCRIPT)
    binary = os.path.join(executable.ROOT_DIR, "lmp")
    return tools.run(
        [binary, "-in", "in.lammps", "-log", "none"],
        where,
        60,
        LAMMPS_PLUGIN_PATH=str(folder),
        LD_LIBRARY_PATH=os.environ.get("LD_LIBRARY_PATH", ""),
    )


@pytest.mark.parametrize("state", ["garbage", "empty", "operators missing", "nothing"])
def test_broken_library(tools, tmp_path, state):
    """Whatever happened to our files, other scripts run."""
    folder = tmp_path / "lib"
    folder.mkdir()
    if state == "garbage":
        (folder / PLUGIN).write_bytes(b"not a library")
    elif state == "empty":
        (folder / PLUGIN).touch()
    elif state == "operators missing":
        shutil.copy(find(PLUGIN), folder / PLUGIN)
    done = run_with_plugin_folder(tools, folder, tmp_path)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    assert DONE in done.stdout


def test_operators_of_somebody_else(tools, tmp_path):
    """Operators of these names from another source: others are not disturbed, our style refuses."""
    program = f"""
import mpi4py.MPI, torch
library = torch.library.Library("fixedpoint", "DEF")
library.define("ghost_gather(Tensor x, int n_total) -> Tensor")
import lammps
l = lammps.lammps(cmdargs=["-log", "none"])
l.commands_string({OTHER_SCRIPT!r})
try:
    l.command("pair_style fixedpoint")
except Exception as e:
    assert "operators are registered by something else" in str(e), e
    print("refused")
"""
    done = tools.run([sys.executable, "-c", program], tmp_path, 60)
    assert DONE in done.stdout, done.stdout[-1000:] + done.stderr[-1000:]
    assert "refused" in done.stdout


def test_lazy_package():
    """The public classes are there without being imported first."""
    program = "import sys, fp_potential; assert 'torch' not in sys.modules; fp_potential.FixedPointCalculator; "
    program += "assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    import fp_potential

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fp_potential.nothing
