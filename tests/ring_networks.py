"""Small ring networks and smooth data for them."""

from __future__ import annotations

import numpy as np

from sftsolve.network import ring_perceptron, ring_two_layer

ACTIVATION = [0.4, 0.7, -0.3]


def smooth_data(units, examples=3):
    """X and Y at x = 4ai on a ring of length 1."""
    x = np.arange(units) / units
    number = np.arange(examples)[:, None]
    return 1 + 0.3 * np.cos(2 * np.pi * (x - 0.13 * number)), 0.5 * np.sin(2 * np.pi * x + 0.7 * number) + 0.2


def smooth_weights(units, amplitude=1.0):
    x = (np.arange(2 * units) + 0.5) / (2 * units)
    return amplitude * np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x) + 0.6])


def two_layer(units=8, activation=ACTIVATION, examples=3):
    inputs, targets = smooth_data(units, examples)
    return ring_two_layer(inputs, targets, activation, 1 / (4 * units))


def perceptron(units=8, activation=None, examples=3):
    inputs, targets = smooth_data(units, examples)
    return ring_perceptron(inputs, targets, activation, 1 / (4 * units))
