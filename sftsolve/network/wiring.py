"""The wiring of a ring network: which weight joins which two units, and the exact network on its lattice.

Everything lives on one ring and is counted in units of the spacing a. The N outputs of a layer sit at `4 i + output_site`,
its N inputs at `4 i + input_site`, and its weights at the 2N odd numbers 1, 3, 5, ...: a weight sits midway between the
two units that it joins. The same `links` serve the lattice (integer gathers, here) and the continuum (Taylor shifts,
expansion.py), so the field theory follows from the wiring and cannot disagree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import polynomial

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Layer:
    """`f(x) = sigma( sum_links w(x + weight a) g(x + unit a) )` for x on the output sites; g is the layer below.

    Parameters
    ----------
    field : name of the layer's weights
    output_site, input_site : the sites of outputs and inputs, modulo 4, in units of a
    activation : coefficients of sigma in ascending order, `sigma(z) = r + q z + p z**2 + ...`; None is linear
    links : pairs (weight, unit) of displacements from the output, in units of a
    """

    field: str
    output_site: int
    input_site: int
    activation: tuple[float, ...] | None = None
    links: tuple[tuple[int, int], ...] = ((1, 2), (-1, -2))

    def gathers(self, units: int) -> list[tuple[Indices, Indices]]:
        """For each link, the index of the weight and of the input that output i = 0..units-1 sees."""
        i = np.arange(units)
        return [
            (
                (2 * i + (self.output_site + weight - 1) // 2) % (2 * units),
                (i + (self.output_site + unit - self.input_site) // 4) % units,
            )
            for weight, unit in self.links
        ]

    def activate(self, z: Array) -> Array:
        """sigma(z)."""
        return z if self.activation is None else np.asarray(polynomial.polyval(z, self.activation), dtype=np.float64)

    def slope(self, z: Array) -> Array:
        """sigma'(z), shaped to broadcast against z."""
        derivative = [1.0] if self.activation is None else polynomial.polyder(self.activation)
        return np.asarray(polynomial.polyval(z, derivative), dtype=np.float64)


def forward(layers: Sequence[Layer], w: Array, inputs: Array) -> tuple[Array, list[tuple[Array, Array]]]:
    """Outputs (L, N) for weights (field, 2N) and inputs (L, N), and per layer its (input, pre-activation) for `backward`."""
    tape = []
    signal = inputs
    for layer, weights in zip(layers, w, strict=True):
        z = sum((weights[weight] * signal[:, unit] for weight, unit in layer.gathers(inputs.shape[1])), np.zeros(()))
        tape.append((signal, z))
        signal = layer.activate(z)
    return signal, tape


def backward(layers: Sequence[Layer], w: Array, tape: list[tuple[Array, Array]], error: Array) -> Array:
    """Back-propagation: dC/dw (field, 2N) from `error` = dC/d(output), shape (L, N)."""
    gradient = np.zeros_like(w)
    for m in reversed(range(len(layers))):
        signal, z = tape[m]
        error = error * layers[m].slope(z)
        below = np.zeros_like(signal)
        for weight, unit in layers[m].gathers(signal.shape[1]):
            # Within one link no index occurs twice, so a plain indexed += adds every contribution.
            gradient[m, weight] += np.einsum("li,li->i", error, signal[:, unit])
            below[:, unit] += w[m, weight] * error
        error = below
    return gradient
