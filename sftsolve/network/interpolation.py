"""Band-limited functions on a ring: the data between their sites, and the smooth part of a lattice field."""

from __future__ import annotations

from typing import Any

import numpy as np

from sftsolve.errors import GridError
from sftsolve.grid import Grid
from sftsolve.network import checks

Array = np.ndarray[Any, np.dtype[np.float64]]


class TrigonometricInterpolant:
    """Samples `f_i = f(origin + i length/N)`, shape (L, N), as the trigonometric polynomial through them.

        f(x) = sum_m c_m exp(2 pi i m (x - origin) / length),    |m| <= N/2

    For even N the highest wave is split evenly between m = N/2 and m = -N/2: the result is real, and among all
    interpolants the one that oscillates least.
    """

    def __init__(self, samples: Array, length: float, origin: float):
        self.length = length
        self.origin = origin
        count = samples.shape[-1]
        modes = np.rint(np.fft.fftfreq(count) * count).astype(np.int64)
        coefficients = np.fft.fft(samples.astype(np.float64), axis=-1) / count
        if count % 2 == 0:
            half = count // 2
            coefficients[..., half] /= 2
            modes = np.append(modes, half)
            coefficients = np.append(coefficients, coefficients[..., half : half + 1].conj(), axis=-1)
        self._modes = modes
        self._coefficients = coefficients

    def on(self, grid: Grid, derivative: int = 0) -> Array:
        """The `derivative`-th derivative at the grid's cell centres, shape (L, points).

        Raises
        ------
        GridError : the grid is not one-dimensional, not periodic, or not one turn of the ring long
        """
        check_ring(grid, self.length)
        points = grid.shape[0]
        wavenumbers = 2 * np.pi * self._modes / self.length
        first = float(grid.coordinates[0][0])
        factor = np.exp(1j * wavenumbers * (first - self.origin)) * (1j * wavenumbers) ** derivative
        # Modes beyond the grid's own band are folded onto it, which is what sampling at its points does.
        spectrum = np.zeros((points, len(self._coefficients)), dtype=np.complex128)
        np.add.at(spectrum, self._modes % points, (self._coefficients * factor).T)
        return np.ascontiguousarray(np.fft.ifft(spectrum, axis=0).real.T * points)


def check_ring(grid: Grid, length: float) -> None:
    """Raise GridError unless the grid is periodic, one-dimensional and one turn of the ring long."""
    fits = grid.dimension == 1 and np.isclose(grid.length[0], length, rtol=1e-12) and grid.periodic("x")
    if not fits:
        raise GridError(
            "the grid is not the network's ring",
            expected=f"one periodic axis of length {length:g}",
            given=f"shape {grid.shape}, length {grid.length}, boundary {grid.boundary}",
            remedy="use network.grid(), or network.grid(points) for a finer or coarser one",
        )


def low_pass(values: Array, modes: int | None = None) -> Array:
    """Keep the waves with at most `modes` periods along the last (periodic) axis; shape and mean are kept.

    Default: half of what the axis can carry, which removes the staggered part (period of two points) that every
    single weight of a ring network has beside its smooth part.

    Raises
    ------
    ConfigError : modes is not an integer >= 0
    """
    count = np.shape(values)[-1]
    highest = count // 4 if modes is None else checks.whole("modes", modes, least=0)
    spectrum = np.fft.rfft(values, axis=-1)
    spectrum[..., highest + 1 :] = 0
    return np.fft.irfft(spectrum, n=count, axis=-1)
