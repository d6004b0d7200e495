"""Options of the self-consistent loop."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from .base import Options

#: steps that Anderson mixing remembers: more than all but the hardest maps take, so that it is as fast as GMRES
HISTORY = 80


class SCFOptions(Options):
    """Settings of the self-consistent loop."""

    # results belong to them: others are another object
    model_config = ConfigDict(frozen=True)

    num_scf_steps: int = Field(100, ge=1, description="largest number of applications of the map; 1 is legal")
    scf_tolerance: float = Field(
        1e-6, gt=0, description="mean absolute residual |G(p) - p| per component (e, e Å); largest atom: 5 times this"
    )
    mixing_parameter: float = Field(0.25, gt=0, le=1, description="fraction of the update taken by `linear`")
    constant_charge: bool = Field(True, description="fix the total charge (true) or the Fermi level (false)")
    use_autograd_forces: bool = Field(
        True, description="forces include the response of the density; false: derivative at fixed density"
    )
    initial_density: Literal["local_guess", "from_data", "restart"] = Field(
        "local_guess", description="the model's own guess, the reference multipoles, or the last converged density"
    )
    initial_fermi_level: Literal["zero", "from_data"] = Field(
        "zero", description="mu_0, or the reference level: where the search of a non-affine update begins"
    )
    solver: Literal["anderson", "linear"] = Field(
        "anderson", description="Anderson acceleration, or plain mixing of the update"
    )
    history: int = Field(HISTORY, ge=2, le=500, description="steps remembered by `anderson`; fixed at export")

    def changed(self, options: Mapping[str, Any], prefix: str = "scf_options.") -> "SCFOptions":
        """These with other values of some fields.

        Args:
            options: field -> value.
            prefix: of their names in messages.

        Raises:
            ValueError: a field that does not exist (names the nearest one), or a value that it cannot have.
        """
        fields = list(type(self).model_fields)
        for field in options:
            if field not in fields:
                near = difflib.get_close_matches(str(field), fields, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"fields: {', '.join(fields)}"
                raise ValueError(f"`{prefix}{field}` does not exist; {hint}")
        try:
            return type(self).model_validate(self.model_dump() | dict(options))
        except ValidationError as error:
            problems = [(item["loc"], item["input"], item["msg"]) for item in error.errors()]
        raise ValueError(
            "; ".join(
                f"`{prefix}{'.'.join(map(str, place))}` is {given!r}: {text.removeprefix('Value error, ')}"
                for place, given, text in problems
            )
        )

    def idle(self, given: Collection[str], affine: bool = False) -> list[str]:
        """Sentences on those options among ``given`` that have no effect with the others.

        Args:
            given: names of the options that somebody chose.
            affine: whether the model's density is linear in the Fermi level, as for most updates.
        """
        said = []
        if "mixing_parameter" in given and self.solver != "linear":
            said.append(f"mixing_parameter has no effect: it belongs to solver linear, and the solver is {self.solver}")
        if self.initial_fermi_level == "from_data" and "initial_fermi_level" in given:
            if not self.constant_charge:
                said.append("initial_fermi_level has no effect: the level is held, constant_charge: false")
            elif affine:
                said.append("initial_fermi_level has no effect: this model finds the level without a search")
        return said
