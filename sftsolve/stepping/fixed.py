"""Methods whose steps all have one length: what a run with one must fulfil, and what stands in the controller's place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from sftsolve.errors import ConfigError
from sftsolve.friction import Clock
from sftsolve.state import State
from sftsolve.stepping.control import StepRule
from sftsolve.stepping.schedule import Event, UserClock

# Times in units of steps that differ from a whole number by less are whole: k h and a time typed in differ by rounding.
_WHOLE = 1e-9


def whole_steps(span: float, step: float, name: str = "end", reading: Callable[[float], float] = float, unit: str = "t") -> int:
    """Number of steps of length `step` that make up `span` exactly.

    Parameters
    ----------
    span, step : lengths on one clock, > 0
    name : what lies at the end of the span, for the message
    reading : turns a length on that clock, from the same start, into what the user reads there
    unit : name of what the user reads

    Raises
    ------
    ConfigError : no whole number of steps ends there; the message names the nearest times at which one does
    """
    count = span / step
    whole = round(count)
    if whole >= 1 and abs(count - whole) <= _WHOLE * max(1.0, count):
        return whole
    nearest = [reading(number * step) for number in (math.floor(count), math.floor(count) + 1) if number >= 1]
    raise ConfigError(
        f"{name} is not a whole number of steps away, and all steps of this method have one length",
        expected=f"{unit} = " + " or ".join(f"{time:.10g}" for time in nearest),
        given=f"{unit} = {reading(span):.10g}, which is {count:.6g} steps away",
        remedy=f"move {name} there, or take a method that adapts its steps",
    )


def check_whole(due: Iterable[Event], axis: UserClock, start: float, step: float, dense: bool) -> None:
    """See that steps of the length `step` (physical time) from physical time `start` meet everything that they must end at.

    Parameters
    ----------
    due : events of the run, the last of them its end
    axis : clock of the user
    dense : whether what is only written may lie within a step

    Raises
    ------
    ConfigError : a switch of the system, a time to save at or the end lies within a step
    """
    events = list(due)
    for event in events:
        last, t = event is events[-1], axis.t(event.time) if event.switch is None else event.switch
        if dense and event.switch is None and not last:
            continue
        name = "a switch of the system" if event.switch is not None else "end" if last else "a time to save at"
        whole_steps(t - start, step, name, lambda length: axis.reading(start + length), axis.name)


class FixedSteps:
    """In the place of a `PIController`: every step has the same length in physical time, and a rejected one ends the run.

    Parameters
    ----------
    clock, state : of the run, at its start
    length : of all steps, in t
    """

    def __init__(self, clock: Clock, state: State, length: float):
        self._clock, self._state, self._length = clock, state, length
        self._start, self._before = state.t, state.step
        self._failed = False

    @property
    def step(self) -> float:
        """The next step in theta; 0 after one was rejected, since no other length may be tried.

        It ends at a whole number of lengths from the start, so that rounding does not add up to a step more or less.
        """
        return 0.0 if self._failed else self.length(self._state.step, self._state.t)

    def length(self, number: int, t: float) -> float:
        """The step in theta from physical time t, reached after step `number` of the state."""
        end = self._start + (number - self._before + 1) * self._length
        return self._clock.theta(end) - self._clock.theta(t)

    def accepted(self, taken: float, error: float, exponent: int, rule: StepRule) -> None:
        """Nothing changes."""

    def rejected(self, taken: float, error: float, exponent: int, rule: StepRule) -> None:
        """There is no other step to try."""
        self._failed = True
