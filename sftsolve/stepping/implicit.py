"""What steppers share that take the linear part and the friction implicitly: one shifted solve a stage.

With q = kappa w + eps u the damped equation reads  q' = N + L w - (kappa(t) - kappa) u,  eps u = q - kappa w:  the force is not
divided by eps, and friction is linear and pointwise. An implicit stage W = W* + a U, Q = Q* + a L W, with M = Q* - kappa W*
summed up in increments (q itself cancels where eps is near rounding), needs one symmetric positive definite solve on w,

    (I - sigma L) W = R,    R = W* + a/d M,    d = eps + kappa a,    sigma = a^2/d,
    G = (W - R)/sigma = L W,    U = (M + a G)/d,

well conditioned at any friction: sigma is a^2 for small and a/kappa for large. Taking G from the solve makes even an inexact
solve consistent with its own stage. Gradient flow, eps = 0: R holds all explicit terms and sigma = a.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sftsolve.errors import StepError
from sftsolve.friction import Span
from sftsolve.loops.combine import Arrays, combine, combine_both
from sftsolve.state import State
from sftsolve.stepping.base import OneStep
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.hermite import hermite

# Residual of a solve, relative to the right side, in units of rtol: solves are to be exact against the error of a step, in cells
# where the field is small, too. From the predictor of a multistep method that is a reduction by 1e-3 to 1e-4.
_SOLVE = 1e-4
_FINEST_SOLVE = 1e-13
# Compiled combinations exist for these numbers of terms: every further number costs compilation.
_SIZES = (3, 6, 12, 18)


class NoLinearPart:
    """L = 0: then only friction is implicit."""

    radius = 0.0

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        out.fill(0.0)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool, rtol: float) -> int:
        out[...] = right
        return 0


class Implicit(OneStep):
    """A stepper with implicit stages.

    Parameters
    ----------
    system : also gives L as `linear`
    """

    def __init__(self, system: Any):
        super().__init__(system)
        self.linear = NoLinearPart() if system.linear is None else system.linear

    def _sum(self, out: np.ndarray, terms: list[np.ndarray], weights: list[float]) -> None:
        """out = sum_j weights_j terms_j in one pass; the first term may be `out`."""
        padded, factors = self._padded(terms, weights)
        # `combine` takes the first term as it is: the rest of its weight goes on top.
        combine(out.reshape(-1), padded[0], padded, self._numbers(factors[0] - 1.0, *factors[1:]), self._threads)

    def _two_sums(
        self, out: tuple[np.ndarray, np.ndarray], terms: list[np.ndarray], first: list[float], second: list[float]
    ) -> None:
        """Two sums of the same terms in one pass; `out` may be among them."""
        padded, factors = self._padded(terms, first)
        weights = self._numbers(*factors, *second, *(0.0,) * (len(padded) - len(second)))
        combine_both((out[0].reshape(-1), out[1].reshape(-1)), padded, weights, self._threads)

    @staticmethod
    def _padded(terms: list[np.ndarray], weights: list[float]) -> tuple[Arrays, list[float]]:
        """Terms and weights filled up to a compiled number; what is repeated costs no traffic."""
        size = next((size for size in _SIZES if size >= len(terms)), len(terms))
        missing = size - len(terms)
        arrays = [term.reshape(-1) for term in terms] + [terms[0].reshape(-1)] * missing
        return tuple(arrays), [*weights, *(0.0,) * missing]

    def _solve(self, right: np.ndarray, sigma: float, out: np.ndarray, tolerance: Tolerance) -> None:
        """(I - sigma L) out = right, from the guess in `out`; NaN where that fails, so that the step is turned down."""
        try:
            self.linear.solve(right, sigma, out, True, max(_SOLVE * tolerance.rtol, _FINEST_SOLVE))
        except StepError:
            out.fill(np.nan)
        self.linear_solves += 1

    def _hermite(self, state: State, span: Span, c: float, out: State, slopes: tuple[list[np.ndarray], list[float]]) -> None:
        """The cubic through the last accepted step (the old state is in the proposal) with given slopes at its start.

        Gradient flow: the slope at the end is the force there.

        Parameters
        ----------
        slopes : arrays and weights, whose sum is dw/ds at the start
        """
        (old, start, new, end), steep = hermite(c, 1)
        last = self.force(state).storage if state.momentum is None else state.momentum
        arrays, weights = slopes
        terms = [self._proposal.storage, state.storage, last, *arrays]
        leave = 1.0 if state.momentum is None else 1.0 / span.leave
        moved = [old, new, end * span.h * leave, *(start * span.h * weight for weight in weights)]
        if out.momentum is None:
            self._sum(out.storage, terms, moved)
            return
        scale = self._leave_at(span, c)
        changed = [steep[0] / span.h, steep[2] / span.h, steep[3] * leave, *(steep[1] * weight for weight in weights)]
        self._two_sums((out.storage, out.momentum), terms, moved, [scale * weight for weight in changed])
