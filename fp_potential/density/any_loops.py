"""The loops of models and of archives of any age, by one set of arguments."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..graph import Graph
from ..scf.loop import SolverResult
from ..scf.settings import LoopSettings, Start


class AnyLoops:
    """The loops of a model, or of the ``model`` of an archive, whatever the order of their arguments when it was made.

    Archives keep the code they were exported with.  Until settings and starts were handed on as `LoopSettings` and
    `Start`, they were arguments one by one.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        schema = getattr(model.evaluate, "schema", None)
        self.one_by_one = schema is not None and "num_scf_steps" in [argument.name for argument in schema.arguments]

    def evaluate(
        self,
        graph: Graph,
        settings: LoopSettings,
        start: Start,
        constant_charge: bool,
        response_forces: bool,
        compute_forces: bool,
    ) -> dict[str, Tensor]:
        """`SelfConsistentModel.evaluate`."""
        what = (constant_charge, response_forces, compute_forces)
        if self.one_by_one:
            return self.model.evaluate(graph, *settings, *what, *start)
        return self.model.evaluate(graph, settings, start, *what)

    def observables(
        self, problem: Any, local: Any, density: Tensor, field: Tensor, level: Tensor, species: Tensor
    ) -> Any:
        """`DensityModel.observables`; in archives before it took the level, the total field was its argument."""
        schema = getattr(self.model.observables, "schema", None)
        if schema is not None and "level" not in [argument.name for argument in schema.arguments]:
            total = self.model.total_field(problem, field, level)
            return self.model.observables(problem, local, density, total, species)
        return self.model.observables(problem, local, density, field, level, species)

    def solve(self, graph: Graph, settings: LoopSettings, start: Start, constant_charge: bool) -> Any:
        """`SelfConsistentModel.solve` without gradients."""
        if self.one_by_one:
            return self.model.solve(graph, tuple(settings), constant_charge, False, *start)
        return self.model.solve(graph, settings, start, constant_charge, False)

    def trace(self, problem: Any, start: Start, settings: LoopSettings) -> tuple[SolverResult, Tensor, Tensor]:
        """`FixedPointSolver.trace` with everything kept."""
        solver, s = self.model.solver, settings
        if self.one_by_one:
            loop = (s.num_scf_steps, s.scf_tolerance, s.solver, s.mixing_parameter)
            return solver.trace(problem, start.x, *loop, start.level, True)
        return solver.trace(problem, start, settings, True)
