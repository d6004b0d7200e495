"""Periodic and open axes of a cell (rows are vectors, Å), for every pattern from TTT to FFF.

An axis is a vector of the cell. The vectors of open axes mean nothing to energies: they may be anything, also zero.
They count in the volume that a stress is divided by, and in the origin of an external field.
"""

import numpy as np

#: shortest periodic vector, Å
SHORTEST = 1e-3
#: vectors span less than this times the product of their lengths: they are parallel, or lie in a plane
FLAT = 1e-6
#: largest component of a unit vector along a unit vector that it is perpendicular to
PERPENDICULAR = 1e-8

_SPAN = {1: "length", 2: "area", 3: "volume"}


def letters(pbc: np.ndarray) -> str:
    """Periodic axes as extended XYZ writes them: ``T T F``."""
    return " ".join("T" if axis else "F" for axis in pbc)


def _is_flat(vectors: np.ndarray) -> bool:
    """Whether some of ``vectors`` ``(m, 3)`` are zero, parallel or in a plane."""
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths < SHORTEST).any():
        return True
    unit = vectors / lengths[:, None]
    return bool(np.sqrt(max(np.linalg.det(unit @ unit.T), 0.0)) < FLAT)


def has_volume(cell: np.ndarray) -> bool:
    """Whether the cell has three independent vectors."""
    return not _is_flat(np.asarray(cell, dtype=np.float64))


def check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    """Refuse periodic vectors that span no length, area or volume, and cells that are not finite.

    Raises:
        ValueError: saying which.
    """
    cell = np.asarray(cell, dtype=np.float64)
    if not np.isfinite(cell).all():
        raise ValueError(f"`cell` is not finite: {cell.tolist()}; vectors of open axes may be zero")
    periodic = cell[pbc]
    if len(periodic) == 0 or not _is_flat(periodic):
        return
    span = _SPAN[len(periodic)]
    vectors = "its periodic vector" if len(periodic) == 1 else "its periodic vectors"
    raise ValueError(
        f"`cell` of a periodic structure has no {span}: {vectors} (pbc = {letters(pbc)}) are {periodic.tolist()}; set "
        f"{len(periodic)} independent vectors, or make the axis open (pbc F)"
    )


def completed_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The vectors of periodic axes with unit vectors perpendicular to them, and to one another, for the open axes.

    |det| is then the volume (TTT), area (two periodic axes) or length (one) of the periodic vectors, or 1.  With one
    open axis the unit vector is the normal whose largest component is positive.
    """
    periodic = np.asarray(cell, dtype=np.float64)[pbc]
    if len(periodic) == 3:
        return periodic
    if len(periodic) == 0:
        return np.eye(3)
    # the last right singular vectors are perpendicular to all rows
    normals = np.linalg.svd(periodic)[2][len(periodic) :]
    largest = np.take_along_axis(normals, np.abs(normals).argmax(axis=1)[:, None], axis=1)
    out = np.empty((3, 3))
    out[pbc], out[~pbc] = periodic, normals * np.sign(largest)
    return out


def cell_of_graph(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """What models get as ``cell`` ``(3, 3)``: the given one where it has a volume, else the completed one.

    For open structures the unit matrix.
    """
    cell = np.asarray(cell, dtype=np.float64)
    return cell.copy() if pbc.any() and has_volume(cell) else completed_cell(cell, pbc)


def open_axes(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Cartesian axes without a component of a periodic vector ``(3,)`` bool: those along which a dipole is defined."""
    periodic = np.asarray(cell, dtype=np.float64)[pbc]
    return ~(np.abs(periodic) > PERPENDICULAR * np.linalg.norm(periodic, axis=1, keepdims=True)).any(axis=0)


def is_along_periodic_axes(field: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
    """Whether a field has a component along a periodic vector, where the potential of a field is not periodic."""
    periodic = np.asarray(cell, dtype=np.float64)[pbc]
    scale = np.linalg.norm(periodic, axis=1) * np.linalg.norm(field)
    return bool((np.abs(periodic @ np.asarray(field, dtype=np.float64)) > PERPENDICULAR * scale).any())


def field_origin(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Point ``(3,)`` at which the potential F·(r - origin) of an external field is zero, Å.

    It is the centre of the cell along those open axes that have a vector, else 0; never a centre of the atoms, which
    moves with them.  Another origin changes the energy of a charged structure and the Fermi level.
    """
    return 0.5 * np.asarray(cell, dtype=np.float64)[~np.asarray(pbc, dtype=bool)].sum(axis=0)
