"""What went on in a self-consistent loop, and what to change: more steps, less mixing, another start, or training.

    kind                      sign                                                   first thing to change
    converged                 the solver says so                                     nothing
    too few steps             the residual was falling well at the last step         more steps
    slow                      it falls by less than a tenth per application          more steps, another solver
    oscillating               it bounces, or every step takes the last one back      less mixing
    diverging                 it grows, or the solver had to go back to a better     less mixing
                              density and shorten its steps
    unstable solution         the Jacobian has an eigenvalue with real part ≥ 1      training
    charge does not respond   no Fermi level gives the charge asked for              training, or constant Fermi level
    limit of the arithmetic   it is flat at the rounding errors of the density       a larger tolerance, float64

"Unstable" comes before all others, converged included: Anderson mixing can end on a solution that no other path leads
to, and near which the response of the density to a field has the wrong sign.
"""

import enum
import math
from dataclasses import dataclass, field

import numpy as np

from .convergence import Convergence, SCFRun, convergence
from .loop import SHORTER
from .spectrum import Spectrum, linear_applications
from .status import CONVERGED, DIVERGED, NO_CHARGE_RESPONSE, NO_FERMI_LEVEL, UNSTABLE

#: factor per application from which a falling residual counts as slow
SLOW_FACTOR = 0.9
#: factor above which the residual counts as growing
GROWING_FACTOR = 1.02
#: share of rises, of reversed steps, from which a loop counts as oscillating
MANY_RISES, MANY_REVERSALS = 0.3, 0.5
#: rounding errors of a residual over those of a density
ROUNDING = 30.0


class Kind(enum.Enum):
    """How a self-consistent loop ended."""

    CONVERGED = "converged"
    TOO_FEW_STEPS = "too few steps"
    SLOW = "slow"
    OSCILLATING = "oscillating"
    DIVERGING = "diverging"
    UNSTABLE = "unstable solution"
    NO_RESPONSE = "charge does not respond"
    NO_LEVEL = "no Fermi level"
    ROUNDING = "limit of the arithmetic"


@dataclass(frozen=True)
class Diagnosis:
    """The kind of a run, why, and what to change, first things first."""

    kind: Kind
    reason: str
    advice: list[str] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        """Whether the result can be used."""
        return self.kind is Kind.CONVERGED

    def text(self) -> str:
        """All of it, for people."""
        return "\n".join([f"{self.kind.value}: {self.reason}", *(f"  - {line}" for line in self.advice)])


def diagnose(run: SCFRun, spectrum: Spectrum | None = None) -> Diagnosis:
    """Classify a run; ``spectrum`` is that of the map at its density, if known."""
    c = convergence(run)
    history = np.asarray(run.history, dtype=float)
    if run.status == NO_CHARGE_RESPONSE:
        return _no_response()
    if run.status == NO_FERMI_LEVEL:
        return Diagnosis(
            Kind.NO_LEVEL,
            "no atom conducts, so there is no Fermi level to hold",
            ["give --total_charge instead of --constant_fermi"],
        )
    if run.status == UNSTABLE or (spectrum is not None and spectrum.unstable):
        return _unstable(run, spectrum)
    if run.status == CONVERGED:
        if run.adjoint_status == CONVERGED:
            return _converged(run, c, spectrum)
        if run.iterates is not None and run.tolerance < run.epsilon * float(np.abs(run.iterates[-1]).mean()):
            return Diagnosis(
                Kind.ROUNDING,
                f"scf_tolerance {run.tolerance:.1e} is below the rounding errors of this arithmetic: the adjoint that "
                "the forces need cannot reach it",
                ["raise scf_tolerance", "for one as small as this export the model with --dtype float64"],
            )
        return Diagnosis(
            Kind.TOO_FEW_STEPS,
            "the density has converged, the adjoint that the forces need has not",
            [f"raise num_scf_steps (now {run.num_scf_steps})", *_forget_linear(run, spectrum)],
        )
    if _at_rounding(run, c):
        return Diagnosis(
            Kind.ROUNDING,
            f"the residual has stopped at {history.min():.1e}, the rounding errors of this arithmetic",
            [
                f"raise scf_tolerance above {2 * history.min():.0e}",
                "for a smaller one export the model with --dtype float64",
            ],
        )
    if c.remaining == 0.0 and run.status != DIVERGED:
        reason = "the mean residual is below scf_tolerance, that of one atom is still above five times it"
        return Diagnosis(Kind.TOO_FEW_STEPS, reason, [_more_steps(run, 10.0)])
    needed = None
    if run.solver != "linear" and spectrum is not None:
        needed = spectrum.krylov_applications(run.tolerance / max(float(history[0]), run.tolerance))
    if run.status != DIVERGED and c.restarts == 0 and _too_short(run, needed):
        return _too_few(run, c, needed)
    if run.status == DIVERGED or c.restarts > 0 or not np.isfinite(history[-1]) or c.factor > GROWING_FACTOR:
        return _diverging(run, c, spectrum)
    overshoots = run.solver == "linear" and c.reversals >= MANY_REVERSALS
    bounces = c.rises >= MANY_RISES and not c.factor < 0.5 * (1.0 + SLOW_FACTOR)
    if bounces or (overshoots and c.factor > SLOW_FACTOR):
        return _oscillating(run, c, spectrum, overshoots)
    if c.factor > SLOW_FACTOR:
        return _slow(run, c, spectrum)
    return _too_few(run, c, needed)


def _too_short(run: SCFRun, needed: int | None) -> bool:
    """Whether a run is too short to judge: Anderson mixing may raise the first residuals before its history works."""
    if run.solver == "linear":
        return len(run.history) < 4
    return len(run.history) < (8 if needed is None else needed)


def _at_rounding(run: SCFRun, c: Convergence) -> bool:
    if run.iterates is None or not c.factor > SLOW_FACTOR:
        return False
    return float(np.min(run.history)) <= ROUNDING * run.epsilon * max(1e-3, float(np.abs(run.iterates[-1]).mean()))


def _no_response() -> Diagnosis:
    return Diagnosis(
        Kind.NO_RESPONSE,
        "the density's charge does not follow the Fermi level as it must: no level gives the total charge asked for",
        [
            "retrain, with charged structures or Fermi levels among the data, or with type: SplitChargeUpdate",
            "a run at a fixed Fermi level (--constant_fermi) does not need the response",
        ],
    )


def _unstable(run: SCFRun, spectrum: Spectrum | None) -> Diagnosis:
    reason = "the solution is unstable"
    if spectrum is not None:
        reason = (
            f"an eigenvalue of the map's Jacobian has the real part {spectrum.largest:.3f} ± "
            f"{spectrum.largest_error:.0e}, 1 or more: a small change of the density feeds back more than itself"
        )
    if run.status == CONVERGED:
        reason += "; the solver found the solution, but its response along this mode has the wrong sign"
    elif not run.affine:
        reason += " (at the best density found)"
    advice = [
        "retrain: the charges (or dipoles) are too soft here; stages that iterate the map (mode: linearize_solve or "
        "unroll_scf) see this feedback, mode: direct does not; type: SplitChargeUpdate excludes it",
        "more steps and less mixing do not help",
    ]
    if not run.affine and run.initial_density == "local_guess":
        advice.append("start from data, to see whether there is a stable solution near the reference density")
    return Diagnosis(Kind.UNSTABLE, reason, advice)


def _converged(run: SCFRun, c: Convergence, spectrum: Spectrum | None) -> Diagnosis:
    reason = f"residual {float(run.history[-1]):.1e} after {len(run.history)} applications"
    advice = []
    if c.restarts:
        reason += f"; {_went_back(c.restarts)}"
        advice += _less_mixing(run, spectrum, c.restarts) if run.solver == "linear" else []
    elif run.solver == "linear" and c.factor > SLOW_FACTOR:
        advice += _forget_linear(run, spectrum)
        advice += _less_mixing(run, spectrum) if c.reversals >= MANY_REVERSALS else _more_mixing(run, spectrum)
    return Diagnosis(Kind.CONVERGED, reason, advice)


def _too_few(run: SCFRun, c: Convergence, needed: int | None) -> Diagnosis:
    reason = f"the residual was {float(run.history[-1]):.1e} at the last step"
    if needed is not None and len(run.history) < needed:
        reason += f"; Anderson mixing needs about {needed} applications here"
        return Diagnosis(Kind.TOO_FEW_STEPS, reason, [_more_steps(run, needed - len(run.history))])
    if _too_short(run, needed):
        return Diagnosis(Kind.TOO_FEW_STEPS, reason + ", too early to judge", [_more_steps(run, math.inf)])
    reason += f", falling by a factor {c.factor:.2g} per application"
    return Diagnosis(Kind.TOO_FEW_STEPS, reason, [_more_steps(run, c.remaining)])


def _slow(run: SCFRun, c: Convergence, spectrum: Spectrum | None) -> Diagnosis:
    reason = f"the residual changes by a factor of only {c.factor:.3f} per application"
    advice = [_more_steps(run, c.remaining)]
    if run.solver == "linear":
        too_much = spectrum is not None and run.mixing > 0.95 * spectrum.largest_stable_mixing()
        advice = [*(_less_mixing if too_much else _more_mixing)(run, spectrum), *([] if too_much else advice)]
        advice = [*_forget_linear(run, spectrum), *advice]
    if spectrum is not None and spectrum.largest > SLOW_FACTOR:
        advice.append(
            f"the largest eigenvalue, {spectrum.largest:.3f}, is close to 1, where the solution becomes unstable: "
            "retrain if this is common"
        )
    return Diagnosis(Kind.SLOW, reason, advice)


def _oscillating(run: SCFRun, c: Convergence, spectrum: Spectrum | None, overshoots: bool) -> Diagnosis:
    if overshoots:
        reason = f"every step takes back the one before, a factor {c.factor:.3f} per application"
    else:
        reason = f"the residual rises in {100 * c.rises:.0f} % of the last applications and does not fall on the whole"
    advice = [*_less_mixing(run, spectrum), *_forget_linear(run, spectrum)] if run.solver == "linear" else []
    return Diagnosis(Kind.OSCILLATING, reason, advice + _when_nothing_helps(run))


def _diverging(run: SCFRun, c: Convergence, spectrum: Spectrum | None) -> Diagnosis:
    reason = "the residual grows"
    if c.restarts:
        reason = f"the residual grew; {_went_back(c.restarts)}"
        reason += f", a factor {c.factor:.3f} per application since" if math.isfinite(c.factor) else ""
    elif c.factor > 1.0:
        reason += f" by a factor {c.factor:.2f} per application"
    advice = []
    if run.solver == "linear":
        advice = [*_less_mixing(run, spectrum, c.restarts), *_forget_linear(run, spectrum)]
    return Diagnosis(Kind.DIVERGING, reason, advice + _when_nothing_helps(run))


def _when_nothing_helps(run: SCFRun) -> list[str]:
    advice = []
    if run.solver != "linear":
        advice.append("check the structure and the total charge; try solver: linear with a mixing_parameter of 0.1")
    if not run.affine and run.initial_density == "local_guess":
        advice.append("start from data (initial_density: from_data), where the frame has reference multipoles")
        advice.append("if only that start works, the map is good near the reference density only: retrain")
    elif run.solver != "linear":
        advice.append("if nothing helps, retrain with a stage that iterates the map")
    return advice


def _went_back(restarts: int) -> str:
    times = "once" if restarts == 1 else f"{restarts} times"
    return f"the solver went back to a better density {times} and took shorter steps"


def _more_steps(run: SCFRun, remaining: float) -> str:
    wanted = len(run.history) + 1.2 * remaining + 1.0
    if not math.isfinite(wanted) or wanted > 1e5:
        return f"raise num_scf_steps (now {run.num_scf_steps})"
    return f"raise num_scf_steps from {run.num_scf_steps} to {10 * math.ceil(wanted / 10)}"


def _less_mixing(run: SCFRun, spectrum: Spectrum | None, restarts: int = 1) -> list[str]:
    best = spectrum.best_linear_mixing() if spectrum is not None else None
    if spectrum is None or best is None:
        shorter = _two_digits(SHORTER ** max(1, restarts) * run.mixing)
        return [f"reduce mixing_parameter, for example from {run.mixing:g} to {shorter:g}"]
    limit = spectrum.largest_stable_mixing()
    return [
        f"reduce mixing_parameter from {run.mixing:g} to {_two_digits(best[0]):g}, the best here (factor {best[1]:.3f} "
        f"per application); more than {_two_digits(limit):g} diverges"
    ]


def _more_mixing(run: SCFRun, spectrum: Spectrum | None) -> list[str]:
    best = spectrum.best_linear_mixing() if spectrum is not None else None
    if best is None:
        return ["if the residual falls smoothly, raise mixing_parameter"] if run.mixing < 0.5 else []
    if best[0] < 1.2 * run.mixing:
        return []
    needed = linear_applications(best[1], run.tolerance / max(float(run.history[0]), run.tolerance))
    return [f"raise mixing_parameter to {_two_digits(best[0]):g}: {needed:.0f} applications from this start"]


def _forget_linear(run: SCFRun, spectrum: Spectrum | None) -> list[str]:
    if run.solver != "linear":
        return []
    text = "use solver: anderson"
    if spectrum is not None:
        needed = spectrum.krylov_applications(run.tolerance / max(float(run.history[0]), run.tolerance))
        text += f", which needs about {needed} applications" if needed is not None else ""
    return [text]


def _two_digits(x: float) -> float:
    """``x`` rounded down to two significant digits."""
    if x <= 0.0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return math.floor(x / unit + 1e-9) * unit
