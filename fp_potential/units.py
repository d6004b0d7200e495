"""Units and physical constants: the one place where numbers with a dimension live.

Internal units are e (charge), Å (length), eV (energy) and V (potential); dipoles are e·Å, electric fields V/Å
and stresses eV/Å³.  Densities are stored per atom as ``[q, d_y, d_z, d_x]``; vectors shown to a user are Cartesian.
"""

import math

#: Coulomb constant 1/(4 pi eps0), eV Å / e² (CODATA, to eight digits).
COULOMB = 14.399645
#: 1/eps0, V Å / e; the constant in front of the reciprocal-space Coulomb kernel.
INVERSE_EPSILON0 = 4.0 * math.pi * COULOMB

#: Position of the Cartesian axes (x, y, z) among the stored dipole components (d_y, d_z, d_x).
CARTESIAN_FROM_STORED = (2, 0, 1)
#: Position of the stored components (y, z, x) among the Cartesian axes.
STORED_FROM_CARTESIAN = (1, 2, 0)

#: l = 0 field feature per volt of averaged potential: v_00 = sqrt(4 pi) <v>.
SCALAR_FEATURE = math.sqrt(4.0 * math.pi)
#: l = 1 field feature per V/Å of averaged gradient and Å of receiver width: v_1a = pi sqrt(3/2) sigma_n <d_a v>.
GRADIENT_FEATURE = math.pi * math.sqrt(1.5)

#: 1 e·Å in Debye: 1 D = 1e-21/c C·m, with c and e of the SI, which are exact.
DEBYE = 1.602176634e-19 * 1e-10 * 299792458 / 1e-21
