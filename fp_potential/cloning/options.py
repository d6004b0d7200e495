"""What is cloned, on which structures, and how long."""

from typing import Any, Literal

from pydantic import Field

from ..train.config.schema import Section

#: options of the clones' ``model``: the charge falls with the Fermi level by construction, or is free to do what it
#: wants, or the whole response is symmetric and positive, as that of the known models; through atoms alone or through
#: bonds, too, where elements may conduct that take added charge in the training set, all if it does not say, or none
BY_DATA = "by the data"
THROUGH_BONDS: dict[str, Any] = {
    "field_readout_config": {"type": "VariationalFieldReadout"},
    "include_field_si": True,
    "include_electrostatic_self_interaction": True,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "constrained": {"fixedpoint_update_config": {"monotone_charge": True}},
    "unconstrained": {"fixedpoint_update_config": {}},
    "symmetric": {"fixedpoint_update_config": {"type": "SymmetricUpdate"}},
    "split_charges": {
        **THROUGH_BONDS,
        "fixedpoint_update_config": {"type": "SplitChargeUpdate", "metallic": BY_DATA},
    },
    "insulator": {
        **THROUGH_BONDS,
        "fixedpoint_update_config": {"type": "SplitChargeUpdate", "metallic": "none"},
    },
}
#: width of all Gaussians, Å
SIGMA = 1.5
#: keys of the structures' file that are trained on, and that of the Fermi level
FERMI_LEVEL = "REF_fermi_level"
KEYS = {
    "energy": "REF_energy",
    "forces": "REF_forces",
    "atomic_multipoles": "REF_atomic_multipoles",
    "total_charge": "total_charge",
    "external_field": "external_field",
}


class CloningOptions(Section):
    """What is cloned, on which structures, and how long."""

    teacher: Literal["charges", "both", "split_charges", "mixture"] = "charges"
    """Charge equilibration, without or with induced dipoles, split charges, or these with charge-equilibrated Cu."""
    clones: list[Literal["constrained", "unconstrained", "symmetric", "split_charges", "insulator"]] = Field(
        default=["constrained", "unconstrained", "symmetric", "split_charges", "insulator"], min_length=1
    )
    """Which are trained."""
    structures: list[str] = Field(default=[])
    """Files of structures (anything ASE reads; total charge and external field F from their info); none: random."""
    train_frames: int = Field(default=64, gt=1)
    """Structures to train on; the next ``test_frames`` are compared."""
    test_frames: int = Field(default=16, gt=0)
    """Structures to compare on."""
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    """Seeds of the initial weights: one clone of each architecture for each."""
    density_epochs: int = Field(default=80, gt=0)
    """Epochs with losses on densities and energies."""
    force_epochs: int = Field(default=40, ge=0)
    """Further epochs with a loss on forces, too."""
    overrides: list[str] = Field(default=[])
    """``section.option=value`` of the training file, as for ``fixedpoint train``."""
    run_dir: str = "clone"
    """Folder of the structures, the runs and the report."""
