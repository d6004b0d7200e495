"""The density along the Fermi level, as the search for the level sees it."""

import pytest
import torch

from fp_potential.density.fermi_level import with_level
from structures import UPDATES, make_model, solved, to_graph, water_cluster


@pytest.mark.parametrize("update", ["one-body MLP", "monotone"])
def test_line_is_the_density_with_its_derivative(update: str) -> None:
    model = make_model(3, fixedpoint_initial_charge_head_scale=1.0, fixedpoint_update_config=UPDATES[update])
    density_map = model.solver.density_map
    assert density_map.straight
    graph = to_graph(water_cluster(2), model)
    problem, density, level = solved(model, graph, constant_charge=False, converges=False)
    u = density_map.electrostatics.field(problem.cache, density, False) + problem.external.unsqueeze(1)
    line = density_map.response.level_line(problem.state, u)

    def at(value: torch.Tensor) -> torch.Tensor:
        return density_map.response.density(problem.state, with_level(u, value, problem.batch), False)

    step = 1e-4
    for value in (level, level + 1.3):
        found, slope = density_map.response.on_line(line, value[problem.batch])
        assert torch.allclose(found, at(value), rtol=0, atol=1e-12)
        expected = (at(value + step) - at(value - step)) / (2 * step)
        assert expected.abs().max() > 1e-3
        assert torch.allclose(slope, expected, rtol=0, atol=1e-7)
