"""Wrong inputs to LAMMPS, the calculator and the commands, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator
from refusals import SLAB

#: name: (lines that differ from `refusals.BASE`, what the message has to say); beside those of tests/lammps
SCRIPTS: dict[str, tuple[dict[str, str], str]] = {
    "k-space without a method": ({"style": "pair_style fixedpoint kspace"}, r"kspace needs a value"),
    "accuracy that is a word": ({"style": "pair_style fixedpoint kspace_accuracy high"}, r"got 'high'"),
    "negative accuracy": ({"style": "pair_style fixedpoint kspace_accuracy -1e-5"}, r"positive number, got '-1e-5'"),
    "tolerance of zero": ({"style": "pair_style fixedpoint scf_tolerance 0"}, r"scf_tolerance expects a positive"),
    "tolerance that is no number": ({"style": "pair_style fixedpoint scf_tolerance nan"}, r"got 'nan'"),
    "negative steps": ({"style": "pair_style fixedpoint num_scf_steps -5"}, r"positive whole number, got '-5'"),
    "mixing that is no number": ({"style": "pair_style fixedpoint mixing_parameter half"}, r"got 'half'"),
    "infinite level": ({"style": "pair_style fixedpoint fermi inf"}, r"fermi expects .*got 'inf'"),
    "level with a comma": ({"style": "pair_style fixedpoint fermi 1,5"}, r"fermi expects .*got '1,5'"),
    "keyword in capitals": ({"style": "pair_style fixedpoint Charge 0"}, r"unknown keyword 'Charge'"),
    "value in the place of a keyword": ({"style": "pair_style fixedpoint 0"}, r"unknown keyword '0'"),
    "a fourth component": ({"style": "pair_style fixedpoint efield 0 0 0 0"}, r"unknown keyword '0'"),
    "device without a name": ({"style": "pair_style fixedpoint device"}, r"device needs a value"),
    "jellium upside down": (
        {**SLAB, "style": "pair_style fixedpoint charge 1 jellium 4 2"},
        r"jellium expects the heights of the slab's lower and upper face",
    ),
    "root of a negative field": (
        {"before": "atom_style charge\nvariable e equal sqrt(-1)", "style": "pair_style fixedpoint efield v_e 0 0"},
        r"[Ss]qrt of negative",
    ),
    "field of a nameless variable": ({"style": "pair_style fixedpoint efield v_ 0 0"}, r"efield expects .*got 'v_'"),
    "no pair_coeff": ({"coeff": ""}, r"[Aa]ll pair coeffs are not set"),
    "too many elements": ({"coeff": "pair_coeff * * model.pt O Na H Cl Cl"}, r"4 types, 5 elements given"),
    "no elements": ({"coeff": "pair_coeff * * model.pt"}, r"4 types, 0 elements given"),
    "no model file": ({"coeff": "pair_coeff * *"}, r"pair_coeff for fixedpoint is: pair_coeff \* \* model\.pt"),
    "file in a folder that does not exist": (
        {"coeff": "pair_coeff * * nowhere/model.pt O Na H Cl"},
        r"cannot read the model file nowhere/model\.pt",
    ),
    "element by its number": ({"coeff": "pair_coeff * * model.pt 8 11 1 17"}, r"element 8 of atom type 1"),
    "another style's name": ({"style": "pair_style fixedpiont charge 0"}, r"Unrecognized pair style 'fixedpiont'"),
    "k-space of another style": ({"after": "kspace_style pppm 1e-4"}, r"KSpace style is incompatible with Pair style"),
    "two groups": ({"after": "compute g all group/group all"}, r"does not support compute group/group"),
    "excluded types in hybrid": (
        {
            "style": "pair_style hybrid/overlay fixedpoint charge 0 lj/cut 3",
            "coeff": "pair_coeff * * fixedpoint model.pt O Na H Cl\npair_coeff * * lj/cut 0 1",
            "after": "neigh_modify exclude type 1 2",
        },
        r"does not work with neigh_modify exclude",
    ),
    "some pairs in hybrid/overlay": (
        {
            "style": "pair_style hybrid/overlay fixedpoint charge 0 lj/cut 3",
            "coeff": "pair_coeff 1 1 fixedpoint model.pt O Na H Cl\npair_coeff * * lj/cut 0 1",
        },
        r"Incorrect args for pair coefficients .*pair_coeff 1 1 fixedpoint",
    ),
    "units of electrons": ({"units": "units electron"}, r"needs units metal or real, not electron"),
    "two dimensions": ({"before": "dimension 2\natom_style charge"}, r"(dimension 3|2d|2D)"),
    "barostat on an open axis": (
        {"before": "boundary p p f\natom_style charge", "after": "fix b all box/relax z 0", "run": "minimize 0 1 2 2"},
        r"non-periodic z dimension",
    ),
    "charges that are needed before": (
        {
            "style": "pair_style hybrid/overlay coul/long 5.0 fixedpoint charge 0",
            "coeff": "pair_coeff * * fixedpoint model.pt O Na H Cl\npair_coeff * * coul/long\nkspace_style ewald 1e-4",
            "after": "set type 1 charge -1",
        },
        r"coul/long comes before it in pair_style hybrid/overlay",
    ),
    "pairs in a slab": ({**SLAB, "style": "pair_style fixedpoint kspace open"}, r"structures without periodic axes"),
}

HELIUM, WATER = Atoms("He"), Atoms("OH2", positions=[[0.0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]])


def _energy(atoms: Atoms, **arguments: Any) -> Callable[[str], object]:
    """Energy of a copy of ``atoms`` by a calculator with ``arguments``."""

    def run(model: str) -> object:
        calculator = FixedPointCalculator(model, **{"total_charge": 0.0, **arguments})
        return calculator.get_potential_energy(atoms.copy())

    return run


def _of(**changes: Any) -> Atoms:
    out = WATER.copy()
    for name, value in changes.items():
        setattr(out, name, value)
    return out


def _moved(*position: float) -> Atoms:
    out = WATER.copy()
    out.positions[1] = position
    return out


#: name: (what is done with the path of a model, exception, what the message has to say)
CALCULATIONS: dict[str, tuple[Callable[[str], object], type[Exception], str]] = {
    "missing file": (lambda model: FixedPointCalculator("nothing.pt"), FileNotFoundError, r"nothing\.pt"),
    "not an archive": (lambda model: FixedPointCalculator(__file__), ValueError, r"wrong_inputs\.py"),
    "unknown argument": (_energy(WATER, total_chage=1.0), Exception, r"total_chage"),
    "charge and level": (_energy(WATER, fermi_level=1.0), ValueError, r"(total_charge|fermi_level)"),
    "unknown element": (_energy(Atoms("He")), ValueError, r"He"),
    "position that is no number": (_energy(_moved(np.nan, 0, 0)), Exception, r"(not finite|NaN|nan|finite)"),
    "field along a periodic axis": (
        _energy(_of(pbc=True, cell=[8, 8, 8]), electric_field=[0, 0, 0.1]),
        ValueError,
        r"periodic",
    ),
    "unknown device": (_energy(WATER, device="gpu"), Exception, r"(gpu|device)"),
    "unknown k-space": (_energy(WATER, kspace="pppm"), ValueError, r"kspace.*pppm"),
    "loose k-space": (_energy(WATER, kspace_accuracy=0.2), ValueError, r"kspace_accuracy.*0\.2"),
    "tight k-space": (_energy(WATER, kspace_accuracy=1e-20), ValueError, r"kspace_accuracy.*1e-20"),
    "pairs in a crystal": (_energy(_of(pbc=True, cell=[8, 8, 8]), kspace="open"), Exception, r"periodic axes"),
    "unknown option of the loop": (_energy(WATER, scf_options={"num_steps": 5}), ValueError, r"num_steps"),
    "steps of zero": (_energy(WATER, scf_options={"num_scf_steps": 0}), ValueError, r"num_scf_steps"),
    "negative tolerance": (_energy(WATER, scf_options={"scf_tolerance": -1.0}), ValueError, r"scf_tolerance"),
    "mixing above one": (_energy(WATER, scf_options={"mixing_parameter": 2.0}), ValueError, r"mixing_parameter"),
    "unknown solver": (_energy(WATER, scf_options={"solver": "newton"}), ValueError, r"solver"),
    "not converged": (_energy(WATER, scf_options={"num_scf_steps": 1}), RuntimeError, r"num_scf_steps"),
    "flat cell": (_energy(_of(pbc=True, cell=[8, 8, 0])), ValueError, r"(cell|volume|vector)"),
    "jellium around a crystal": (
        _energy(_of(pbc=True, cell=[8, 8, 8]), jellium_bounds=(1, 2)),
        Exception,
        r"jellium|axes",
    ),
}

#: name: (words after `fixedpoint`, what is said); {model} is an archive, {xyz} a structure, {yaml} a training file
COMMANDS: dict[str, tuple[list[str], str]] = {
    "unknown command": (["trian"], r"unknown command 'trian'; did you mean 'train'"),
    "no training file": (["train"], r"expected a training file"),
    "missing training file": (["train", "nothing.yaml"], r"nothing\.yaml"),
    "training file that is a structure": (["train", "{xyz}"], r"\.xyz"),
    "unknown option": (["train", "{yaml}", "--colour"], r"--colour"),
    "unknown override": (["train", "{yaml}", "modle.r_max=4"], r"modle"),
    "override of the wrong type": (["train", "{yaml}", "model.r_max=far"], r"r_max"),
    "negative cutoff": (["train", "{yaml}", "model.r_max=-4"], r"r_max"),
    "no data": (["train", "{yaml}", "data.files=nowhere/*.xyz"], r"nowhere"),
    "unknown help": (["train", "--help-config", "modle"], r"modle"),
    "information of nothing": (["info", "nothing.pt"], r"nothing\.pt"),
    "information of a structure": (["info", "{xyz}"], r"\.xyz"),
    "no model to inspect": (["info"], r"model"),
    "scf of nothing": (["scf", "nothing.pt", "{xyz}"], r"nothing\.pt"),
    "scf without a structure": (["scf", "{model}"], r"structure"),
    "scf of a missing structure": (["scf", "{model}", "nothing.xyz"], r"nothing\.xyz"),
    "scf of a frame that does not exist": (["scf", "{model}", "{xyz}", "--frame", "7"], r"7"),
    "scf of another element": (["scf", "{model}", "{helium}", "--total_charge", "0"], r"He"),
    "scf with a word for a charge": (["scf", "{model}", "{xyz}", "--total_charge", "one"], r"(one|total_charge)"),
    "scf on an unknown device": (["scf", "{model}", "{xyz}", "--device", "gpu"], r"gpu|device"),
    "scf with an unknown k-space": (["scf", "{model}", "{xyz}", "--kspace", "pppm"], r"pppm"),
    "scf with a loose mesh": (
        ["scf", "{model}", "{xyz}", "--total_charge", "0", "--kspace_accuracy", "0.5"],
        r"kspace_accuracy",
    ),
    "evaluation of nothing": (["eval", "nothing.pt", "{xyz}"], r"nothing\.pt"),
    "evaluation of no frames": (["eval", "{model}", "nothing.xyz"], r"nothing\.xyz"),
    "evaluation of another element": (["eval", "{model}", "{helium}"], r"He"),
    "evaluation by nothing": (["eval", "{model}", "{xyz}", "--batch_size", "none"], r"batch_size"),
    "export of nothing": (["export", "nowhere", "model.pt"], r"nowhere"),
    "export of a file": (["export", "{xyz}", "model.pt"], r"\.xyz"),
    "export in half precision": (["export", "nowhere", "model.pt", "--dtype", "float16"], r"float16"),
    "report of nothing": (["report", "nowhere"], r"nowhere"),
    "preparation of nothing": (["prepare", "nothing.xyz", "--output", "prepared", "--cutoff", "4"], r"nothing\.xyz"),
    "foundation model of nothing": (["import-mace", "nothing.model", "out.pt"], r"nothing\.model"),
    "clone of nothing": (["clone", "nothing.yaml"], r"nothing\.yaml|overrides|clone"),
}
