"""Flexible conjugate gradients on padded storage, for symmetric positive definite operators and preconditioners that need not be.

The direction's factor is that of Polak and Ribiere, beta = z_new . (r_new - r_old) / z_old . r_old, which keeps the method sound
where the preconditioner changes from step to step or is not symmetric, as a red-black V-cycle (Golub and Ye, SIAM J. Sci. Comput.
21 (1999) 1305; Notay, SIAM J. Sci. Comput. 22 (2000) 1444).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sftsolve.errors import StepError
from sftsolve.loops.conjugate import Passes
from sftsolve.state import Layout

Operator = Callable[[np.ndarray, np.ndarray], None]
"""(w, out): out = A w, or nearly A^-1 w."""


class ConjugateGradients:
    """Solver of A x = b for several fields at once; nothing is allocated after construction.

    Parameters
    ----------
    layout : padded storage
    count : number of fields
    limit : iterations after which it gives up
    threads : how many share the work; the result does not depend on it
    """

    def __init__(self, layout: Layout, count: int = 1, limit: int = 500, threads: int | None = None):
        self._layout = layout
        self._passes = Passes(layout, count, threads)
        self._limit, self._eps = limit, float(np.finfo(layout.dtype).eps)
        self.residual, self.step, self.image, self.better = (layout.zeros(count) for _ in range(4))

    @staticmethod
    def bytes_of(layout: Layout, count: int) -> float:
        """Bytes that a solver of `count` fields holds, from its first solve on."""
        return float(layout.bytes_of(4 * count))

    def solve(
        self, apply: Operator, precondition: Operator, right: np.ndarray, out: np.ndarray, guess: bool = False, rtol: float = 1e-8
    ) -> int:
        """Solve A out = right on padded arrays (field, Z, Y, X); returns the number of iterations.

        Parameters
        ----------
        apply, precondition : products with A and with nearly its inverse; (w, out) are padded arrays of which ghosts are free
        out : holds the first guess if `guess`
        rtol : norm of the residual, relative to that of the right side. Where that is not finite, neither is the result: NaN

        Raises
        ------
        StepError : not converged within the limit
        """
        r, p, q, z, passes = self.residual, self.step, self.image, self.better, self._passes
        size = math.sqrt(passes.dot(right, right))
        if size == 0.0:
            out.fill(0.0)
            return 0
        if not math.isfinite(size):
            self._layout.interior(out)[...] = math.nan  # not zero: steps that have left the finite numbers are to be refused
            return 0
        wanted = max(rtol, 4 * self._eps) * size
        if guess:
            apply(out, q)
            np.subtract(right, q, out=r)
        else:
            out.fill(0.0)
            r[...] = right
        norm = math.sqrt(passes.dot(r, r))
        beta, alpha, slope = 0.0, 0.0, 1.0
        for number in range(self._limit):
            if not norm > wanted:
                return number
            precondition(r, z)
            new, across = passes.dots(z, r, q)
            if not new > 0.0:  # the preconditioner is not positive definite
                break
            # r_new - r_old = -alpha q
            beta = -alpha * across / slope if number else 0.0
            passes.turn(p, z, beta)
            apply(p, q)
            slope = new
            alpha = slope / passes.dot(p, q)
            norm = math.sqrt(passes.advance(out, r, p, q, alpha))
        raise StepError(
            "a linear solve does not converge",
            expected=f"a residual of {rtol:.1e} relative to the right side",
            given=f"{norm / size:.1e} after {number} iterations",
            remedy="a smaller step, or an explicit method",
        )
