"""Options of the long-range sums: a choice of whoever runs a model, beside the one it was made with."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

#: ways to sum: chosen for each structure, exact sum over waves, mesh, exact sum over pairs
KSpaceMethod = Literal["auto", "reciprocal", "mesh", "open"]
#: relative rms force errors that can be asked for, and the default
TIGHTEST, LOOSEST, DEFAULT = 1e-10, 0.1, 1e-5


@dataclass(frozen=True)
class KSpace:
    """Settings that replace those of a loaded model; None leaves its own.

    Raises:
        ValueError: an unknown method, or an accuracy that no mesh has.
    """

    method: str | None = None  #: one of `KSpaceMethod`
    accuracy: float | None = None  #: relative rms force error of the mesh
    remove_net_force: bool = False  #: subtract the mean force of the mesh; forces are then no exact gradient

    def __post_init__(self) -> None:
        methods = get_args(KSpaceMethod)
        if self.method is not None and self.method not in methods:
            raise ValueError(f"`kspace` is {self.method!r}; expected one of {', '.join(methods)}")
        if self.accuracy is not None and not TIGHTEST <= self.accuracy <= LOOSEST:
            raise ValueError(
                f"`kspace_accuracy` is {self.accuracy}; expected a relative force error between {TIGHTEST} and "
                f"{LOOSEST}"
            )

    def idle(self, own: "KSpace | None") -> list[str]:
        """Sentences on settings that have no effect with the others; ``own`` are those of the archive."""
        method = self.method or (own.method if own is not None else None)
        if method not in ("open", "reciprocal"):
            return []
        given = {"kspace_accuracy": self.accuracy is not None, "remove_net_force": self.remove_net_force}
        return [
            f"{name} has no effect: it belongs to the mesh, and kspace is {method}"
            for name, is_ in given.items()
            if is_
        ]

    @classmethod
    def of(cls, module: Any) -> "KSpace | None":
        """The settings of a model archive as it was loaded; None if it is too old to be told."""
        if not hasattr(module, "set_kspace"):
            return None
        return cls(module.model.electrostatics.method, module.model.electrostatics.accuracy)

    def apply(self, module: Any, own: "KSpace | None" = None) -> None:
        """Set them in a model archive (`export.load_model`).

        Args:
            module: the archive.
            own: what takes the place of None; those it has now, where nothing is given.

        Raises:
            ValueError: the archive is too old to be told.
        """
        if self == KSpace() and own is None:
            return
        own = own or KSpace.of(module)
        if own is None:
            raise ValueError(
                "`kspace`, `kspace_accuracy`: this archive is too old to be told; export it again from its run folder "
                "with `fixedpoint export`"
            )
        module.set_kspace(self.method or own.method, self.accuracy or own.accuracy, self.remove_net_force)
