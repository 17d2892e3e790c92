"""Conjugate gradients for (I - sigma L) W = R, with a preconditioner."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sftsolve.errors import StepError
from sftsolve.loops.combine import combine
from sftsolve.loops.norms import CellSums
from sftsolve.parallel import slabs
from sftsolve.state import Layout

_MOST = 1000
# A recursive residual says nothing below the rounding of the right side.
_FLOOR = 8.0

Apply = Callable[[np.ndarray, np.ndarray], None]
Precondition = Callable[[np.ndarray, float, np.ndarray], None]


class ConjugateGradients:
    """Flexible conjugate gradients (Polak-Ribiere form: Golub and Ye, SIAM J. Sci. Comput. 21, 1999), four arrays.

    Parameters
    ----------
    apply : out = L w, symmetric negative semidefinite
    precondition : (right, sigma, out), out = nearly (I - sigma L)^-1 right, symmetric positive definite
    layout, count : of the padded arrays (count, Z, Y, X)
    """

    def __init__(self, apply: Apply, precondition: Precondition, layout: Layout, count: int):
        self._apply, self._precondition = apply, precondition
        self._layout, self._count = layout, count
        self._sums = CellSums(layout, count)
        self._threads = slabs(self._sums.count)
        self._type = np.dtype(layout.dtype).type
        self._arrays: tuple[np.ndarray, ...] | None = None

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool, rtol: float) -> int:
        """(I - sigma L) out = right until the residual's norm is `rtol` times that of `right`; the number of iterations.

        Raises
        ------
        StepError : no convergence
        """
        if self._arrays is None:
            self._arrays = tuple(self._layout.zeros(self._count) for _ in range(4))
        residual, better, direction, image = self._arrays
        size = math.sqrt(self._sums.dot(right, right))
        wanted = max(rtol, _FLOOR * float(np.finfo(self._layout.dtype).eps)) * size
        if guess:
            self._residual(right, sigma, out, residual)
        else:
            out.fill(0.0)
            residual[...] = right
        slope = alpha = beta = 0.0
        for number in range(_MOST):
            if not math.sqrt(self._sums.dot(residual, residual)) > wanted:
                return number
            self._precondition(residual, sigma, better)
            new = self._sums.dot(better, residual)
            if number:
                # <z, r_old> = <z, r> + alpha <z, A p>
                beta = -alpha * self._sums.dot(better, image) / slope
            slope = new
            self._add(direction, better, beta, direction)
            self._shifted(direction, sigma, image)
            alpha = slope / self._sums.dot(direction, image)
            self._add(out, out, alpha, direction)
            self._add(residual, residual, -alpha, image)
        found = math.sqrt(self._sums.dot(residual, residual)) / size
        raise StepError(
            "a linear solve does not converge", expected=f"a residual of {rtol:.1e}", given=f"{found:.1e} after {_MOST}"
        )

    def _shifted(self, w: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = w - sigma L w."""
        self._apply(w, out)
        self._add(out, w, -sigma, out)

    def _residual(self, right: np.ndarray, sigma: float, w: np.ndarray, out: np.ndarray) -> None:
        self._shifted(w, sigma, out)
        self._add(out, right, -1.0, out)

    def _add(self, out: np.ndarray, base: np.ndarray, weight: float, term: np.ndarray) -> None:
        """out = base + weight term; any of them may be the same."""
        flat = tuple(array.reshape(-1) for array in (out, base, term))
        combine(flat[0], flat[1], (flat[2],), (self._type(weight),), self._threads)
