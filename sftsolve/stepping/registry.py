"""Methods by name: the steppers, what is known of each, and the way to "auto"."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

from sftsolve.errors import ConfigError, nearest
from sftsolve.linear.foresight import Foresight, foresee
from sftsolve.memory import Need, of_machine
from sftsolve.state import State
from sftsolve.stepping.auto import Automatic, explicit_method
from sftsolve.stepping.control import StepRule, Tolerance
from sftsolve.stepping.descent import Descent, HeavyBall, Nesterov
from sftsolve.stepping.discrete_gradient import DiscreteGradient
from sftsolve.stepping.explicit import ExplicitRungeKutta
from sftsolve.stepping.friction_exact import FrictionExact
from sftsolve.stepping.imex import AdditiveRungeKutta
from sftsolve.stepping.mode_exact import ModeExact, exponential
from sftsolve.stepping.multistep import Multistep
from sftsolve.stepping.stabilised import RungeKuttaChebyshev
from sftsolve.stepping.symplectic import Leapfrog, Leapfrog4
from sftsolve.stepping.tableaus import explicit_methods, tableau

log = logging.getLogger("sftsolve")


class Stepper(Protocol):
    """What the time loop drives: steps in place, proposed by `step`, made final by `accept`.

    A stepper may also offer ``interpolate(state, c, out)``: the fields at the fraction c of the step accepted last, so that
    snapshots do not cut steps; ``lost()``: what friction took in that step, int kappa |u|^2 ds as the mean over fields and cells,
    None where that is not known, and ``tells(h)``: whether it surely is in a step of length h; ``fixed_step``, the length in t
    that all of its steps must have, or None; and, with that, ``stride(state, times, lengths)``: propose several steps of these
    lengths in theta at once, with the bits of as many single ones, `times` being the physical times at the start and after each.
    It returns a `base.Stride`, or None where it cannot. There is nothing to interpolate within a stride.
    """

    @property
    def force_evaluations(self) -> int:
        """How many forces it has evaluated."""
        ...

    @property
    def linear_solves(self) -> int:
        """How many shifted systems it has solved."""
        ...

    @property
    def rule(self) -> StepRule:
        """How the controller treats this method."""
        ...

    @property
    def method(self) -> str:
        """Name that users write."""
        ...

    @property
    def error_exponent(self) -> int:
        """k of error ~ h^k."""
        ...

    def reset(self) -> None:
        """Forget what was kept from steps before: the state was changed from outside."""
        ...

    def first_step(self, state: State, tolerance: Tolerance) -> float:
        """A cautious first step in theta; infinite at equilibrium."""
        ...

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; its error in units of the tolerance, NaN or inf where it failed."""
        ...

    def accept(self, state: State) -> None:
        """Make the last proposal the state."""
        ...

    def force(self, state: State) -> State:
        """The force at the state."""
        ...

    def stable_step(self, radius: float) -> float:
        """Longest stable step in theta, the eigenvalues of the force's Jacobian lying in [-radius, 0]; may be infinite."""
        ...

    def not_finite(self, state: State) -> tuple[int, tuple[int, ...]] | None:
        """Field and cell of the first value of the last proposal that is not finite."""
        ...


@dataclass(frozen=True)
class Setting:
    """What decides on a stepper's memory.

    Attributes
    ----------
    array : bytes of an array of all fields
    damped : whether there are velocities
    linear : the linear part, None where there is none
    moving : whether forces or the drag move in time by themselves
    """

    array: float
    damped: bool
    linear: Foresight | None
    moving: bool


@dataclass(frozen=True)
class Method:
    """What is known of a method before a stepper is built.

    Attributes
    ----------
    build : makes its stepper for a system
    order : order of accuracy in time
    domain : values of gamma at which it has that order in practice, infinity for the gradient flow
    registers : arrays as large as the fields that it holds beside the state, from whether the dynamics is damped
    linear : what it asks the linear part of the force for: "nothing", its "modes" or "solves"
    bare : what it is where the force has no linear part, if that makes a difference
    watching : registers more where forces move in time by themselves
    tables : bytes of tables over the modes of the linear part, from those of one with a number a mode
    dynamics : those that it can step
    order_in_band : for gamma of 10 to 100, where slopes vary with the step, what they do not fall below outside an initial
        layer; None if that is `order`
    """

    build: Callable[[Any], Stepper]
    order: int
    domain: tuple[float, ...]
    registers: Callable[[bool], int]
    dynamics: tuple[str, ...] = ("damped", "gradient-flow", "slow-manifold")
    order_in_band: float | None = None
    linear: str = "nothing"
    bare: Method | None = None
    watching: Callable[[bool], int] = lambda damped: 0
    tables: Callable[[float], float] | None = None

    def need(self, setting: Setting) -> Need:
        """What its stepper takes of memory, and the solves that it asks for."""
        part = setting.linear
        if part is None and self.bare is not None:
            return self.bare.need(setting)
        registers = self.registers(setting.damped)
        registers += self.watching(setting.damped) if setting.moving else 0
        beside = part.solving if part is not None and self.linear == "solves" else 0.0
        if part is not None and self.tables is not None:
            beside += self.tables(part.table)
        return Need.of(registers * setting.array + beside)


def _explicit(method: str) -> Method:
    table = tableau(method)
    return Method(
        build=lambda system: ExplicitRungeKutta(system, table),
        order=table.order,
        domain=(0.0, 1.0, 10.0, math.inf),
        registers=partial(ExplicitRungeKutta.registers, table),
    )


def _of(kind: Any) -> Method:
    """A stepper whose class says all that there is to know."""
    band, linear = getattr(kind, "order_in_band", None), getattr(kind, "linear", "nothing")
    return Method(kind, kind.order, kind.domain, kind.registers, kind.dynamics, band, linear)


STEPPERS: dict[str, Method] = {method: _explicit(method) for method in explicit_methods()}


def _multistep(order: int, system: Any) -> Stepper:
    return Multistep(system, order)


_WEAK, _BAND, _STRONG = (0.0, 1.0), (10.0, 30.0, 100.0), (1e4, 1e8, math.inf)
STEPPERS["ark436"] = Method(
    AdditiveRungeKutta, 4, (*_WEAK, *_BAND, *_STRONG), AdditiveRungeKutta.registers, order_in_band=2.0, linear="solves"
)
for _order in (2, 3, 4):
    # For weak friction sbdf3 and sbdf4 take the steps of ark436 (`Multistep`).
    _domain = (*(_WEAK if _order == 2 else ()), *_BAND, *_STRONG)
    STEPPERS[f"sbdf{_order}"] = Method(
        partial(_multistep, _order),
        _order,
        _domain,
        partial(Multistep.registers, _order),
        linear="solves",
    )
STEPPERS["rk4-friction"] = Method(
    FrictionExact,
    4,
    (*_WEAK, *_BAND, *_STRONG),
    FrictionExact.registers,
    order_in_band=2.0,
    watching=FrictionExact.watching,
)
STEPPERS["etdrk4"] = Method(
    exponential,
    4,
    (*_WEAK, *_BAND, *_STRONG),
    ModeExact.registers,
    order_in_band=2.5,
    linear="modes",
    bare=STEPPERS["rk4-friction"],
    watching=ModeExact.watching,
    tables=ModeExact.tables_of,
)

_CLASSES: tuple[Any, ...] = (Leapfrog, Leapfrog4, RungeKuttaChebyshev, DiscreteGradient, Descent, HeavyBall, Nesterov)
STEPPERS |= {kind.method: _of(kind) for kind in _CLASSES}


def resolve(method: str, rtol: float) -> str:
    """The name of a stepper; for "auto" the explicit method of this tolerance, which is what it takes where nothing is stiff.

    Raises
    ------
    ConfigError : unknown
    """
    if method == "auto":
        return explicit_method(rtol)
    if method in STEPPERS:
        return method
    known = ("auto", *STEPPERS)
    raise ConfigError(
        "unknown method", expected="one of " + ", ".join(known), given=repr(method), remedy=nearest(str(method), known)
    )


def make_stepper(method: str, system: Any, rtol: float = 1e-6, state: State | None = None, end: float | None = None) -> Stepper:
    """A stepper for `system` by name.

    Parameters
    ----------
    state, end : from where, and to which theta: "auto" then chooses for this way (`auto.choose`), else by `rtol` alone

    Raises
    ------
    ConfigError : an unknown name, or a method that cannot step this dynamics
    """
    if method == "auto" and state is not None and end is not None:
        damped, array = system.clock.damped, float(system.layout.bytes_of(len(system.fields)))
        moving = system.drifting or not system.clock.constant

        @cache
        def linear() -> Foresight | None:
            return foresee(system.action, system.grid, system.order, system.layout)

        def fits(name: str) -> bool:
            found = STEPPERS[name]
            part = linear() if found.linear != "nothing" else None
            before = Need.of((1 + damped) * array) + (part.building if part else Need())
            return (before + found.need(Setting(array, damped, part, moving))).most <= of_machine()

        return Automatic(system, state, end, rtol, lambda name: STEPPERS[name].build(system), fits)
    return STEPPERS[resolve(method, rtol)].build(system)
