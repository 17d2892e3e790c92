"""The denoising data set, and what a learned filter has to beat: no filter, a Gaussian blur, one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from sftsolve.errors import ConfigError, FileError, GridError
from sftsolve.network import checks
from sftsolve.network.image import ImageFilter

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class NoisyImages:
    """Pairs of noisy and clean images (examples, ny, nx), clean ones in [0, 1], split into training and held-out sets.

    `train_index` and `held_out_index` are the examples' places in the file, `train_labels` and `held_out_labels` what
    they show.
    """

    train_inputs: Array
    train_targets: Array
    train_labels: np.ndarray[Any, np.dtype[np.int64]]
    train_index: np.ndarray[Any, np.dtype[np.int64]]
    held_out_inputs: Array
    held_out_targets: Array
    held_out_labels: np.ndarray[Any, np.dtype[np.int64]]
    held_out_index: np.ndarray[Any, np.dtype[np.int64]]


def load_noisy_images(path: str | PathLike[str], noise: float = 0.3, seed: int = 0, train_fraction: float = 0.8) -> NoisyImages:
    """Read `images` (L, ny, nx) uint8 and `labels` (L,) from an HDF5 file, add noise, split label by label.

    inputs = images/255 + noise * default_rng(seed).standard_normal((L, ny, nx)), not clipped. Of every label the first
    `train_fraction` in the file's order train, the rest is held out; both sets keep the file's order.

    Raises
    ------
    FileError : the file is missing, is not HDF5, or does not hold such images and labels
    ConfigError : noise or seed negative, or a train_fraction that leaves a label without examples in one of the sets
    """
    images, labels = _read(Path(path))
    level = checks.number("noise", noise, positive=False)
    rng = np.random.default_rng(checks.whole("seed", seed, least=0))
    targets = images / 255.0
    inputs = targets + level * rng.standard_normal(images.shape)
    train = np.zeros(len(labels), dtype=bool)
    fraction = checks.number("train_fraction", train_fraction, positive=True)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = round(fraction * len(places))
        if not 0 < count < len(places):
            raise ConfigError(
                "train_fraction leaves one of the sets empty",
                expected="a fraction that gives every label examples to train on and examples held out",
                given=f"{fraction:g} of {len(places)} examples with label {label}",
            )
        train[places[:count]] = True
    here, there = np.flatnonzero(train), np.flatnonzero(~train)
    return NoisyImages(inputs[here], targets[here], labels[here], here, inputs[there], targets[there], labels[there], there)


def _read(path: Path) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]:
    wanted = "an HDF5 file with datasets images (L, ny, nx) of uint8 and labels (L,)"
    remedy = "scripts/make_mnist.py makes data/mnist-1000.h5"
    if not path.is_file():
        raise FileError("the data set does not exist", expected=wanted, given=path, remedy=remedy)
    try:
        with h5py.File(path, "r") as file:
            found = [file.get(name) for name in ("images", "labels")]
            images, labels = (np.asarray(item) if isinstance(item, h5py.Dataset) else np.zeros(0) for item in found)
    except OSError as error:
        raise FileError("the data set cannot be read", expected=wanted, given=f"{path}: {error}", remedy=remedy) from None
    if (
        images.ndim != 3
        or images.dtype != np.uint8
        or 0 in images.shape
        or labels.shape != images.shape[:1]
        or labels.dtype.kind not in "iu"
    ):
        given = f"{path}: images {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}"
        raise FileError("the file holds another kind of data", expected=wanted, given=given, remedy=remedy)
    return images.astype(np.uint8, copy=False), labels.astype(np.int64)


def psnr(outputs: ArrayLike, targets: ArrayLike) -> float:
    """Peak signal-to-noise ratio in decibel, `10 log10(1 / mean (outputs - targets)^2)`: peak 1, mean over all pixels of
    all images, nothing clipped; infinite for equal arrays. Raises GridError where the shapes differ.
    """
    a, b = np.asarray(outputs, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise GridError(
            "outputs and targets differ in shape", expected="the same pixels in both", given=f"{a.shape} and {b.shape}"
        )
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def gaussian_blur(images: Array, sigma: float) -> Array:
    """Each image blurred by a Gaussian of width sigma (pixels), zero padding outside, as the learned filter has it."""
    return gaussian_filter(np.asarray(images, dtype=np.float64), (0.0, sigma, sigma), mode="constant")


def best_gaussian(inputs: Array, targets: Array, widths: tuple[float, float] = (0.1, 4.0)) -> float:
    """The width sigma in pixels, within `widths`, whose blur brings `inputs` nearest to `targets` in the mean square.

    Give it training images: a baseline that has seen the held-out ones is no baseline.
    """
    checks.examples(inputs, targets, ("ny", "nx"))

    def loss(sigma: float) -> float:
        return float(np.mean((gaussian_blur(inputs, sigma) - targets) ** 2))

    # A coarse scan first: the loss is flat below sigma = 0.2, where a search that only goes downhill would stop.
    scan = np.geomspace(*widths, 9)
    place = int(np.argmin([loss(sigma) for sigma in scan]))
    bracket = (scan[max(place - 1, 0)], scan[min(place + 1, len(scan) - 1)])
    return float(minimize_scalar(loss, bounds=bracket, method="bounded", options={"xatol": 1e-3}).x)


def best_convolution(network: ImageFilter) -> Array:
    """The single convolution, one constant per offset, of least cost on the network's training set, as weights.

    It minimises the sum over pixels of `c M(x) c / 2 - b(x) c`, the limit kappa -> infinity of the learned filter.
    Shape (field, ny, nx), every field constant.
    """
    matrix = network.mass_matrix.sum(axis=(2, 3))
    drive = network.drive.sum(axis=(1, 2))
    constants = np.linalg.lstsq(matrix, drive, rcond=None)[0]
    return np.broadcast_to(constants[:, None, None], network.shape).copy()


def held_out_table(network: ImageFilter, w: ArrayLike, images: NoisyImages) -> dict[str, float]:
    """Held-out PSNR in decibel of "noisy", "gaussian", "convolution" and "learned" (the weights `w`), and the Gaussian's
    "gaussian_sigma" in pixels. Baselines are fitted to the training set only.
    """
    inputs, targets = images.held_out_inputs, images.held_out_targets
    sigma = best_gaussian(images.train_inputs, images.train_targets)
    return {
        "noisy": psnr(inputs, targets),
        "gaussian": psnr(gaussian_blur(inputs, sigma), targets),
        "gaussian_sigma": sigma,
        "convolution": psnr(network.outputs(best_convolution(network), inputs), targets),
        "learned": psnr(network.outputs(w, inputs), targets),
    }


def square_offsets(reach: int = 1) -> Sequence[tuple[int, int]]:
    """All offsets (dy, dx) with |dy|, |dx| <= reach, row by row: 9 of them for reach 1, 25 for reach 2."""
    size = range(-checks.whole("reach", reach, least=0), reach + 1)
    return [(dy, dx) for dy in size for dx in size]
