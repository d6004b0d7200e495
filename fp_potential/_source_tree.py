"""Python started where it finds the source tree first: the built package of the environment takes its place.

The sources lack the compiled operators and ``fp_potential.train``, which only an installed package has. Loaded by
``fp_potential/__init__.py`` when a ``pyproject.toml`` lies beside the package; like it, without anything heavy.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from types import ModuleType

#: folders of the repository and where their files are in a built package
_PARTS = (("fp_potential", ""), ("train", "train"))


def replace(name: str, version: str, folder: str) -> None:
    """Put the built package ``name`` into ``sys.modules`` in the place of the sources in ``folder``.

    Warns in a line where it is not made from these sources.

    Raises:
        ImportError: the environment has none; the message says what to do.
    """
    root = os.path.dirname(folder)
    built = _built(name, root)
    if built is None:
        raise ImportError(f"{root} holds the sources of {name}, which are not built: {_what_to_do(root)}", name=name)
    source = os.path.join(built, "__init__.py")
    spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=[built])
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    theirs = module.__version__
    if theirs != version or _differ(root, built):
        which = f"is version {theirs}, the sources in {root} are {version}"
        if theirs == version:
            which = f"is not made from the sources in {root} as they are"
        again = "make setup" if _own_environment(root) else "pip install ."
        warnings.warn(f"{name} in {built} {which}: `{again}` builds it anew", RuntimeWarning, stacklevel=3)


def _built(name: str, root: str) -> str | None:
    """Folder of the package on ``sys.path`` that has compiled parts."""
    for entry in sys.path:
        folder = os.path.join(os.path.abspath(entry or os.curdir), name)
        if os.path.dirname(folder) != root and os.path.isdir(os.path.join(folder, "lib")):
            if os.path.isfile(os.path.join(folder, "__init__.py")):
                return folder
    return None


def _own_environment(root: str) -> bool:
    """Whether Python is that of ``make setup``."""
    return os.path.abspath(sys.prefix) == os.path.join(root, ".venv")


def _what_to_do(root: str) -> str:
    python = os.path.join(root, ".venv", "bin", "python")
    if os.path.isfile(os.path.join(root, ".venv", "installed")) and not _own_environment(root):
        return f"use {python}"
    return f"run `make setup` there, then {python}; or `pip install .`"


def _differ(root: str, built: str) -> bool:
    """Whether a Python file of the sources is not what was installed; contents are read where the file is younger."""
    for part, place in _PARTS:
        top = os.path.join(root, part)
        for folder, _, files in os.walk(top):
            there = os.path.normpath(os.path.join(built, place, os.path.relpath(folder, top)))
            for file in files:
                if file.endswith(".py") and _differs(os.path.join(folder, file), os.path.join(there, file)):
                    return True
    return False


def _differs(source: str, installed: str) -> bool:
    try:
        ours, theirs = os.stat(source), os.stat(installed)
    except OSError:
        return True
    if ours.st_size != theirs.st_size:
        return True
    if ours.st_mtime <= theirs.st_mtime:
        return False
    with open(source, "rb") as a, open(installed, "rb") as b:
        return a.read() != b.read()
