"""Fixtures that all tests share."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# `python -m pytest` puts the working folder first, where the sources would hide the installed package
# (which has fp_potential.train and the compiled plugin)
_ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import figures  # noqa: E402
from fp_potential.export import export_model  # noqa: E402
from fp_potential.model import FixedPointPotential  # noqa: E402
from fp_potential.options import SCFOptions  # noqa: E402
from made_once import MadeOnce  # noqa: E402
from structures import make_model  # noqa: E402

#: where a worker of pytest-xdist puts its figures for the process that prints them
_OUTPUT = "figures"


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_OUTPUT] = figures.as_lists()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    figures.add(getattr(node, "workeroutput", {}).get(_OUTPUT, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures behind the limits: worst value, limit, and how often it was looked at."""
    if figures.FIGURES:
        terminalreporter.section("figures")
        for line in figures.lines():
            terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from scheduling import Scheduler

    return Scheduler(config, log)


@pytest.fixture(scope="session")
def model() -> FixedPointPotential:
    """The model most tests use; nobody may change it."""
    return make_model()


@pytest.fixture(scope="session")
def made_once(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Files that all processes of a run share; nobody may change them."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(pytestconfig, "workerinput"):  # a worker of pytest-xdist: its folder is inside of that of the run
        folder = folder.parent
    return MadeOnce(folder / "made_once")


@pytest.fixture(scope="session")
def archive_of(made_once: MadeOnce) -> Callable[..., Path]:
    """The exported model of the arguments of `make_model`, with the settings of its loop and a note on its training."""

    def archive(*arguments: Any, scf: SCFOptions | None = None, training: Any = None, **options: Any) -> Path:
        key = hashlib.sha256(repr((arguments, scf, training, sorted(options.items()))).encode()).hexdigest()[:16]
        return made_once(f"{key}.pt", lambda path: export_model(make_model(*arguments, **options), path, scf, training))

    return archive
