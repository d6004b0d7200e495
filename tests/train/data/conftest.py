"""A set of frames as files and prepared."""

import numpy as np
import pytest
from fp_potential.train.data.sets import load_data

from prepared_sets import CUTOFF, options_of, prepare
from training_data import frames, write_frames


@pytest.fixture(scope="module")
def set_frames():
    """Frames with missing labels, weights, charges, a kind and a set of their own."""
    out = frames()
    out[1].info["config_forces_weight"] = 0.25
    out[2].info["config_atomic_multipoles_weight"] = [1.0, 0.5, 0.0, 2.0]
    out[3].info |= {"config_dipole_weight": [1.0, 2.0, 0.0], "config_weight": 5.0}
    del out[4].info["REF_energy"], out[4].info["total_charge"], out[4].info["external_field"]
    out[5].info["split"] = "held back"
    out[9].info["REF_stress"] = np.arange(9.0)
    return out


@pytest.fixture(scope="module")
def set_files(tmp_path_factory, set_frames):
    folder = tmp_path_factory.mktemp("files")
    write_frames(folder / "a.xyz", set_frames[:5])
    write_frames(folder / "b.xyz", set_frames[5:])
    return folder


@pytest.fixture(scope="module")
def set_folder(set_files, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "set"
    prepare(options_of(set_files / "*.xyz"), CUTOFF, output)
    return output


@pytest.fixture(scope="module")
def prepared_set(set_folder):
    return load_data(options_of(set_folder))
