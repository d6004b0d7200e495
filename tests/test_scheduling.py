"""Which process runs which test."""

from pathlib import Path

from scheduling import TOGETHER, part


def test_parts() -> None:
    """Files that are run whole are there; LAMMPS is one part, and other tests are their own."""
    assert [name for name in TOGETHER if not (Path(__file__).parent / name).is_file()] == []
    lammps = {part(f"tests/lammps/{name}.py::test_a[1]") for name in ("test_parity", "test_bad_input")}
    assert len(lammps) == 1
    assert part("tests/test_variants.py::test_a") == part("tests/test_variants.py::test_b")
    assert part("tests/scf/test_loop.py::test_a") != part("tests/scf/test_loop.py::test_b")
