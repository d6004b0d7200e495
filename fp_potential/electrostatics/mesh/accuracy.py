"""Order and spacing of the mesh for an asked accuracy.

The relative rms error of the forces between Gaussian charges and dipoles is a power of the spacing h,

    error = a x^b,   x = h / sigma_eff,   sigma_eff² = (sigma² + sigma_n²) / 2 of the narrowest receiver,

with a and b of each order fitted to random charges and dipoles by ``benchmarks/mesh_accuracy.py``.  Of the meshes that
are fine enough the one with the least work is taken (`particle_mesh.Mesh.choose`).
"""

#: order -> (a, b) of the error, valid up to LARGEST
ERROR_MODEL = {4: (1.7e-2, 2.4), 6: (1.5e-3, 5.0), 8: (2.8e-4, 7.8), 10: (1.0e-4, 10.8)}
#: largest spacing over sigma_eff, and a factor for the stress, whose error is up to three times that of the forces, and
#: for widths that differ much (benchmarks/mesh_accuracy.py, tests/electrostatics/mesh/test_particle_mesh.py)
LARGEST, SAFETY = 0.9, 6.0
#: the tightest accuracy that can be asked for in single precision; that of double precision is in `options.kspace`
TIGHTEST_SINGLE = 2e-6
#: error of the truncated kernel over that of the splines
PADDING = 0.02
#: points of a mesh of one process above which the accuracy is refused
MOST_POINTS = 2**28


def smooth_size(n: int) -> int:
    """The smallest whole number >= n, at least 1, without prime factors above 7."""
    n = max(n, 1)
    while without_small_primes(n) > 1:
        n += 1
    return n


def without_small_primes(n: int) -> int:
    """``n`` divided by all its prime factors up to 7."""
    for prime in [2, 3, 5, 7]:
        while n % prime == 0:
            n = n // prime
    return n
