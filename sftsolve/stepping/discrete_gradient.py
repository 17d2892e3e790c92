"""Steps that lower the energy exactly, whatever their length: a discrete gradient with fitted implicitness."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from sftsolve.errors import ConfigError
from sftsolve.friction import Span
from sftsolve.loops.combine import combine
from sftsolve.loops.conjugate import Passes
from sftsolve.state import State
from sftsolve.stepping.base import OneStep
from sftsolve.stepping.control import Tolerance

# Gauss points of the mean value of the force along a step, and where its Jacobian is that of the mean to second order.
_POINTS = (0.5 - math.sqrt(3.0) / 6.0, 0.5 + math.sqrt(3.0) / 6.0)
_JACOBIAN = 2.0 / 3.0
_NEWTON, _KRYLOV = 20, 500
# Newton's method is done when it moves w by less than this part of the step; each of its solves gains a factor 1000.
_DONE, _GAIN, _INNER = 1e-10, 1e-3, 1e-2
# Where rounding stops it before, it has to be this close, or as close as so many roundings of w.
_CLOSE, _ROUNDINGS = 1e-6, 64.0
# What two Gauss points leave of the work along a step falls as its fifth power. For steps shorter than this part of w it is below
# the rounding of the cost, which, divided by the square of the step, would take the place of the correction.
_SHORT = 1e-4
# Error reported where Newton's method failed: the next step is half as long.
_FAILED = 8.0
_SMALL = 1e-2
# Part of h^3 w'''/12 that is taken for the error: steps are many, and what they all miss in the same direction adds up.
_SHARE = 5.0


def fitted(z: float) -> float:
    """theta = 1/(1 - e^{-z}) - 1/z: u_1 - u_0 = z (a - theta u_1 - (1 - theta) u_0) is exact for a constant a; 1/2 at z = 0."""
    if z < _SMALL:
        return 0.5 + z / 12.0 - z**3 / 720.0
    return -1.0 / math.expm1(-z) - 1.0 / z


class DiscreteGradient(OneStep):
    """Second order at every friction, with energy E = C + eps |u|^2/2 that never grows while the cost does not depend on time:

        w_1 = w_0 + h u,    eps (u_1 - u_0) = h (G - kappa u),    u = (1 - theta) u_0 + theta u_1,    theta = fitted(kappa h/eps)
        E_1 - E_0 = -h kappa |u|^2 - eps (theta - 1/2) |u_1 - u_0|^2

    (gradient flow: u = G). G is the mean of the force at the two Gauss points between w_0 and w_1, corrected along w_1 - w_0 so
    that -G . (w_1 - w_0) is the difference of the cost to rounding; for costs up to fourth degree nothing is left. What
    depends on time is taken at the middle of the step; of a pulse shorter than that, some is missed. Where h kappa/eps is large,
    u_1 is G: of first order, while w stays of second.

    Newton's method with conjugate gradients on  I - h^2 theta/(2 (eps + theta h kappa)) F',  preconditioned by the linear part of
    the force where the system has one. The error of w is that of its third derivative, h^3 w'''/12, by differences of the steps
    before.

    (O. Gonzalez, J. Nonlinear Sci. 6 (1996) 449-467; R.I. McLachlan, G.R.W. Quispel, N. Robidoux, Phil. Trans. R. Soc. A 357
    (1999) 1021-1045.)

    Parameters
    ----------
    system : gives the force, its Jacobian, the cost, the layout and the clock

    Raises
    ------
    ConfigError : dynamics "slow-manifold", or a friction that matches Nesterov's descent: their force is more than -dC/dw
    """

    method = "discrete-gradient"
    order: ClassVar[int] = 2
    domain: ClassVar[tuple[float, ...]] = (0.0, 1.0, 10.0, 30.0, 100.0, 1e4, 1e8, math.inf)
    system: Any
    order_in_band: ClassVar[float] = 1.5
    dynamics: ClassVar[tuple[str, ...]] = ("damped", "gradient-flow")
    linear: ClassVar[str] = "solves"
    error_exponent = 3

    def __init__(self, system: Any):
        super().__init__(system)
        if system.corrected:
            raise ConfigError(
                "the discrete gradient needs a force that is the gradient of the cost",
                expected=" or ".join(f'dynamics="{name}"' for name in self.dynamics) + ", without Nesterov's momentum",
                given=f'friction={system.action.friction!r} and dynamics="{system.dynamics}"',
                remedy="take another method",
            )
        layout = self._layout
        self._passes = Passes(layout, self._count)
        self._volume = system.grid.cell_volume
        self._noise = 4.0 * float(np.finfo(np.float64).eps)
        # Forces at the two points, and directions of the conjugate gradients after.
        self._one, self._two, self._point = (State(layout, self._array(), None) for _ in range(3))
        self._change, self._rest, self._move = self._array(), self._array(), self._array()
        # Steps before, with their lengths and the times of their middles; the first is a rate, of length 1, at the start.
        self._newer, self._older = self._array(), self._array()
        self._lengths, self._middles, self._kept = [1.0, 1.0], [0.0, 0.0], 0

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that the stepper holds beside the state."""
        return 11 if damped else 10

    def reset(self) -> None:
        """Forget force and steps before: call it when the state was changed from outside, or the force jumped."""
        super().reset()
        self._kept = 0

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        clock, proposal = self.system.clock, self._proposal
        theta = clock.theta(state.t)
        span = self._span = clock.span(theta, h)
        if self._kept == 0:
            self._start_history(state, span, theta)
        implicit = fitted(span.kappa(0.5) * h / span.eps) if self._damped else 1.0
        newer, older = self._extrapolation(theta + h / 2, h)
        np.multiply(self._newer, self._scalar(newer), out=self._change)
        if older:
            combine(
                self._rest.reshape(-1), self._change.reshape(-1), (self._older.reshape(-1),), self._numbers(older), self._threads
            )
            self._change, self._rest = self._rest, self._change
        failure = self._newton(state, span, implicit)
        if failure is not None:
            return failure
        flat_change, w = self._change.reshape(-1), state.storage.reshape(-1)
        combine(proposal.storage.reshape(-1), w, (flat_change,), self._numbers(1.0), self._threads)
        if state.momentum is not None and proposal.momentum is not None:
            # u_1 = (dw/h - (1 - theta) u_0) / theta, on the scale of the state.
            u, carried = state.momentum.reshape(-1), -(1.0 - implicit) / implicit * span.enter * span.leave
            weights = self._numbers(carried - 1.0, span.leave / (implicit * h))
            combine(proposal.momentum.reshape(-1), u, (u, flat_change), weights, self._threads)
        proposal.t = span.t(1.0)
        return self._error(state, theta, h, newer, older, tolerance)

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage."""
        assert self._span is not None
        theta, h = self.system.clock.theta(state.t), self._span.h
        super().accept(state)
        self._older, self._newer, self._change = self._newer, self._change, self._older
        self._lengths = [h, self._lengths[0]]
        self._middles = [theta + h / 2, self._middles[0]]
        self._kept += 1
        self._known = False

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`, from rates that are linear in time.

        w(c) = w_0 + c dw + (c^2 - c)/2 h r,    r = h (rate - rate before)/(time between the middles)
        """
        span = self._span
        assert span is not None, "a step comes first"
        out.t, h = span.t(c), span.h
        newer, older = self._newer.reshape(-1), self._older.reshape(-1)
        bend = h / (self._middles[0] - self._middles[1])
        weights = (bend, -bend * h / self._lengths[1])
        first, curve = self._proposal.storage.reshape(-1), 0.5 * (c * c - c)
        numbers = self._numbers(c + curve * weights[0], curve * weights[1])
        combine(out.storage.reshape(-1), first, (newer, older), numbers, self._threads)
        if out.momentum is not None and self._proposal.momentum is not None:
            u, scale = self._proposal.momentum.reshape(-1), self._leave_at(span, c) / h
            numbers = self._numbers(-1.0, scale * (1.0 + (c - 0.5) * weights[0]), scale * (c - 0.5) * weights[1])
            combine(out.momentum.reshape(-1), u, (u, newer, older), numbers, self._threads)

    def _start_history(self, state: State, span: Span, theta: float) -> None:
        """Take the rate of change at the start for a first step, of length one."""
        if state.momentum is None:
            self._newer[...] = self.force(state).storage
        else:
            np.multiply(state.momentum, self._scalar(span.enter), out=self._newer)
        self._lengths, self._middles, self._kept = [1.0, 1.0], [theta, theta], 1

    def _extrapolation(self, middle: float, h: float) -> tuple[float, float]:
        """Weights of the last two steps in the step that has its middle there, by linear extrapolation of their rates."""
        if self._kept == 1:
            return h / self._lengths[0], 0.0
        ratio = (middle - self._middles[0]) / (self._middles[0] - self._middles[1])
        return (1.0 + ratio) * h / self._lengths[0], -ratio * h / self._lengths[1]

    def _error(self, state: State, theta: float, h: float, newer: float, older: float, tolerance: Tolerance) -> float:
        """h^3 w'''/12, from how far the step is from the extrapolation of those before; h^2 w''/6 on the first step."""
        share = _SHARE / 3.0
        if older:
            ahead = theta + h / 2 - self._middles[0]
            share = _SHARE * h * h / (6.0 * ahead * (theta + h / 2 - self._middles[1]))
        terms = (self._change.reshape(-1), self._newer.reshape(-1), self._older.reshape(-1))
        ends = (state.storage.reshape(-1), self._proposal.storage.reshape(-1))
        weights = self._numbers(share, -share * newer, -share * older)
        return self._sums.error(ends, terms, weights, self._numbers(tolerance.rtol), tolerance.atol)

    def _newton(self, state: State, span: Span, implicit: float) -> float | None:
        """Solve for the change of w, whose first guess `_change` holds; the error to report where that failed, or None."""
        passes, t, h = self._passes, span.t(0.5), span.h
        weight = 1.0 / (span.eps + implicit * h * span.kappa(0.5))
        pushed, carried = implicit * h * h * weight, h * span.eps * weight * span.enter
        u = state.storage if state.momentum is None else state.momentum
        cost = self.system.cost_of(state, t)
        size = math.sqrt(self._sums.mean_square(state.storage))
        rounding = 4.0 * float(np.finfo(self._layout.dtype).eps) * size
        before = math.inf
        for _ in range(_NEWTON):
            square = passes.dot(self._change, self._change)
            excess = self._mean_force(state, t, cost, square, passes.rms(square) > _SHORT * size)
            if not math.isfinite(excess):
                return math.nan
            passes.rest(self._rest, u, self._one.storage, self._change, (carried, pushed, 1.0 + pushed * excess))
            self._move.fill(0.0)
            if not self._solve(state, t, 0.5 * pushed):
                return _FAILED
            moved = passes.rms(passes.add(self._change, self._move))
            length = passes.rms(passes.dot(self._change, self._change))
            if moved <= max(_DONE * length, rounding):
                return None
            if not moved < 0.5 * before:
                return None if moved <= max(_CLOSE * length, _ROUNDINGS * rounding) else _FAILED
            before = moved
        return _FAILED

    def _mean_force(self, state: State, t: float, cost: float, square: float, resolved: bool) -> float:
        """Mean of the force at the Gauss points into `_one`; returns the c of G = mean - c (w_1 - w_0), 0 unless `resolved`."""
        for c, out in zip(_POINTS, (self._one, self._two), strict=True):
            self._place(state, c)
            self._evaluate(self._point, out, t)
        work = self._passes.mean(self._one.storage, self._two.storage, self._change)
        if not math.isfinite(work):
            return work
        if square == 0.0 or not resolved:
            return 0.0
        self._place(state, 1.0)
        after = self.system.cost_of(self._point, t)
        if abs(after - cost + work * self._volume) <= self._noise * (abs(after) + abs(cost)):
            return 0.0
        return ((after - cost) / self._volume + work) / square

    def _place(self, state: State, c: float) -> None:
        """w_0 + c (w_1 - w_0) into `_point`."""
        out, w = self._point.storage.reshape(-1), state.storage.reshape(-1)
        combine(out, w, (self._change.reshape(-1),), self._numbers(c), self._threads)

    def _solve(self, state: State, t: float, sigma: float) -> bool:
        """(I - sigma F') move = rest by conjugate gradients from move = 0; False where the matrix is not positive."""
        self.linear_solves += 1
        passes, rest, p, q = self._passes, self._rest, self._one, self._two
        linear = getattr(self.system, "linear", None)
        z = rest if linear is None else self._proposal.storage
        target = _GAIN**2 * passes.dot(rest, rest)
        self._place(state, _JACOBIAN)
        before, curvature = 0.0, 0.0
        for number in range(_KRYLOV):
            if linear is not None:
                linear.solve(rest, sigma, z, False, _INNER)
            product = passes.dot(z, rest)
            if not product > 0.0:
                return product == 0.0
            if number == 0:
                p.storage[...] = z
            else:
                # The second form bears a preconditioner that is not the same every time.
                passes.turn(p.storage, z, product / before if linear is None else -passes.dot(z, q.storage) / curvature)
            self.system.jvp_into(self._point, p, q, t)
            curvature = passes.shift(p.storage, q.storage, sigma)
            if not curvature > 0.0:
                return False
            left = passes.advance(self._move, rest, p.storage, q.storage, product / curvature)
            if not left > target:
                return left <= target
            before = product
        return False

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield from (state.storage, self._start.storage, self._two.storage, self._one.storage)
        yield from super()._in_order(state)
