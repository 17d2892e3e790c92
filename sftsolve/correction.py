"""What is added to the force so that a theory of first order follows one of second order, or descent, to the next order.

With eta = 1/gamma and eps = eta^2, the damped equation eps w_tautau + (1 + d eta/dt) w_tau = F relaxes within tau ~ eps to

    slow manifold       w_tau = F - eps (F'[F] + F_tau) - (d eta/dt) F + O(eps^2)

(theory of the eta expansion; for constant eta and no explicit time it is the gradient flow of C + eps |grad C|^2 / 2), and

    Nesterov's descent  eps w_tautau + w_tau = F + beta dtau F'[w_tau]

where F'[w_tau] = F'[F] outside the initial layer: the difference moves w by O(dtau^2) only.
"""

from __future__ import annotations

from collections.abc import Callable

from sftsolve.friction import Clock
from sftsolve.loops.combine import combine
from sftsolve.parallel import slabs
from sftsolve.state import State

_SHARE = 1e-3  # step of the difference in time, in units of eta: the shortest time over which the expansion lets F vary is eta
_LEAST = 1e-7  # and relative to t, so that the difference does not drown in the rounding of t
_ROUNDING = 1e-12
_END = 1e-9  # of a piece of time: so near to its end is at its end, as for the sources


class Correction:
    """Adds  (hessian - eps) F'[F] - eps F_tau - (d eta/dt) F  to a force that was evaluated.

    Parameters
    ----------
    state : a state of the system, for its layout
    clock : gives eta
    force, jvp : evaluations (state, out, t) and (state, direction, out, t) of F and F' without correction
    slow : whether the dynamics is the slow manifold's (otherwise there is only the term of `hessian`)
    hessian : beta dtau of Nesterov's momentum, or 0
    switches : times in (t0, t1) at which F is not smooth, and None if it does not depend on time
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        force: Callable[[State, State, float], None],
        jvp: Callable[[State, State, State, float], None],
        slow: bool,
        hessian: float,
        switches: Callable[[float, float], list[float]] | None,
    ):
        self._clock, self._force, self._jvp = clock, force, jvp
        self._slow, self._hessian, self._switches = slow, hessian, switches
        self._image = state.like()
        self._sides = [state.like() for _ in range(3)] if slow and switches else []
        self._threads = slabs(state.storage.size)
        self.entered = 0.0

    def factor(self, t: float) -> float:
        """Coefficient of F'[F] at t, as far as friction jumps there from before the jump unless this was entered."""
        t = self._place(t)
        return self._hessian - (self._clock.gamma_at(t) ** -2 if self._slow else 0.0)

    def add(self, state: State, out: State, t: float) -> None:
        """Turn F at (state, t), which `out` holds, into the corrected force."""
        clock, real, place = self._clock, state.storage.dtype.type, self._place(t)
        terms, weights = [self._image], [self.factor(t)]
        if self._slow:
            slope = clock.eta_slope(place)
            if slope:
                terms, weights = [*terms, out], [*weights, -slope]
            if self._sides:
                # eps F_tau = eta F_t
                for side, weight in zip(self._sides, self._differences(state, t), strict=True):
                    if weight:
                        terms, weights = [*terms, side], [*weights, -weight / clock.gamma_at(place)]
        self._jvp(state, out, self._image, t)
        arrays = tuple(term.storage.reshape(-1) for term in terms)
        flat = out.storage.reshape(-1)
        combine(flat, flat, arrays, tuple(real(weight) for weight in weights), self._threads)

    def _place(self, t: float) -> float:
        """t, or a moment before it: where friction jumps a step that ends there sees the value from before."""
        return t if t <= self.entered * (1.0 + _ROUNDING) else t * (1.0 - _ROUNDING)

    def _differences(self, state: State, t: float) -> tuple[float, float, float]:
        """Evaluate F around t inside the piece of time at hand; weights that make F_t of the three, to second order."""
        step = max(_SHARE / self._clock.gamma_at(self._place(t)), _LEAST * abs(t))
        first, last = self._piece(t, 2.0 * step)
        step = min(step, 0.25 * (last - first))
        middle = min(max(t, first + step), last - step)
        lean = (t - middle) / step**2
        weights = lean - 0.5 / step, -2.0 * lean, lean + 0.5 / step
        for side, place, weight in zip(self._sides, (middle - step, middle, middle + step), weights, strict=True):
            if weight:
                self._force(state, side, place)
        return weights

    def _piece(self, t: float, reach: float) -> tuple[float, float]:
        """The part of time around t on which F is smooth: after `entered`, the last one that was entered, if t lies there."""
        first, last = min(self.entered, t), t + reach
        assert self._switches is not None
        for switch in self._switches(first, last):
            if switch >= t - _END * (switch - first):
                return first, switch
            first = switch
        return first, last
