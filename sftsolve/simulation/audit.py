"""The balance of energy over a run: what is left of  dE/dt + gamma int |w_t|^2 - dC/dt|explicit = 0  after all its steps.

E = C + int |w_t|^2 / 2 (C alone for a gradient flow, which loses int |F|^2 per unit of tau). The loss to friction and the power
dC/dt|explicit, the cost's derivative by time with the fields held fixed, are taken at the ends of steps, one sum over the cells
each, and integrated between switches by polynomials through the nearest six of them, or fewer where values or steps change
abruptly. A stepper that is exact in modes tells what was lost within its steps, which may be longer than what they pass over.
Elsewhere what changes within a step, such as a velocity before friction slaves it, is not seen; where it might be most of what is
left of the balance, nothing is said.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from sftsolve.loops.norms import CellSums
from sftsolve.state import State

# Gauss points and weights of [0, 1], exact for polynomials of degree five.
_NODES = (0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15))
_WEIGHTS = (5 / 18, 8 / 18, 5 / 18)
_POINTS = (2, 3, 4, 6)
_BLOCK = 4096  # intervals that are integrated at a time: a window and its weights take about a kilobyte each
_SLAVED = 100.0
# A residual beyond the first that is not as many times the doubt in the integrals says nothing of the solution.
_SMALL, _UNSURE = 0.03, 3.0


def integral(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Integral of values y at ascending points x, and how much the first corrections to straight lines change it.

    In every interval it is that of the interpolant of the nearest points, as many of `_POINTS` as bring it nearer to a limit:
    where values or intervals change abruptly, a polynomial through more of them swings.
    """
    # Steps may be so short that their ends are the same number.
    apart = np.append(x[1:] > x[:-1], True)[: len(x)]
    x, y = x[apart], y[apart]
    count = len(x) - 1
    blocks = [_block(x, y, start, min(count, start + _BLOCK)) for start in range(0, count, _BLOCK)]
    return math.fsum(total for total, _ in blocks), math.fsum(change for _, change in blocks)


def _block(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> tuple[float, float]:
    """The same over the intervals from number `start` to `stop`."""
    two, three, four, six = (_parts(x, y, start, stop, min(points, len(x))) for points in _POINTS)
    bend, turn, swing = abs(three - two), abs(four - three), abs(six - four)
    found = np.where(swing <= np.maximum(bend, turn), six, np.where(turn <= bend, four, three))
    return math.fsum(found), math.fsum(bend + turn)


def _parts(x: np.ndarray, y: np.ndarray, start: int, stop: int, points: int) -> np.ndarray:
    """Integrals over the intervals from number `start` to `stop`, each of the interpolant of the `points` points around it."""
    first = np.clip(np.arange(start, stop) - (points - 1) // 2, 0, len(x) - points)
    window = first[:, None] + np.arange(points)
    xs, ys, left = x[window], y[window], x[start:stop]
    lengths = x[start + 1 : stop + 1] - left
    differences = xs[:, :, None] - xs[:, None, :]
    differences[:, np.arange(points), np.arange(points)] = 1.0
    total = np.zeros(stop - start)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        at = left + node * lengths
        rest = np.repeat((at[:, None] - xs)[:, None, :], points, axis=1)
        rest[:, np.arange(points), np.arange(points)] = 1.0
        total += weight * np.sum(ys * np.prod(rest / differences, axis=2), axis=1)
    return lengths * total


class EnergyAudit:
    """Energy lost to friction along a run, what the cost gains by itself, and what of the balance is not accounted for.

    The corrections of the slow manifold and of matched descent are not followed, nor is a cost whose derivative by
    time is not known (see `System.power_of`): there `residual` is None.

    Parameters
    ----------
    system, stepper : what runs
    state : where it starts

    Attributes
    ----------
    gained : what the cost has gained by itself, as far as it is summed up: up to the last jump, to the end after `residual`
    """

    def __init__(self, system: Any, stepper: Any, state: State):
        self._system, self._stepper = system, stepper
        self._sums = CellSums(system.layout, len(system.fields))
        self._volume = system.grid.cell_volume * len(system.fields) * system.grid.size
        self.followed = not system.corrected
        self._moving = self.followed and system.time_dependent
        self._lost = self._doubt = 0.0
        self._told = False
        self.gained, self._exchanged = 0.0, 0.0
        self._times, self._losses = array("d"), array("d")
        self._moments, self._powers = array("d"), array("d")
        self._before = math.nan
        self._start = self._parts(state) if self.followed else (0.0, 0.0)

    def leave(self, state: State) -> None:
        """Close the integrals so far: here the force, the cost or the friction is about to jump."""
        self._close()
        if self._moving:
            self._before = self._system.cost_of(state)

    def enter(self, state: State) -> None:
        """Go on behind that jump: what the cost gained by it, at the same fields, it gained by itself."""
        if self._moving:
            gain = self._system.cost_of(state) - self._before
            self.gained += gain
            self._exchanged += abs(gain)

    def _close(self) -> None:
        self._sum_losses()
        moments, powers = np.array(self._moments), np.array(self._powers)
        gained, doubt = integral(moments, powers)
        self.gained += gained
        self._doubt += doubt
        self._exchanged += float(np.trapezoid(np.abs(powers), moments))
        self._moments, self._powers = array("d"), array("d")

    def _sum_losses(self) -> None:
        if len(self._times) > 1:
            lost, doubt = integral(np.array(self._times), np.array(self._losses))
            self._lost += lost
            self._doubt += doubt
        self._times, self._losses = array("d"), array("d")

    def begin(self, state: State, theta: float, h: float) -> None:
        """Note the loss at the start of a step of length h (which may be tried again with another), unless a step led there."""
        self.settle(state, theta)
        if not self.followed:
            return
        tells = getattr(self._stepper, "tells", None)
        self._told = tells is not None and tells(h)
        if not self._told and len(self._times) <= 1:
            clock, t = self._system.clock, state.t
            loss = self._loss(state, h, clock.kappa_at(t), clock.eps_at(t))
            self._times, self._losses = array("d", [theta]), array("d", [loss])
        if len(self._moments) <= 1:
            self._moments, self._powers = array("d"), array("d")
            self._note_power(state)

    def resolves(self, t: float, h: float) -> bool:
        """Whether the loss of a damped step of length h from physical time t is told by its velocities."""
        clock = self._system.clock
        return not (self.followed and clock.damped and clock.kappa_at(t) * h > _SLAVED * clock.eps_at(t))

    def along(self, thetas: Sequence[float], squares: np.ndarray) -> None:
        """Note the losses in a stride of steps that end at thetas[1:], from the squares that it met (`stepping.Stride`).

        What it did not meet at its end waits for `settle`, or for the next stride.
        """
        if not self.followed:
            return
        clock = self._system.clock
        for number, (theta, square) in enumerate(zip(thetas, squares.tolist(), strict=True)):
            if math.isnan(square) or (self._times and theta <= self._times[-1]):
                continue
            kappa = clock.kappa_at(clock.t(theta))
            if number:
                span = clock.span(thetas[number - 1], theta - thetas[number - 1])
                kappa = span.kappa(1.0) / span.leave
            scale = kappa if clock.damped else 1.0 / kappa
            self._losses.append(scale * square * self._system.grid.cell_volume)
            self._times.append(theta)

    def settle(self, state: State, theta: float) -> None:
        """Note the loss at `state`, reached at theta, if a stride that ended there did not."""
        if self._times and self._times[-1] != theta:
            self.end(state, theta)

    def end(self, state: State, theta: float) -> None:
        """Note the loss at the end of the step that has led to `state` at theta."""
        if not self.followed:
            return
        if self._told:
            self._sum_losses()  # those before this step
            self._lost += self._stepper.lost() * self._volume
        else:
            h = theta - self._times[-1]
            # Friction as it was up to here: it may jump at the end of a step.
            span = self._system.clock.span(self._times[-1], h)
            self._losses.append(self._loss(state, h, span.kappa(1.0) / span.leave, span.eps / span.leave**2))
            self._times.append(theta)
        self._note_power(state)

    def residual(self, state: State, theta: float) -> float | None:
        """|E - E_0 + what friction took - what the cost gained by itself|, relative to the largest of what was lost, moved or
        exchanged; None if not followed, or if the ends of steps do not tell the integrals to this.
        """
        if not self.followed:
            return None
        self.settle(state, theta)
        self._close()
        if math.isnan(self.gained):
            return None
        (cost, kinetic), (cost_0, kinetic_0) = self._parts(state), self._start
        change = cost + kinetic - cost_0 - kinetic_0
        scale = max(self._lost, self._exchanged, abs(change), kinetic, kinetic_0, abs(cost - cost_0))
        if scale == 0.0:
            return 0.0
        residual = abs(change + self._lost - self.gained) / scale
        return None if _SMALL < residual < _UNSURE * self._doubt / scale else residual

    def _note_power(self, state: State) -> None:
        """Note dC/dt at fixed fields, per unit of physical time; once it is not known it is not asked for any more."""
        if self._moving:
            power = self._system.power_of(state)
            self._moments.append(state.t)
            self._powers.append(power)
            if math.isnan(power):
                self.followed = self._moving = False

    def _parts(self, state: State) -> tuple[float, float]:
        """Cost and kinetic energy."""
        if state.momentum is None:
            return self._system.cost_of(state), 0.0
        square = self._sums.mean_square(state.momentum) * self._volume
        return self._system.cost_of(state), 0.5 * self._system.clock.eps_at(state.t) * square

    def _loss(self, state: State, h: float, kappa: float, eps: float) -> float:
        """kappa int |u|^2 per unit of theta, or int |F|^2/kappa where friction slaves u to the force: in a gradient flow, and in
        steps much longer than the layer eps/kappa, which they do not resolve.
        """
        if state.momentum is None or kappa * h > _SLAVED * eps:
            return self._sums.mean_square(self._stepper.force(state).storage) * self._volume / kappa
        return kappa * self._sums.mean_square(state.momentum) * self._volume
