"""Units of the band-structure model: Hartree and Bohr inside, eV in files and reports."""

#: 1 Ha in eV, as in the published band structures and parameters (CODATA: 27.211386).
HARTREE = 27.2114
#: 1 Bohr in Å (CODATA 2018).
BOHR = 0.529177210903
