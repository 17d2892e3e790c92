"""Telling in time when stability, not accuracy, will hold the steps of an explicit method short."""

from __future__ import annotations

import cmath
import logging
import math
import time
from typing import Protocol

from sftsolve.friction import Clock
from sftsolve.state import State
from sftsolve.stepping.schedule import UserClock
from sftsolve.stepping.tableaus import Tableau

log = logging.getLogger("sftsolve")

MANY_STEPS = 20_000
# While steps still grow, only the limit of stability tells how many there will be.
_SETTLED = 500


def stable_step(tableau: Tableau, clock: Clock, radius: float, t: float = 0.0) -> float:
    """Longest stable step in theta, from physical time t, where the eigenvalues of the force's Jacobian lie in [-radius, 0].

    Gradient flow: s = -radius. Damped: s^2 eps + s kappa + lambda = 0, at lambda = 0 (friction alone) and lambda = radius.
    """
    eps, kappa = clock.eps_at(t), clock.kappa_at(t)
    if eps == 0:
        rates: tuple[complex, ...] = (complex(-radius),)
    else:
        root = cmath.sqrt(kappa**2 - 4 * eps * radius)
        rates = (complex(-kappa / eps), (-kappa - root) / (2 * eps))
    return min((tableau.stability_limit(rate) / abs(rate) for rate in rates if rate != 0), default=math.inf)


class Linearised(Protocol):
    """A system that knows how stiff it is."""

    def spectral_radius(self, state: State) -> float: ...


class Limited(Protocol):
    """A stepper that knows its longest stable step."""

    @property
    def method(self) -> str: ...

    def stable_step(self, radius: float) -> float: ...


class Pace:
    """Says once, in the log, that a run will take very many steps, why, and what would serve.

    Parameters
    ----------
    system, stepper : who takes the steps
    axis : clock of the user, in which the message gives the step
    end : end of the run in theta
    """

    def __init__(self, system: Linearised, stepper: Limited, axis: UserClock, end: float):
        self._system, self._stepper, self._axis, self._end = system, stepper, axis, end
        self._next = 2 if getattr(stepper, "fixed_step", None) is None else -1
        self._started = time.perf_counter()

    def look(self, state: State, theta: float, steps: int, step: float) -> None:
        """Look at a run after `steps` steps, the next one of length `step` in theta; looks closely after 2, 8, 32, ... only.

        Steps of one fixed length are what the user asked for, and nothing is said of them.
        """
        if steps == 1:
            # The first step compiles or loads code.
            self._started = time.perf_counter()
        if steps != self._next:
            return
        self._next *= 4
        left = self._end - theta
        if left <= MANY_STEPS * step:
            return
        rate = (steps - 1) / max(time.perf_counter() - self._started, 1e-9)
        stable = self._stepper.stable_step(self._system.spectral_radius(state))
        limited = left > MANY_STEPS * stable
        if limited or steps > _SETTLED:
            self._next = -1
            log.warning("%s", self._message(theta, stable if limited else step, limited, rate))

    def _message(self, theta: float, step: float, limited: bool, rate: float) -> str:
        clock, axis, left = self._axis.clock, self._axis, self._end - theta
        gamma, scale = clock.gamma_at(clock.t(theta)), clock.scale_at(clock.t(theta))
        steps = left / step
        limit = f"{'stability' if limited else 'the tolerance'} limits {self._stepper.method} to steps of"
        length = f"{axis.name} = {axis.length(theta, step):.3g}"
        text = [f"{limit} {length}: about {steps:,.0f} steps to the end, {_duration(steps / rate)} at this rate"]
        if limited and clock.damped and gamma * scale > 100:
            text.append(
                f'at gamma = {gamma:g}, dynamics="gradient-flow" has the same solution after an initial layer, up to about '
                f"1/gamma^2 = {gamma**-2:.1g}, without the fast friction"
            )
        if limited:
            text.append('a coarser grid allows longer steps; method="auto" takes one made for stiffness, where there is any')
        else:
            text.append("a larger rtol takes fewer steps")
        return "; ".join(text)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
