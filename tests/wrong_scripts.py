"""Wrong input scripts of LAMMPS, and what is said of each."""

from __future__ import annotations

from refusals import SLAB

#: name: (lines that differ, what the message has to say)
CASES: dict[str, tuple[dict[str, str], str]] = {
    "unknown element": (
        {"coeff": "pair_coeff * * model.pt O Xx H Cl"},
        r"element Xx of atom type 2 .*knows: H O Na Cl",
    ),
    "lower case element": (
        {"coeff": "pair_coeff * * model.pt o Na H Cl"},
        r"element o of atom type 1",
    ),
    "NULL element": (
        {"coeff": "pair_coeff * * model.pt O NULL H Cl"},
        r"NULL for atom type 2 is not possible",
    ),
    "too few elements": (
        {"coeff": "pair_coeff * * model.pt O Na H"},
        r"4 types, 3 elements given",
    ),
    "no stars": (
        {"coeff": "pair_coeff 1 1 model.pt O Na H Cl"},
        r"must start with \* \* for pair style fixedpoint",
    ),
    "missing file": (
        {"coeff": "pair_coeff * * nothing.pt O Na H Cl"},
        r"cannot read the model file nothing\.pt: no such file",
    ),
    "a folder": (
        {"coeff": "pair_coeff * * . O Na H Cl"},
        r"cannot read the model file \.",
    ),
    "not an archive": (
        {"coeff": "pair_coeff * * system.data O Na H Cl"},
        r"system\.data: it is not a model archive",
    ),
    "unknown keyword": (
        {"style": "pair_style fixedpoint charg 0"},
        r"unknown keyword 'charg'; the keywords are charge, fermi, .*on_nonconverged",
    ),
    "missing value": (
        {"style": "pair_style fixedpoint charge"},
        r"charge needs a value",
    ),
    "not a number": (
        {"style": "pair_style fixedpoint charge one"},
        r"charge expects .*got 'one'",
    ),
    "not finite": (
        {"style": "pair_style fixedpoint charge nan"},
        r"charge expects .*got 'nan'",
    ),
    "trailing junk": (
        {"style": "pair_style fixedpoint fermi 1.5V"},
        r"fermi expects the Fermi level in V, got '1\.5V'",
    ),
    "infinite": (
        {"style": "pair_style fixedpoint charge -inf"},
        r"charge expects the total charge of the cell in e, got '-inf'",
    ),
    "beyond double precision": (
        {"style": "pair_style fixedpoint scf_tolerance 1e999"},
        r"scf_tolerance expects a positive number, got '1e999'",
    ),
    "beyond integers": (
        {"style": "pair_style fixedpoint num_scf_steps 99999999999999999999"},
        r"num_scf_steps expects a positive whole number, got '9+'",
    ),
    "charge and level": (
        {"style": "pair_style fixedpoint charge 0 fermi 1"},
        r"charge and fermi exclude each other",
    ),
    "zero steps": (
        {"style": "pair_style fixedpoint num_scf_steps 0"},
        r"num_scf_steps expects a positive whole number",
    ),
    "half a step": (
        {"style": "pair_style fixedpoint num_scf_steps 1.5"},
        r"num_scf_steps expects a positive whole number",
    ),
    "negative tolerance": (
        {"style": "pair_style fixedpoint scf_tolerance -1"},
        r"scf_tolerance expects a positive number",
    ),
    "mixing above one": (
        {"style": "pair_style fixedpoint mixing_parameter 1.5"},
        r"mixing_parameter expects .*\(0, 1\]",
    ),
    "no mixing": (
        {"style": "pair_style fixedpoint mixing_parameter 0"},
        r"mixing_parameter expects a number in \(0, 1\], got '0'",
    ),
    "unknown device": (
        {"style": "pair_style fixedpoint device gpu"},
        r"device expects auto or cpu or cuda, got 'gpu'",
    ),
    "unknown way out": (
        {"style": "pair_style fixedpoint on_nonconverged ignore"},
        r"on_nonconverged expects error or warn, got 'ignore'",
    ),
    "unknown solver": (
        {"style": "pair_style fixedpoint solver newton"},
        r"solver expects anderson or linear, got 'newton'",
    ),
    "unknown k-space": (
        {"style": "pair_style fixedpoint kspace pppm"},
        r"kspace expects auto or reciprocal or mesh or open, got 'pppm'",
    ),
    "k-space accuracy of nothing": (
        {"style": "pair_style fixedpoint kspace_accuracy 0"},
        r"kspace_accuracy expects a positive number, got '0'",
    ),
    "k-space accuracy of a fifth": (
        {"style": "pair_style fixedpoint kspace_accuracy 0.2"},
        r"kspace_accuracy expects a relative force error of at most 0\.1, got '0\.2'",
    ),
    "k-space accuracy beyond rounding": (
        {"style": "pair_style fixedpoint kspace_accuracy 1e-16"},
        r"kspace_accuracy \S+: expected a relative force error between 1e-10 and",
    ),
    "pairs in a periodic box": (
        {"style": "pair_style fixedpoint kspace open"},
        r"kspace method open is for structures without periodic axes; use auto, reciprocal or mesh",
    ),
    "net force": (
        {"style": "pair_style fixedpoint kspace_net_force drop"},
        r"kspace_net_force expects keep or remove, got 'drop'",
    ),
    "field along a periodic axis": (
        {"before": "boundary p f p\natom_style charge", "style": "pair_style fixedpoint efield 0 0.1 -0.2"},
        r"efield 0 0\.1 -0\.2 has a component along the periodic axis z, .*with the command boundary",
    ),
    "two components of a field": (
        {"style": "pair_style fixedpoint efield 0 0"},
        r"efield needs 3 values",
    ),
    "field without a number": (
        {"style": "pair_style fixedpoint efield 0 0 up"},
        r"efield expects three numbers \(V/Angstrom\) or variables v_name, got 'up'",
    ),
    "field of no variable": (
        {"style": "pair_style fixedpoint efield v_none 0 0"},
        r"the variable none of the keyword efield does not exist",
    ),
    "field of an atom variable": (
        {"before": "atom_style charge\nvariable e atom x", "style": "pair_style fixedpoint efield v_e 0 0"},
        r"the variable e of the keyword efield is not equal-style",
    ),
    "infinite field": (
        {"before": "atom_style charge\nvariable e equal exp(1000)", "style": "pair_style fixedpoint efield 0 v_e 0"},
        r"the y component of efield is not finite at step 0",
    ),
    "origin of no field": (
        {"style": "pair_style fixedpoint field_origin 0 0 0"},
        r"field_origin is where the potential of efield is zero, and there is no efield",
    ),
    "origin without a number": (
        {"style": "pair_style fixedpoint efield 0 0 0 field_origin 0 0 v_e"},
        r"field_origin expects three numbers \(Angstrom\), got 'v_e'",
    ),
    "jellium of nothing": (
        {**SLAB, "style": "pair_style fixedpoint charge 1 jellium 2.0 2.05"},
        r"jellium expects the heights .* at least 0\.1 Angstrom apart, got '2\.0' and '2\.05'",
    ),
    "jellium without a height": (
        {**SLAB, "style": "pair_style fixedpoint charge 1 jellium 2.0 up"},
        r"jellium expects two heights \(Angstrom\), got 'up'",
    ),
    "jellium with one height": (
        {**SLAB, "style": "pair_style fixedpoint charge 1 jellium 2.0"},
        r"jellium needs 2 values",
    ),
    "jellium in a crystal": (
        {"style": "pair_style fixedpoint charge 1 jellium 2.0 4.0"},
        r"jellium is for slabs, with two periodic axes and an open one; use the command boundary",
    ),
    "jellium and another origin": (
        {**SLAB, "style": "pair_style fixedpoint efield 0 0 0.1 field_origin 0 0 0 jellium 2 4"},
        r"field_origin and jellium exclude each other: .*middle of the slab",
    ),
    "jellium and no net force": (
        {**SLAB, "style": "pair_style fixedpoint kspace_net_force remove jellium 2 4"},
        r"kspace_net_force remove and jellium exclude each other",
    ),
    "wrong units": (
        {"units": "units lj"},
        r"needs units metal or real, not lj",
    ),
    "newton off": (
        {"before": "newton off\natom_style charge"},
        r"needs newton on",
    ),
    "respa": (
        {"after": "run_style respa 2 2 bond 1 pair 2"},
        r"does not work with run_style respa",
    ),
    "excluded pairs": (
        {"after": "neigh_modify exclude type 1 1"},
        r"does not work with neigh_modify exclude",
    ),
    "included group": (
        {"after": "group some type 1 2\natom_modify first some\nneigh_modify include some"},
        r"does not work with neigh_modify include",
    ),
    "pairs of types for another style": (
        {
            "style": "pair_style hybrid fixedpoint charge 0 lj/cut 5.0",
            "coeff": "pair_coeff * * fixedpoint model.pt O Na H Cl\npair_coeff 3 3 lj/cut 0.0 1.0",
        },
        r"pair_style hybrid gives some of them to another style; use pair_style hybrid/overlay",
    ),
    "ghosts of a group": (
        {"before": "atom_style charge\natom_modify first some", "after": "group some type 1\ncomm_modify group some"},
        r"needs all ghost atoms and does not work with comm_modify group",
    ),
    "excluded groups": (
        {"after": "group some type 1\ngroup rest type 2\nneigh_modify exclude group some rest"},
        r"does not work with neigh_modify exclude; here the groups some and rest",
    ),
    "excluded molecules": (
        {
            "units": "units metal\nregion b block 0 9 0 9 0 9",
            "before": "atom_style full",
            "data": "create_box 4 b\nmass * 1",
            "after": "neigh_modify exclude molecule/intra all",
        },
        r"does not work with neigh_modify exclude",
    ),
    "strained atoms": (
        {"after": "fix v all numdiff/virial 1 1e-5"},
        r"fix v numdiff/virial strains the atoms and not the box, .*compute pressure; for elastic constants",
    ),
    "elastic constants by straining atoms": (
        {"after": "compute p all pressure NULL virial\ncompute v all born/matrix numdiff 1e-5 p"},
        r"compute v born/matrix strains the atoms and not the box",
    ),
    "charges read before they are written": (
        {
            "style": "pair_style hybrid/overlay coul/cut 5.0 fixedpoint charge 0",
            "coeff": "pair_coeff * * fixedpoint model.pt O Na H Cl\npair_coeff * * coul/cut",
        },
        r"coul/cut comes before it in pair_style hybrid/overlay .*name fixedpoint first, or give it write_q no",
    ),
    "charges written perhaps": (
        {"style": "pair_style fixedpoint write_q maybe"},
        r"write_q expects yes or no, got 'maybe'",
    ),
    "charges of a regulation": (
        {"after": "fix c all charge/regulation 1 2 acid_type 3 seed 1"},
        r"does not work with fix charge/regulation",
    ),
    "outside of the training perhaps": (
        {"style": "pair_style fixedpoint outside stop"},
        r"outside expects error or warn or ignore, got 'stop'",
    ),
    "atoms in the same place": (
        {"after": "set atom 1 x 1.0 y 1.0 z 1.0\nset atom 2 x 1.0 y 1.0 z 1.001"},
        r"atoms (1 and 2|2 and 1) are 0\.001 A apart at step 0, in the same place; remove one of them",
    ),
    "charge of nothing": (
        {"style": "pair_style fixedpoint charge 1", "after": "delete_atoms group all"},
        r"no atom at step 0 that could carry the total charge 1 e",
    ),
    "unattainable tolerance": (
        {"style": "pair_style fixedpoint scf_tolerance 1e-30"},
        r"SCF not converged at step 0: .*scf_tolerance is unattainable: the rounding of double precision",
    ),
    "virial per atom": (
        {"after": "compute s all stress/atom NULL\ncompute r all reduce sum c_s[1]\nthermo_style custom step c_r"},
        r"no per-atom virial",
    ),
    "not converged": (
        {"style": "pair_style fixedpoint charge 0 num_scf_steps 2"},
        r"SCF not converged at step 0: .*2 applications, residual .*scf_tolerance 1e-06 .*Try a larger num_scf_steps",
    ),
}
