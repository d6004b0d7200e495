"""fix gcmc and fix widom, which try the system without some of its atoms, and with others."""

from __future__ import annotations

import numpy as np
import pytest

BOX = """
units metal
atom_style charge
region b block 0 9 0 9 0 9
create_box 3 b
mass 1 22.98977
mass 2 15.999
mass 3 1.008
create_atoms 2 single 3.0 3.0 3.0
create_atoms 3 single 3.9 3.3 3.1
create_atoms 3 single 2.4 3.7 3.2
{more}
pair_style fixedpoint charge 0
pair_coeff * * model.pt Na O H
thermo_style custom step pe atoms
thermo_modify format float %.12g
{run}
"""
#: single points without and with a sodium ion; the variables stay
SINGLE_POINTS = (
    BOX.format(more="", run="run 0\nvariable e equal pe\nvariable bare equal ${e}")
    + "create_atoms 1 single 7.0 6.5 5.0\nrun 0\nvariable whole equal ${e}\n"
)

BOLTZMANN, PLANCK, MASS_UNIT = 8.617333262e-5, 4.135667403e-3, 1.0364269e-4  #: units metal


def run(simulation, ranks: int, *others: str) -> list[dict[str, float]]:
    """Thermodynamic output of `SINGLE_POINTS` and ``others`` in one process."""
    done = simulation.run_script("clear\n".join([SINGLE_POINTS, *others]), ranks=ranks)
    assert done.returncode == 0, done.stdout[-1500:]
    assert "exclude" not in done.stdout
    return simulation.thermo()


@pytest.mark.parametrize("ranks", [1, 2])
def test_deletion_energy(simulation, ranks):
    """Deletions happen where single points say they do: ln p = ln(n Lambda^3/V) - (E(n-1) - E(n) + mu)/kT is ± 12.

    That is 0.1 eV of energy; a deletion costs 5 eV. It is repeated in a second run.
    """
    temperature, volume = 100.0, 8.0
    unit = BOLTZMANN * temperature
    wavelength = np.sqrt(PLANCK**2 / (2 * np.pi * 22.98977 * MASS_UNIT * unit))
    trials = []
    for logarithm in (-12, 12):
        shift = unit * (np.log(wavelength**3 / volume) - logarithm)
        lines = f"""
group gas type 1
region here block 6 8 6 8 4 6
variable level equal ${{whole}}-(${{bare}})+({shift})
fix mc gas gcmc 1 8 0 1 29494 {temperature} ${{level}} 0.1 region here max 1
thermo_style custom step pe atoms f_mc[5] f_mc[6]
thermo_modify format float %.12g
run 1
run 1
"""
        trials.append(BOX.format(more="create_atoms 1 single 7.0 6.5 5.0", run=lines))
    rows = run(simulation, ranks, *trials)
    bare, whole = rows[0]["PotEng"], rows[1]["PotEng"]
    assert bare - whole > 1.0
    kept, deleted = rows[5], rows[9]
    assert len(rows) == 10
    assert kept["f_mc[5]"] > 0 and kept["f_mc[6]"] == 0
    assert kept["Atoms"] == 4 and kept["PotEng"] == pytest.approx(whole, abs=1e-6)
    assert deleted["f_mc[6]"] > 0
    if deleted["Atoms"] == 3:
        assert deleted["PotEng"] == pytest.approx(bare, abs=1e-6)


@pytest.mark.parametrize("ranks", [1, 2])
def test_widom_insertion(simulation, ranks):
    """mu = -kT ln <exp(-dE/kT)> over insertions into one point is the difference of single points."""
    lines = """
group gas type 1
region here block 7.0 7.000001 6.5 6.500001 5.0 5.000001
fix w gas widom 1 3 1 29494 2000 region here
thermo_style custom step pe atoms f_w[1]
thermo_modify format float %.12g
run 1
run 1
"""
    rows = run(simulation, ranks, BOX.format(more="", run=lines))
    bare, whole = rows[0]["PotEng"], rows[1]["PotEng"]
    assert len(rows) == 6
    for row in rows[3], rows[5]:
        assert row["f_w[1]"] == pytest.approx(whole - bare, abs=1e-4)
        assert row["Atoms"] == 3 and row["PotEng"] == pytest.approx(bare, abs=1e-8)
