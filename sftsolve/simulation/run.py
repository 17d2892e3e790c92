"""simulate(): the only time loop."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import numpy as np

from sftsolve.errors import StepError
from sftsolve.output import MemoryWriter, Result, RunDescription, Stats, Writer
from sftsolve.simulation.audit import EnergyAudit
from sftsolve.simulation.recorder import Recorder
from sftsolve.simulation.stride import SAME, STRETCH, steps_ahead
from sftsolve.simulation.times import Limits, Times
from sftsolve.state import State
from sftsolve.stepping import (
    Event,
    FixedSteps,
    Interrupts,
    Pace,
    PIController,
    ProgressBar,
    Stepper,
    Tolerance,
    UserClock,
    check_whole,
    make_stepper,
    too_many,
    too_short,
)
from sftsolve.system import System

log = logging.getLogger("sftsolve")

SCALARS = ("cost", "kinetic", "energy", "force_rms", "step")

# A step this small against the time itself no longer moves it; the second number serves times near zero.
_SMALLEST = 16 * np.finfo(np.float64).eps
_NEAR_ZERO = 1e-6
# In single precision estimates of an error below this are mostly rounding.
_SINGLE = 1e-5
# Least number of steps in which a run looks at forces that move in time.
_LOOKS = 25


def simulate(
    system: System,
    state: State,
    stepper: Stepper | str,
    *,
    end: float,
    clock: str = "tau",
    rtol: float = 1e-6,
    atol: float | Mapping[str, float] = 1e-9,
    save_every: float | None = None,
    save_at: Any = None,
    scalars_every: float | None = None,
    writer: Writer | None = None,
    progress: bool = True,
    first_step: float | None = None,
    max_step: float | None = None,
    max_steps: int | None = None,
    config: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Result:
    """Step `state` in place to `end` and save what was asked for: the loop behind `solve`, for those who want it in hand.

    Snapshots hold w and v = w_t (F/gamma for a gradient flow). The time series hold, at every snapshot and every
    `scalars_every`: cost C; kinetic = int v^2/2; energy = their sum; force_rms; step, the length of the next step in `clock`.
    Ctrl-C ends the run after the step at hand, or the fixed steps that are taken at once: the state there is saved and the result
    says "interrupted".

    Parameters
    ----------
    system, state : as `discretise` and `System.state` make them; the state may stand at any time before `end`
    stepper : of `system`, or the name of a method
    end, clock, rtol, atol, save_every, save_at, scalars_every, progress, first_step, max_step, max_steps, config, metadata : see
        `solve`
    writer : takes the output; in memory by default

    Raises
    ------
    ConfigError : an argument is out of range
    StepError : the solution stops being finite, or the smallest step is rejected, or `max_steps` are done. The last good state
        is saved as the last snapshot, unless it is the first; the attribute `result` of the error holds what there is, or None
    """
    tolerance = Tolerance.of(rtol, atol, system.fields)
    if system.dtype == "float32" and tolerance.rtol < _SINGLE:
        log.warning("rtol = %g is close to the rounding of float32, which may set the steps: %g asks for fewer", rtol, _SINGLE)
    times = Times(end, clock, save_every, save_at, scalars_every)
    axis, due = times.on(system.clock, state.t, system.switches)
    first, largest, most = Limits(first_step, max_step, max_steps).on(axis)
    system.check_times(state.t, axis.t(due[-1].time))
    system.enter(state.t)
    if isinstance(stepper, str):
        stepper = make_stepper(stepper, system, tolerance.rtol, state, axis.theta(due[-1].time))
    description = RunDescription(
        grid=system.grid,
        fields=system.fields,
        dtype=system.dtype,
        scalar_names=SCALARS,
        snapshots=1 + sum(event.snapshot for event in due),
        config=config,
        settings=_settings(system, stepper, axis, due[-1].time, tolerance) | dict(metadata or {}),
    )
    with writer or MemoryWriter() as out:
        out.begin(description)
        with Interrupts() as interrupts, ProgressBar(progress, stepper.method.split(" (")[0]) as bar:
            run = _Run(system, state, stepper, tolerance, Recorder(system, stepper, axis, out), due, most)
            run.choose_first_step(first, largest)
            return run.through(interrupts, bar)


class _Run:
    """One run: where it is, how it goes on, how it ends. Times and steps are in theta."""

    def __init__(
        self,
        system: System,
        state: State,
        stepper: Stepper,
        tolerance: Tolerance,
        recorder: Recorder,
        due: list[Event],
        max_steps: int | None,
    ):
        self.system, self.state, self.stepper, self.tolerance = system, state, stepper, tolerance
        self.recorder, self.axis, self.due = recorder, recorder.axis, due
        self.theta, self.end = system.clock.theta(state.t), self.axis.theta(due[-1].time)
        self.span = self.end - self.theta
        self.first, self.limit = state.step, max_steps
        self.rejected = 0
        self.controller: PIController | FixedSteps
        self.largest: float | None = None
        self.last = self.axis.t(due[-1].time)
        self.look = (self.last - state.t) / _LOOKS
        self.pace = Pace(system, stepper, self.axis, self.end)
        self.before = stepper.force_evaluations, stepper.linear_solves
        self.dense = hasattr(stepper, "interpolate")
        self.stride = getattr(stepper, "stride", None)
        stepper.reset()
        self.audit = EnergyAudit(system, stepper, state)

    @property
    def steps(self) -> int:
        return self.state.step - self.first

    @property
    def fraction(self) -> float:
        return 1 - (self.end - self.theta) / self.span

    def choose_first_step(self, first: float | None, largest: float | None) -> None:
        """Set up the controller; both lengths are in the user's clock, and mean nothing to a stepper of fixed steps."""
        if (fixed := getattr(self.stepper, "fixed_step", None)) is not None:
            check_whole(self.due, self.axis, self.state.t, fixed, self.dense)
            self.controller = FixedSteps(self.system.clock, self.state, fixed)
            return
        self.largest = largest
        if first is None:
            step = min(self.stepper.first_step(self.state, self.tolerance), self.span / 100)
        else:
            step = min(self._in_theta(first), self.span)
        self.controller = PIController(self.stepper.rule.rounded(step), self._longest())

    def _longest(self) -> float:
        """The longest step from here on that may be taken, in theta."""
        if self.largest is not None:
            return self._in_theta(self.largest)
        if not self.system.drifting:
            return math.inf
        # Forces drift with t, whatever the clock of the run.
        t = self.state.t + self.look
        return self.system.clock.theta(t) - self.theta if t < self.last else math.inf

    def _in_theta(self, length: float) -> float:
        """A length on the user's clock from here on, in theta; infinite if it leads beyond the end."""
        there = self.axis.reading(self.state.t) + length
        return self.axis.theta(there) - self.theta if there < self.due[-1].time else math.inf

    def through(self, interrupts: Interrupts, bar: ProgressBar) -> Result:
        """Step from event to event; what is due between the ends of a step is written from the stepper's dense output."""
        # From here on nothing but the kernels of a step is still to be loaded.
        self.started = time.perf_counter()
        self.recorder.keep(self.state, self.controller.step)
        waiting: deque[Event] = deque()
        for event in self.due:
            if self.dense and event.switch is None and event is not self.due[-1]:
                waiting.append(event)
                continue
            target = self._theta(event)
            while self.theta < target:
                if interrupts.asked:
                    return self._interrupted(interrupts.asked)
                before = self.theta, self.state.t
                if not self._stride(target, waiting):
                    self._step(target)
                self._write_between(waiting, before)
                bar.show(self.fraction, self.steps)
            self.audit.settle(self.state, self.theta)
            self.state.t = self.axis.t(event.time) if event.switch is None else event.switch
            if event.switch is not None or self.system.clock.jump_factor(self.state.t) != 1.0:  # a run may end at a jump
                self.audit.leave(self.state)
                self.system.cross(self.state, self.state.t)
                self.stepper.reset()
                self.audit.enter(self.state)
            if event.due:
                self.recorder.record(self.state, event.time, self.controller.step, event.snapshot)
        bar.show(1.0, self.steps, last=True)
        return self.recorder.writer.finish(self._stats())

    def _theta(self, event: Event) -> float:
        return self.axis.theta(event.time) if event.switch is None else self.system.clock.theta(event.switch)

    def _write_between(self, waiting: deque[Event], before: tuple[float, float]) -> None:
        """Write what was due within the step just taken, which began at `before` (theta, t)."""
        theta, t = before
        step = self.controller.step
        while waiting and (due := self._theta(waiting[0])) <= self.theta + SAME * abs(self.theta):
            event = waiting.popleft()
            if abs(due - self.theta) <= SAME * abs(self.theta):
                self.recorder.record(self.state, event.time, step, event.snapshot)
                continue
            # Within a step friction varies with t, and a gradient flow with theta (`friction.Span`).
            if self.state.momentum is None:
                fraction = (due - theta) / (self.theta - theta)
            else:
                fraction = (self.axis.t(event.time) - t) / (self.state.t - t)
            self.recorder.record_between(self.state, event.time, fraction, step, event.snapshot)

    def _stride(self, target: float, waiting: deque[Event]) -> bool:
        """Several accepted steps towards `target` at once, nothing being due within them; False where that is not to be had."""
        if self.stride is None or not isinstance(self.controller, FixedSteps):
            return False
        if not self.audit.resolves(self.state.t, self.controller.length(self.state.step, self.state.t)):
            return False  # before many steps are planned in vain
        left = None if self.limit is None else self.limit - self.steps
        due = self._theta(waiting[0]) if waiting else None
        ahead = steps_ahead(self.system.clock, self.controller, self.state, self.theta, target, due, left)
        if len(ahead.lengths) < 2 or not all(map(self.audit.resolves, ahead.times, ahead.lengths)):
            return False
        if self.state.momentum is not None:
            self.audit.begin(self.state, self.theta, ahead.lengths[0])
        proposed = self.stride(self.state, ahead.times, ahead.lengths)
        if proposed is None or not proposed.finite:
            # Single steps find out where it fails.
            self.stride = None
            return False
        self.stepper.accept(self.state)
        self.theta, self.state.t = ahead.thetas[-1], ahead.times[-1]
        self.audit.along(ahead.thetas, proposed.squares)
        return True

    def _step(self, target: float) -> None:
        """One accepted step towards `target`, which is hit exactly."""
        if self.steps == self.limit:
            self._fail(lambda saved: too_many(self.state, self.steps, saved))
        if isinstance(self.controller, PIController) and not self.system.clock.constant:
            self.controller.limit(self._longest())
        while True:
            length, hits = self._length(target)
            self.audit.begin(self.state, self.theta, length)
            error = self.stepper.step(self.state, length, self.tolerance)
            if error <= 1.0:
                break
            self.rejected += 1
            self.controller.rejected(length, error, self.stepper.error_exponent, self.stepper.rule)
            if self.controller.step < _SMALLEST * max(abs(self.theta), _NEAR_ZERO * self.span):
                self._fail(partial(too_short, self.system, self.stepper, self.state, self.system.clock.t(self.theta + length)))
        self.stepper.accept(self.state)
        self.controller.accepted(length, error, self.stepper.error_exponent, self.stepper.rule)
        self.theta = target if hits else self.theta + length
        self.state.t = self.system.clock.t(self.theta)
        self.audit.end(self.state, self.theta)
        self.pace.look(self.state, self.theta, self.steps, self.controller.step)

    def _length(self, target: float) -> tuple[float, bool]:
        """Length of the next step, and whether it ends at `target`; the way to a near target is halved, not cut unevenly."""
        remaining, step = target - self.theta, self.controller.step
        if remaining <= step * STRETCH:
            return remaining, True
        near = remaining < 2 * step and isinstance(self.controller, PIController)
        return (remaining / 2 if near else step), False

    def _interrupted(self, by: str) -> Result:
        self.recorder.keep(self.state, self.controller.step)
        reading, end = self.axis.reading(self.state.t), self.due[-1].time
        where = f"{self.axis.name} = {reading:.6g} of {end:.6g} ({self.fraction:.0%}), step {self.steps}"
        message = f"stopped by {by} at {where}; the state there is saved"
        log.warning("%s", message)
        return self.recorder.writer.finish(self._stats(), "interrupted", message)

    def _fail(self, explain: Callable[[str], StepError]) -> NoReturn:
        """Save the last good state, unless it is the first, and raise what `explain` makes of where it is saved."""
        error, result = explain(""), None
        if self.steps:
            self.recorder.keep(self.state, self.controller.step)
            result = self.recorder.writer.finish(self._stats(), "failed", f"{error.message}: {error.given}")
            if result.path is not None:
                error = explain(f"; the last good state is saved in {result.path}")
        error.result = result
        raise error

    def _stats(self) -> Stats:
        return Stats(
            steps=self.steps,
            rejected=self.rejected,
            force_evaluations=self.stepper.force_evaluations - self.before[0],
            linear_solves=self.stepper.linear_solves - self.before[1],
            wall_time=time.perf_counter() - self.started,
            method=self.stepper.method,
            energy_residual=self.audit.residual(self.state, self.theta),
        )


def _settings(system: System, stepper: Stepper, axis: UserClock, end: float, tolerance: Tolerance) -> dict[str, Any]:
    """What was solved and how, as plain data."""
    return {
        "action": repr(system.action),
        "dynamics": system.dynamics,
        "gamma": system.clock.gamma if system.clock.constant else repr(system.action.friction),
        "order": system.order,
        "method": stepper.method,
        "rtol": tolerance.rtol,
        "atol": dict(zip(system.fields, tolerance.atol.tolist(), strict=True)),
        "end": end,
        "clock": axis.name,
    }
