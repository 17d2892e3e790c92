"""The method "auto": chosen from the linear part, the stiffness and the friction, and chosen anew as a run shows what it needs.

What a method would cost is counted in forces: an explicit method is held to its stable step; exponential and implicit methods
take some tens of steps whatever the stiffness, but each has transforms or solves to do. The cheapest is taken.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sftsolve.linear.part import DiagonalPart
from sftsolve.state import State
from sftsolve.stepping.control import StepRule, Tolerance
from sftsolve.stepping.stiffness import stable_step
from sftsolve.stepping.tableaus import tableau

log = logging.getLogger("sftsolve")

# Below this rtol the fifth order of tsit5 saves more steps than its three further stages cost.
_TIGHT = 1e-4
# Steps that accuracy asks of a method whose error goes as h^k, about 2 rtol^(-1/k) (rkc2: 3.5), measured on smooth problems.
_STEPS, _STEPS_STABILISED = 2.0, 3.5
# Cost in forces of the transforms of a step of etdrk4, and of a solve with varying coefficients; on small and on large grids.
_TRANSFORMS, _SOLVE = (20.0, 60.0), (15.0, 50.0)
_LARGE = 1 << 17  # cells
# Orders above 2 of the multistep methods need eps lambda below this (`multistep`).
_UNDERDAMPED = 2.9
# Fewer steps than this between switches do not repay a multistep method's start.
_FEW = 15
# Looks at a run's stability: after so many steps, then at every doubling; or after so many rejections since the last look.
_FIRST_LOOK, _REJECTIONS = 50, 5
_SETTLED = 2.0  # steps that grow by less from one look to the next are those of the rest of the way
_REGRET = 2.0  # a method that was left has to be cheaper by this factor to be taken again
_LIMITED = 0.5  # share of the stable step from which on stability, not accuracy, sets the step


@dataclass(frozen=True)
class Choice:
    """A method and why."""

    method: str
    reason: str


def explicit_method(rtol: float) -> str:
    """The explicit method for a tolerance."""
    return "tsit5" if rtol < _TIGHT else "rk32"


def choose(
    system: Any,
    state: State,
    length: float,
    rtol: float,
    switches: int = 0,
    fits: Callable[[str], bool] = lambda method: True,
    accurate: tuple[float, int] | None = None,
    left: Sequence[str] = (),
) -> Choice:
    """The method that reaches the end soonest.

    Parameters
    ----------
    system, state : what is stepped, and from where
    length : way to the end in theta
    switches : how many known switches lie on it
    fits : whether a method's arrays fit into memory
    accurate : step that accuracy allows a method whose error goes as h^k, and k, where a run has shown it
    left : methods that the run took and gave up
    """
    explicit = explicit_method(rtol)
    clock, t = system.clock, state.t
    radius = float(system.spectral_radius(state))
    if not math.isfinite(radius):
        return Choice(explicit, "the force's Jacobian is not finite")
    table = tableau(explicit)
    large = system.grid.size >= _LARGE
    least = {k: _STEPS * rtol ** (-1 / k) for k in (3, 4, 5)}
    if accurate is not None:
        step, exponent = accurate
        shown = least[min(exponent, 5)]
        least = {k: steps * length / step / shown for k, steps in least.items()}
    stable = length / stable_step(table, clock, radius, t)
    if stable <= least[table.embedded + 1]:
        return Choice(explicit, f"steps are not held short by stability, |F'| about {radius:.3g}")
    costs = {explicit: (table.stages - 1) * stable}
    reasons = {explicit: f"stability takes few steps more than accuracy, |F'| about {radius:.3g}"}
    eps, kappa = clock.eps_at(t), clock.kappa_at(t)
    # Exponential steps look once more at forces that move.
    stages = 5 if system.drifting else 4
    if clock.damped:
        square = kappa**2 - 4 * eps * radius
        slow = 2 * radius / (kappa + math.sqrt(square)) if square > 0 else math.sqrt(radius / eps)
        costs["rk4-friction"] = stages * max(least[4], length * slow / 2.5) + 1
        reasons["rk4-friction"] = f"friction alone is stiff, gamma = {clock.gamma_at(t):.3g}"
    else:
        steps = _STEPS_STABILISED / _STEPS * least[3]
        costs["rkc2"] = steps * max(2.0, math.sqrt(1 + 1.54 * radius * length / steps))
        reasons["rkc2"] = f"the flow is moderately stiff, |F'| about {radius:.3g}"
    linear = system.linear
    if linear is not None and linear.radius > 0.1 * radius:
        # What is left of the force is explicit.
        diagonal = DiagonalPart(linear.mean_modes)
        rest = float(system.spectral_radius(state, less=diagonal))
        costs["etdrk4"] = (_TRANSFORMS[large] + stages) * max(least[4], rest * length / 2.5)
        reasons["etdrk4"] = f"the stiffness is diagonal in modes, |L| about {diagonal.radius:.3g}, the rest {rest:.3g}"
        if linear.modes is None:
            rest = float(system.spectral_radius(state, less=linear))
            steps = max(least[4], rest * length / 2.5)
            # A multistep method sees a force that moves at the ends of its steps only.
            unsteady = switches * _FEW > steps or system.drifting
            method = _implicit(eps * linear.radius / max(kappa, 1e-300) ** 2, unsteady)
            costs[method] = (_SOLVE[large] + 1.5) * steps * (2 if method == "sbdf4" else 5)
            reasons[method] = f"the stiffness varies in space, |L| about {linear.radius:.3g}, the rest {rest:.3g}"
    costs |= {method: _REGRET * costs[method] for method in costs if method in left}
    best = min([method for method in costs if fits(method)] or [explicit], key=lambda method: costs[method])
    return Choice(best, reasons[best])


def _implicit(underdamped: float, unsteady: bool) -> str:
    return "sbdf4" if underdamped <= _UNDERDAMPED and not unsteady else "ark436"


class Automatic:
    """A stepper that is another, as `choose` says, and becomes one more where stability comes to limit its steps, or where steps
    as short as accuracy asks are cheaper by another method.

    Parameters
    ----------
    system, state, end, rtol : what is stepped, from where and to which theta
    build : makes a stepper by name
    fits : whether a method's arrays fit into memory
    """

    def __init__(
        self, system: Any, state: State, end: float, rtol: float, build: Callable[[str], Any], fits: Callable[[str], bool]
    ):
        self.system, self._end, self._rtol, self._build, self._fits = system, end, rtol, build, fits
        self._before = [0, 0]
        self._names: list[str] = []
        self._switches = len(system.switches(state.t, system.clock.t(end)))
        self._take(choose(system, state, end - system.clock.theta(state.t), rtol, self._switches, fits))
        self._count, self._look, self._rejections = 0, _FIRST_LOOK, 0
        self._accurate: tuple[float, int] | None = None
        self._seen = 0.0  # step at the last look

    @property
    def method(self) -> str:
        """The methods taken, one after the other, and the reason for the last."""
        return f"{' -> '.join(self._names)} (auto: {self._reason})"

    @property
    def force_evaluations(self) -> int:
        return self._before[0] + self.inner.force_evaluations

    @property
    def linear_solves(self) -> int:
        return self._before[1] + self.inner.linear_solves

    @property
    def rule(self) -> StepRule:
        return self.inner.rule

    @property
    def error_exponent(self) -> int:
        return self.inner.error_exponent

    def reset(self) -> None:
        self.inner.reset()

    def first_step(self, state: State, tolerance: Tolerance) -> float:
        return self.inner.first_step(state, tolerance)

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        if self._due:
            self._reconsider(state, h)
        error = self.inner.step(state, h, tolerance)
        self._rejections += not error <= 1.0
        return error

    def accept(self, state: State) -> None:
        self.inner.accept(state)
        self._count += 1

    def force(self, state: State) -> State:
        return self.inner.force(state)

    def tells(self, h: float) -> bool:
        """Whether `lost` will tell of a step of length h: not if the step may be by another method than that at hand."""
        tells = getattr(self.inner, "tells", None)
        return not self._due and tells is not None and tells(h)

    def lost(self) -> float | None:
        """What friction took in the last step, where the method at hand tells it."""
        tells = getattr(self.inner, "lost", None)
        return None if tells is None else tells()

    def interpolate(self, state: State, c: float, out: State) -> None:
        self.inner.interpolate(state, c, out)

    def stable_step(self, radius: float) -> float:
        return self.inner.stable_step(radius)

    def not_finite(self, state: State) -> tuple[int, tuple[int, ...]] | None:
        return self.inner.not_finite(state)

    @property
    def _due(self) -> bool:
        """Whether the next step begins with another choice."""
        return self._count >= self._look or self._rejections >= _REJECTIONS

    def _reconsider(self, state: State, h: float) -> None:
        """Choose again if many steps are still to come, by what the last ones were held to: stability or accuracy."""
        self._look, self._rejections = max(2 * self._count, _FIRST_LOOK), 0
        left = self._end - self.system.clock.theta(state.t)
        if left < _FIRST_LOOK * h:
            return
        stable = self.inner.stable_step(float(self.system.spectral_radius(state)))
        # In an initial layer steps are short and grow: they say nothing of the way behind it.
        settled, self._seen = h <= _SETTLED * self._seen, h
        if h < _LIMITED * stable:
            self._accurate = (h, self.inner.error_exponent) if settled else None
        elif self._accurate is not None and h > _SETTLED * self._accurate[0]:
            # Steps that stability holds have outgrown what accuracy asked for.
            self._accurate = None
        choice = choose(self.system, state, left, self._rtol, self._switches, self._fits, self._accurate, self._left())
        if choice.method != self._names[-1]:
            self._before = [self.force_evaluations, self.linear_solves]
            del self.inner
            self._take(choice)

    def _left(self) -> list[str]:
        return [name for name in self._names if name != self._names[-1]]

    def _take(self, choice: Choice) -> None:
        self.inner = self._build(choice.method)
        self._names.append(choice.method)
        self._reason = choice.reason
        log.info('method "auto" takes %s: %s', choice.method, choice.reason)
