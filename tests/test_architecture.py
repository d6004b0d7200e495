"""The walls between the parts of the code, and their picture (docs/architecture.md)."""

import importlib.util
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as architecture.py finds walls.py when it is run
    spec.loader.exec_module(module)
    return module


walls = _load("walls")
architecture = _load("architecture")


def test_walls():
    """No import of fp_potential/ and train/ goes through a wall; every failure is the sentence of its wall."""
    found = walls.homeless(python=True) + walls.breaches(python=True)
    assert not found, "\n".join(found)


def test_walls_of_the_plugin():
    """No include does."""
    found = walls.homeless(python=False) + walls.breaches(python=False)
    assert not found, "\n".join(found)


def test_rooms():
    """Every room is there and has files, its imports lead down, so that there are no circles."""
    assert not walls.circles()
    filled = {walls.room_of(path).name for path in walls.source_files() if walls.room_of(path)}
    assert filled == {room.name for room in walls.ROOMS}
    assert len(walls.imports()) > 1000


SCF, TRAINER, CONFIG = "fp_potential/scf/loop.py", "train/trainer/trainer.py", "train/potential/config/file.py"
MODEL, CPP = "fp_potential/model.py", "lammps_plugin"
SCRIPT = "import torch\nx = torch.jit.script(y)"


@pytest.mark.parametrize(
    "file, text, expected",
    [
        (SCF, "from ..density import density_map", f"scf/ knows no density: {SCF}:1 imports fp_potential/density/"),
        (SCF, "\nimport fp_potential.density.problem as p", f"{SCF}:2 imports fp_potential/density/problem.py"),
        (SCF, "def f():\n    from ..model import x", f"{SCF}:2 imports fp_potential/model.py"),
        (SCF, "from .. import response", f"{SCF}:1 imports fp_potential/response/"),
        (SCF, "from ..train.potential import modes", f"{SCF}:1 imports train/potential/modes/"),
        (SCF, "import ase.data", f"{SCF}:1 imports ase.data"),
        (SCF, "from ..graph import Graph\nfrom .status import CONVERGED\nimport torch, math", ""),
        (SCF, 'importlib.import_module("..density", __package__)', f"{SCF}:1 imports fp_potential/density/"),
        (SCF, '__import__("fp_potential.electrostatics")', f"{SCF}:1 imports fp_potential/electrostatics/"),
        (TRAINER, "from ..potential.config import Stage", "a learned model only as a Problem"),
        (TRAINER, "from ...files import write_whole\nfrom . import options", ""),
        (CONFIG, "from ...trainer.options import TrainingOptions", ""),
        (CONFIG, "from ...trainer import trainer", "knows options of trainer and data"),
        (MODEL, SCRIPT, f"torch.jit is its business alone: {MODEL}:2"),
        (MODEL, "from torch import jit", f"torch.jit is its business alone: {MODEL}:1"),
        (MODEL, "import torch\n@torch.jit.unused\ndef f(): pass", ""),
        ("fp_potential/export.py", SCRIPT, ""),
        ("fp_potential/__init__.py", "import torch", "imports nothing but the standard library"),
        (f"{CPP}/kernels/a.cpp", "#include <cmath>\n#include <ATen/ATen.h>", "a.cpp:2 imports ATen/ATen.h of torch"),
        (f"{CPP}/kernels/a.cpp", '#include "operators/communication.h"', "kernels/ include neither torch nor"),
        (f"{CPP}/kernels/a.cpp", '#include "kernels/vectors.h"\n#include <immintrin.h>', ""),
        (f"{CPP}/operators/a.h", '#include "atom.h"', "operators/ know no LAMMPS"),
        (f"{CPP}/model/a.cpp", '#include "json.h"', ""),
        (f"{CPP}/model/a.cpp", '#  include "pair.h"', "model/ knows of LAMMPS only its json.h"),
        (f"{CPP}/pair_style/a.cpp", '#include "../model/metadata.h"', ""),
        (f"{CPP}/pair_style/a.cpp", '#include "../kernels/vectors.h"', f"imports {CPP}/kernels/vectors.h"),
        (f"{CPP}/kernels/a.cpp", '#include "../operators/redistribute.h"', "kernels/ include neither torch nor"),
        (f"{CPP}/pair_style/a.cpp", '#include <torch/library.h>\n#include "pair.h"', "pair_style/ knows no torch"),
    ],
)
def test_what_goes_through_a_wall(file, text, expected):
    read = walls.imports_of_python if file.endswith(".py") else walls.includes_of
    found = [str(wall) for wall in map(walls.breach, read(file, text)) if wall]
    assert len(found) == (1 if expected else 0) and expected in "".join(found), found


@pytest.mark.parametrize("file", ["architecture.svg", "architecture.md"])
def test_picture(file):
    """Picture and table are those of the present imports: ``python docs/architecture.py --write``."""
    present = (DOCS / file).read_text(encoding="utf-8")
    wanted = architecture.picture() if file.endswith("svg") else architecture.page(present)
    assert present == wanted, "python docs/architecture.py --write"
