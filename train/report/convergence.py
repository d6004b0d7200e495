"""Convergence of the SCF: a table of all charge modes and starts, and the histogram of the applications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from ...scf.status import CONVERGED, DIVERGED, MAX_STEPS, NO_CHARGE_RESPONSE, NO_FERMI_LEVEL, UNSTABLE
from ..potential.evaluate import Evaluation, scf_title
from .style import colours, embedded, sheet

SIZE = (9.2, 3.0)
REASONS = {
    MAX_STEPS: "step limit",
    DIVERGED: "diverged",
    UNSTABLE: "unstable",
    NO_CHARGE_RESPONSE: "charge does not respond",
    NO_FERMI_LEVEL: "no Fermi level",
}


def failures(evaluation: Evaluation) -> str:
    """How many structures did not converge, and why: ``2 step limit, 1 diverged``; empty if all did."""
    counts = Counter(torch.cat(evaluation.errors.status).tolist())
    return ", ".join(f"{count} {REASONS[status]}" for status, count in sorted(counts.items()) if status != CONVERGED)


def histogram(evaluations: Sequence[Evaluation]) -> str:
    """Structures over the applications of the map that they took, converged ones, one row per charge mode and start."""
    taken = {}
    for evaluation in evaluations:
        steps, status = torch.cat(evaluation.errors.scf_steps), torch.cat(evaluation.errors.status)
        taken[scf_title(evaluation.scf)] = steps[status == CONVERGED].numpy()
    most = max((int(steps.max()) for steps in taken.values() if len(steps)), default=1)
    width = max(1, -(-most // 40))
    fewest = min((int(steps.min()) for steps in taken.values() if len(steps)), default=0)
    edges = [fewest - 0.5 + width * number for number in range((most - fewest) // width + 2)]
    from matplotlib.ticker import MaxNLocator

    with sheet(*SIZE) as (figure, axes):
        shades = colours(list(taken))
        shown = {name: steps for name, steps in taken.items() if len(steps)}
        if shown:
            heights, labels = list(shown.values()), list(shown)
            axes.hist(heights, edges, label=labels, color=[shades[name] for name in labels], rwidth=0.85)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes.set(
            xlabel="applications of the map until converged",
            ylabel="structures",
            xlim=(edges[0] - 0.5, edges[-1] + 0.5),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return embedded(figure)
