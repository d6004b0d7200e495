"""Which folder of train/ may import which: a learned model is known to the command line and to run.py alone."""

import ast
from pathlib import Path

import fp_potential.train
import pytest

HERE = Path(next(iter(fp_potential.train.__path__)))
FORBIDDEN = {
    "trainer": {"potential", "data", "report", "run"},
    "config": {"potential", "data", "report", "trainer", "run"},
    "data": {"potential", "trainer", "report", "run"},
    "potential": {"report", "run"},
}


def imported(path):
    """Folders and modules of train/ that a module imports, wherever it does."""
    package = ["fp_potential", "train", *path.relative_to(HERE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        yield from (name[2] for name in names if name[:2] == ["fp_potential", "train"] and len(name) > 2)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_stay_within_the_walls(folder):
    modules = sorted((HERE / folder).rglob("*.py"))
    assert len(modules) > 3
    found = {path.name: FORBIDDEN[folder] & set(imported(path)) for path in modules}
    assert not {name: names for name, names in found.items() if names}
