"""The examples in the docstrings of public entries: there is one, it needs nothing but itself, and it is right."""

import doctest
import importlib

import pytest

#: public entries, each with an example in its docstring; new ones are added here
ENTRIES = [
    "fp_potential.calculator.FixedPointCalculator",
    "fp_potential.density.solver.FixedPointSolver",
    "fp_potential.export.export_model",
    "fp_potential.export.load_model",
    "fp_potential.graph.graph_from_atoms",
    "fp_potential.options.ModelOptions",
    "fp_potential.scf.loop",
    "fp_potential.train.trainer.problem.Problem",
]

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented(name: str) -> object:
    """The module, class or function of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", ENTRIES)
def test_example_runs(name: str) -> None:
    entry = documented(name)
    example = doctest.DocTestParser().get_doctest(entry.__doc__ or "", {}, name, None, None)
    assert example.examples, f"{name} has no example (>>>) in its docstring"
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert not failed, "".join(said)
