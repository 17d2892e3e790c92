"""The linear part of a system's force that implicit and exponential steppers take out of it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sftsolve.linear.modes import Modes
from sftsolve.loops import modes as loops


class LinearPart(Protocol):
    """A symmetric negative semidefinite L; N = F - L w is everything else, data of the walls included.

    Fields are padded storage (field, Z, Y, X), of which interiors count; nothing is allocated after the first calls.
    """

    @property
    def radius(self) -> float:
        """Upper bound of -eigenvalues."""
        ...

    @property
    def modes(self) -> Modes | None:
        """The modes in which L is diagonal; None where there are none."""
        ...

    @property
    def mean_modes(self) -> Modes:
        """Modes of the L with the mean coefficients; `modes` itself where L is that."""
        ...

    @property
    def deviation(self) -> float:
        """Upper bound of |eigenvalues| of the difference between L and that of `mean_modes`."""
        ...

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w."""
        ...

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool, rtol: float) -> int:
        """(I - sigma L) out = right; returns the number of iterations.

        Parameters
        ----------
        sigma : >= 0
        out : on entry the first guess, if `guess`
        rtol : norm of the residual that is enough, relative to that of `right`
        """
        ...


class DiagonalPart:
    """L with constant coefficients: everything is exact, by transforms."""

    def __init__(self, modes: Modes):
        self.modes = self.mean_modes = modes
        self.deviation = 0.0
        self._spectrum: np.ndarray | None = None

    @property
    def radius(self) -> float:
        return self.modes.radius

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        spectrum = self._forward(w)
        loops.multiply(spectrum, self.modes.table, self.modes.threads)
        self.modes.backward(spectrum, out)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 0.0) -> int:
        spectrum = self._forward(right)
        loops.divide(spectrum, self.modes.table, sigma, self.modes.threads)
        self.modes.backward(spectrum, out)
        return 1

    def _forward(self, storage: np.ndarray) -> np.ndarray:
        if self._spectrum is None:
            self._spectrum = self.modes.empty()
        self.modes.forward(storage, self._spectrum)
        return self._spectrum
