"""Animations of a run's pictures, and the window of energies of a picture."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from fp_potential.train.bands.bundle.read import read_bundle
from fp_potential.train.bands.movie import write_movies
from fp_potential.train.bands.pictures import window_of
from fp_potential.train.bands.systems import load_system
from PIL import Image

from train.bands.bundles import CDSE


def test_pictures_in_the_order_of_epochs(tmp_path):
    for epoch, grey in ((100, 200), (20, 100), (3, 0)):  # not that of their names
        size = (30 + epoch // 20, 20)
        Image.new("RGB", size, (grey, grey, grey)).save(tmp_path / f"epoch_{epoch}_plotBS.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "epoch_3_plotPP.png")  # one alone does not move
    assert write_movies(tmp_path) == ["movie_plotBS.gif"]
    with Image.open(tmp_path / "movie_plotBS.gif") as film:
        greys = []
        for number in range(film.n_frames):
            film.seek(number)
            greys.append(film.convert("RGB").getpixel((2, 2))[0])
    assert greys == [0, 100, 200] and film.size == (35, 20)


def test_window_of_energies():
    data = load_system(read_bundle(CDSE).systems[0].model_copy(update={"valence_band": 7, "conduction_band": 8}))
    system = SimpleNamespace(data=data, reference=torch.from_numpy(data.reference))
    result = SimpleNamespace(system=system)
    assert window_of(result) is None
    system.data = replace(data, plot_center=-5.0, plot_range=8.0, plot_range_zoom=2.0)
    assert window_of(result) == (-13.0, 3.0) and window_of(result, zoom=True) == (-7.0, -3.0)
    system.data, system.weights = replace(data, plot_range_zoom=2.0), torch.from_numpy(data.band_weights)
    low, high = window_of(result, zoom=True)
    gamma = int(np.argmin(data.reference[:, 8] - data.reference[:, 7]))
    assert abs(0.5 * (low + high) - data.reference[gamma, 7:9].mean()) < 1e-12 and abs(high - low - 4) < 1e-12
