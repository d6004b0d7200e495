"""Section ``systems``: crystals, their k-points and what is to be fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AllowInfNan, Field, ValidationInfo, field_validator, model_validator

from ...config.schema import FOLDER, Finite

Row3 = Annotated[list[float], Field(min_length=3, max_length=3)]
Rows = list[list[float]]
#: energies, of which those that are nan are not known
Energies = list[list[Annotated[float, AllowInfNan(True)]]]

#: options that may name a file
FILES = ("structure", "kpoints", "bands", "band_weights", "band_order", "deformation", "qpoints", "couplings", "masses")


class CellOptions(Finite):
    """A crystal, written out."""

    scale: float = Field(default=1.0, gt=0)
    """Factor on the vectors, Bohr."""
    vectors: list[Row3] = Field(min_length=3, max_length=3)
    """The three vectors of the cell, times ``scale`` in Bohr."""
    atoms: list[tuple[str, float, float, float]] = Field(min_length=1)
    """Species and fractional position of each atom: ``[In, 0.125, 0.125, 0.125]``."""


class SystemOptions(Finite):
    """One crystal and its targets. Files are relative to the training file; all indices count from 0."""

    name: str = ""
    """Name in reports and in the names of files; empty: its species."""
    structure: str | None = None
    """File of the crystal: any that ASE reads, or a published ``system_X.par``. Give this one or ``cell``."""
    cell: CellOptions | None = None
    """The crystal, written out."""
    max_ke: float = Field(gt=0)
    """Cutoff on |G|²/2 of the plane waves, Hartree."""
    n_bands: int = Field(gt=0)
    """Number of bands from the lowest; without spin-orbit coupling each is listed twice."""
    kpoints: str | Rows
    """File or rows ``k1 k2 k3`` or ``k1 k2 k3 weight``, fractional; without weights all are 1."""
    bands: str | Energies | None = None
    """File of the reference, or its rows: length along the path, then the energies, eV; ``nan`` is not fitted. None:
    the system is only evaluated."""
    zeros_not_fitted: bool = False
    """Reference energies of exactly 0 stand for missing ones, as the published Monte Carlo driver takes them."""
    band_weights: str | list[float] | Rows | None = None
    """File or weights of the bands (one each), or of all k-points and bands (a row per k-point); none: 1."""
    relative_band: int | None = Field(default=None, ge=0)
    """Compare energies relative to this band at each k-point (``relE_bIdx``); none: absolute energies."""
    band_order: str | list[list[int]] | None = None
    """Which computed band belongs to each column of the reference, by k-point (``kpoints_X_orderMatrix.par``)."""
    valence_band: int | None = Field(default=None, ge=0)
    """Band of the valence edge (``idxVB``); none: that of the last valence electron (s, p), or, where their number is
    odd or beyond ``n_bands``, the one below the highest gap (at least 0.1 eV) that all k-points share."""
    conduction_band: int | None = Field(default=None, ge=0)
    """Band of the conduction edge (``idxCB``)."""
    gap_kpoint: int | None = Field(default=None, ge=0)
    """k-point of both edges (``idxGap``), for couplings and the legacy deformation potentials; none: where the
    reference has its smallest gap."""
    deformation: str | Rows | None = None
    """File or rows of deformation potentials: ``k b ratio target weight`` of one state, or ``k_VB b_VB k_CB b_CB ratio
    target weight`` of a transition; targets in eV."""
    fit_deformation: bool = True
    """Whether they are part of the objective (``fit_defPot``), or only evaluated."""
    qpoints: str | Rows | None = None
    """File or rows of q-points of the couplings, as ``kpoints``."""
    couplings: str | None = None
    """File of electron-phonon couplings, eV/Bohr (``expCoupling_X.par``); needs ``qpoints``."""
    fit_couplings: bool = True
    """Whether they are part of the objective (``fit_eph``)."""
    masses: str | tuple[float, float, float] | None = None
    """File or numbers of the effective masses: of electrons, of holes, and their weight (``expEffMasses_X.par``)."""
    fit_masses: bool = True
    """Whether they are part of the objective (``fit_eff_masses``)."""
    plot_center: float | None = None
    """Middle of band plots, eV (``BS_plot_center``); none: of the gap."""
    plot_range: float | None = Field(default=None, gt=0)
    """Half the height of band plots, eV (``BS_plot_CBVB_range``); none: all bands."""
    plot_range_zoom: float = Field(default=5.0, gt=0)
    """The same of the enlarged plot (``BS_plot_CBVB_range_zoom``)."""

    @field_validator(*FILES)
    @classmethod
    def _from_the_folder_of_the_file(cls, value: Any, info: ValidationInfo) -> Any:
        folder: Path | None = (info.context or {}).get(FOLDER)
        return str((folder / value).absolute()) if isinstance(value, str) and folder is not None else value

    @model_validator(mode="after")
    def _what_belongs_together(self) -> SystemOptions:
        if (self.structure is None) == (self.cell is None):
            raise ValueError("give structure: FILE or cell: {...}, one of them")
        if self.couplings is not None and self.qpoints is None:
            raise ValueError("couplings need qpoints")
        for name in ("relative_band", "valence_band", "conduction_band"):
            number = getattr(self, name)
            if number is not None and number >= self.n_bands:
                raise ValueError(f"{name} {number} is beyond n_bands {self.n_bands} (indices count from 0)")
        if None not in (self.valence_band, self.conduction_band) and self.conduction_band <= self.valence_band:  # type: ignore[operator]
            raise ValueError(f"conduction_band {self.conduction_band} is not above valence_band {self.valence_band}")
        return self
