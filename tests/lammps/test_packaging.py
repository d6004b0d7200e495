"""The plugin in the wheel: found by plain LAMMPS, light, without traces of the build, harmless when broken."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fp_potential._plugin_path import OPERATORS, PAIR_STYLE, PLUGIN, directory, find

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


@pytest.mark.parametrize("name", [PLUGIN, PAIR_STYLE, OPERATORS])
def test_runpath(name):
    """Libraries are looked for beside the package only; MPI and LAMMPS come from the process, torch when needed."""
    path = Path(find(name))
    runpath, rpath, needed = (dynamic_strings(path, tag) for tag in (29, 15, 1))
    folders = [f for entry in runpath + rpath for f in entry.split(":")]
    assert folders and all(f == "$ORIGIN" or f.startswith("$ORIGIN/") for f in folders), folders
    assert not [n for n in needed if "mpi" in n or "lammps" in n]
    assert ("libtorch_cpu.so" in needed) == (name != PLUGIN)


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


class Installation:
    """A copy of our libraries, with torch where they expect it."""

    def __init__(self, folder: Path) -> None:
        self.lib = folder / "fp_potential" / "lib"
        self.lib.mkdir(parents=True)
        for name in (PLUGIN, PAIR_STYLE, OPERATORS):
            shutil.copy(find(name), self.lib)
        self.torch = folder / "torch"
        self.torch.symlink_to(importlib.util.find_spec("torch").submodule_search_locations[0])

    def damage(self, name: str, state: str) -> None:
        path = self.torch if name == "torch" else self.lib / name
        path.unlink()
        if state != "missing":
            path.write_bytes(b"not a library" if state == "garbage" else b"")


@pytest.fixture
def installation(tmp_path) -> Installation:
    return Installation(tmp_path / "installation")


def run_binary(tools, where: Path, script: str, *launcher: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """The LAMMPS binary itself; ``extra`` are environment variables."""
    import lammps.executable as executable

    (where / "in.lammps").write_text(script)
    binary = os.path.join(executable.ROOT_DIR, "lmp")
    extra.setdefault("LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))
    return tools.run([*launcher, binary, "-in", "in.lammps", "-log", "none"], where, 60, **extra)


DAMAGES = [(name, state) for name in (PLUGIN, PAIR_STYLE, OPERATORS) for state in ("missing", "empty", "garbage")]


@pytest.mark.parametrize(("name", "state"), [*DAMAGES, ("torch", "missing")])
def test_broken_library(tools, tmp_path, installation, name, state):
    """Whatever happened to our files, other scripts run, and our style says which file it cannot use."""
    installation.damage(name, state)
    script = OTHER_SCRIPT + "pair_style fixedpoint\n"
    done = run_binary(tools, tmp_path, script, LAMMPS_PLUGIN_PATH=str(installation.lib))
    assert DONE in done.stdout, done.stdout[-1000:] + done.stderr[-1000:]
    assert done.returncode == 1
    if name == PLUGIN:
        assert "Unrecognized pair style 'fixedpoint'" in done.stdout
        assert state == "missing" or f"{PLUGIN} failed" in done.stdout
    else:
        error = next(line for line in done.stdout.splitlines() if line.startswith("ERROR"))
        assert re.search(rf"pair fixedpoint: cannot be loaded: \S*{name}.*Install fp_potential again", error)


def test_broken_on_one_rank(tools, tmp_path, installation):
    """A library that only one rank cannot open ends all of them, with its message."""
    broken = Installation(tmp_path / "broken")
    broken.damage(PAIR_STYLE, "missing")
    (tmp_path / "0").symlink_to(installation.lib)
    (tmp_path / "1").symlink_to(broken.lib)
    folder_of_rank = 'export LAMMPS_PLUGIN_PATH="$0/$PMI_RANK"; exec "$@"'
    launcher = [str(tools.scripts / "mpirun"), "-n", "2", "sh", "-c", folder_of_rank, str(tmp_path)]
    done = run_binary(tools, tmp_path, OTHER_SCRIPT + "pair_style fixedpoint\n", *launcher)
    assert DONE in done.stdout
    assert done.returncode == 1
    assert f"cannot be loaded: {tmp_path / '1' / PAIR_STYLE}" in done.stdout, done.stdout[-1000:]


def test_loaded_when_used(tools, tmp_path):
    """Torch comes into the process with the first `pair_style fixedpoint`; Python's torch is then the same."""
    program = f"""
import mpi4py.MPI, lammps
def libraries(name):
    return {{line.split()[-1] for line in open("/proc/self/maps") if name in line}}
l = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
l.commands_string({OTHER_SCRIPT!r})
assert not libraries("libtorch") and not libraries("libfixedpoint")
l.command("pair_style fixedpoint")
assert len(libraries("libtorch_cpu")) == 1
import torch
from fp_potential import communication
x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
assert torch.autograd.gradgradcheck(lambda x: communication.sum_ranks(communication.ghost_gather(x, 3)) ** 2, x)
try:
    communication.ghost_gather(x, 5)
except RuntimeError as e:
    assert "expected 5 and 5" in str(e)
    print("same libraries" if len(libraries("libtorch_cpu") | libraries("libfixedpoint_ops")) == 2 else "two copies")
"""
    done = tools.run([sys.executable, "-c", program], tmp_path, 60)
    assert "same libraries" in done.stdout, done.stdout[-1000:] + done.stderr[-2000:]


def test_unload_and_load(tools, tmp_path, installation):
    """The style comes back after `plugin unload`, from a relative path and another folder as well."""
    script = f"""
pair_style fixedpoint
plugin unload pair fixedpoint
plugin load {installation.lib.relative_to(tmp_path)}/{PLUGIN}
shell cd ..
pair_style fixedpoint
clear
pair_style fixedpoint
plugin clear
plugin load {installation.lib}/{PLUGIN}
plugin load {installation.lib}/{PLUGIN}
pair_style fixedpoint
""" + OTHER_SCRIPT.replace("units lj", "clear\nunits lj")
    done = run_binary(tools, tmp_path, script, LAMMPS_PLUGIN_PATH=directory())
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    assert DONE in done.stdout


@pytest.mark.parametrize("program", ["lmp", "python"])
def test_blas_of_torch(tools, tmp_path, program):
    """Torch uses its own BLAS, not the reference BLAS that LAMMPS exports."""
    trace = {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": str(tmp_path / "trace")}
    if program == "lmp":
        done = run_binary(tools, tmp_path, "pair_style fixedpoint\n", LAMMPS_PLUGIN_PATH=directory(), **trace)
    else:
        program = "import mpi4py.MPI, lammps; lammps.lammps().command('pair_style fixedpoint'); import torch"
        done = tools.run([sys.executable, "-c", program], tmp_path, 60, **trace)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    found = {"dgemm_": set(), "sgemm_": set(), "daxpy_": set()}
    for path in tmp_path.glob("trace.*"):
        with path.open() as lines:
            for line in lines:
                match = re.search(r"binding file \S*/libtorch_cpu.so .* to (\S+) .*symbol `(\w+)'", line)
                if match and match[2] in found:
                    found[match[2]].add(Path(match[1]).name)
    assert found["dgemm_"], "nothing is known of dgemm_"
    assert not [name for names in found.values() for name in names if "lammps" in name or name == "lmp"], found


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
