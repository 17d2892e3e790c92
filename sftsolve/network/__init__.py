"""Networks whose training is a field theory: locally wired filters on images, and the toy networks on a ring.

Each has the real network (`cost`, `gradient`, `train`, exact) and its theory (`action`, `grid`), so that one can be held
against the other.
"""

from sftsolve.network.baselines import (
    NoisyImages,
    best_convolution,
    best_gaussian,
    gaussian_blur,
    held_out_table,
    load_noisy_images,
    psnr,
    square_offsets,
)
from sftsolve.network.image import ImageFilter, image_filter
from sftsolve.network.interpolation import TrigonometricInterpolant, low_pass
from sftsolve.network.ring import RingNetwork, ring_perceptron, ring_two_layer

__all__ = [
    "ImageFilter",
    "NoisyImages",
    "RingNetwork",
    "TrigonometricInterpolant",
    "best_convolution",
    "best_gaussian",
    "gaussian_blur",
    "held_out_table",
    "image_filter",
    "load_noisy_images",
    "low_pass",
    "psnr",
    "ring_perceptron",
    "ring_two_layer",
    "square_offsets",
]
