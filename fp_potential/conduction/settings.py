"""Steps, sizes and thresholds of the diagnosis: every number that a verdict rests on, with its reason."""

from typing import NamedTuple

#: charge per volt (e/V) from which fragments count as exchanging charge, and a structure as holding some: fields in
#: matter are of the order of 1 V over a molecule, and a model's charges are wrong by 2 to 20 me, so that less is not
#: noticed; two conductors of the size of a molecule exchange 4 (a weak model's) to 50 me/V, however far apart
CONDUCTING = 1e-3
#: share of added charge from which an element of a fragment that conducts is named as one that does: what bonds move
#: to it from its neighbours is less
CONDUCTING_SHARE = 0.1
#: exponent of the growth of the polarizability per copy with the number of copies from which a chain counts as a metal:
#: half-way between n² (less a logarithm), charge flowing along the whole length, and n⁰, a limit
METALLIC_EXPONENT = 1.0
#: polarizability per copy (e Å²/V) below which there is nothing to grow: a twentieth of a hydrogen atom's, and above
#: what rounding leaves in single precision
NO_POLARIZABILITY = 2e-3

#: potential difference over a structure for differences by the field, ± V; the field is at most ± V/Å ...
POTENTIAL_STEP, LARGEST_FIELD = 0.5, 0.02
#: ... and a structure that is flatter than this along an axis (Å) has no potential difference there
FLAT = 1.0
#: steps of differences by the Fermi level, ± V, and by the total charge, ± e
LEVEL_STEP, CHARGE_STEP = 0.05, 0.05

#: bonds are shorter than this times the sum of the covalent radii: H2 (0.74 Å, sum 0.62) is one, water on copper
#: (2.3 Å, sum 1.98) a part of it, a hydrogen bond (1.7 Å, sum 0.97) none
BOND_FACTOR = 1.25
#: kinds of fragments that are tested far apart, those with most atoms
MOST_KINDS = 6
#: atoms of the longest chain and of fragments far apart: a minute on one core
LARGEST_CHAIN, LARGEST_PIECES = 1000, 2000


class ResponseSettings(NamedTuple):
    """What can be chosen."""

    gap: float = 3.0  #: between the copies of a chain, Å
    lengths: tuple[int, ...] = (1, 2, 4, 8, 16)  #: numbers of copies, rising
    bond_factor: float = BOND_FACTOR
    apart: float = 10.0  #: between fragments that do not touch, Å; at least the cutoff of the model
