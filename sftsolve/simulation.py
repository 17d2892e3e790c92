"""simulate(): the only time loop; solve(): from an action to a result in one call."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sftsolve.action import Action
from sftsolve.analysis import refuse_ill_posed
from sftsolve.errors import StepError
from sftsolve.friction import Clock, make_clock
from sftsolve.grid import Grid
from sftsolve.loops.norms import CellSums
from sftsolve.output import HDF5Writer, MemoryWriter, Result, RunDescription, Stats, Writer
from sftsolve.state import State
from sftsolve.stepping import (
    Event,
    Interrupts,
    Pace,
    PIController,
    ProgressBar,
    Stepper,
    Tolerance,
    UserClock,
    check_memory,
    events,
    make_stepper,
    resolve,
    scalar_schedule,
    snapshot_schedule,
    too_many,
    too_short,
)
from sftsolve.system import System, discretise

log = logging.getLogger("sftsolve")

SCALARS = ("cost", "kinetic", "energy", "force_rms", "step")

# A step this small against the time itself no longer moves it; the second number serves times near zero.
_SMALLEST = 16 * np.finfo(np.float64).eps
_NEAR_ZERO = 1e-6
# A step may be longer by this to end at its target, where rounding alone stands between them.
_STRETCH = 1 + 1e-9


def solve(
    action: Action,
    grid: Grid,
    initial: Mapping[str, Any],
    velocity: Mapping[str, Any] | None = None,
    *,
    end: float,
    clock: str = "tau",
    method: str = "auto",
    rtol: float = 1e-6,
    atol: float | Mapping[str, float] = 1e-9,
    order: int = 2,
    dynamics: str = "damped",
    dtype: str = "float64",
    save_every: float | None = None,
    save_at: Any = None,
    scalars_every: float | None = None,
    output: str | Path | None = None,
    overwrite: bool = True,
    progress: bool = True,
    allow_ill_posed: bool = False,
    config: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Result:
    """Solve w_tt + gamma w_t = -dC/dw (damped) or gamma w_t = -dC/dw (gradient flow) from an initial state to `end`.

    Parameters
    ----------
    action, grid : the theory and where it lives
    initial : w at t = 0 of every field: array of the grid's shape, number, or expression of the coordinates
    velocity : w_t at t = 0 of some or all fields, per unit of t whatever the clock; at rest by default
    end : when to stop, > 0, in `clock`
    clock : "tau" (training time, int dt / gamma) or "t" (physical time); `end`, `save_*` and `scalars_every` are in it
    method : "auto", "rk32", "tsit5" or "dp5"
    rtol, atol : tolerance of the error of a step, ``atol + rtol |w|`` (root mean square); atol may be given by field
    order : order of accuracy in space
    dynamics : "damped" or "gradient-flow"
    dtype : "float64", or "float32" where the system has it
    save_every : distance of snapshots, or
    save_at : list of times, or ``{"log": [low, high], "count": n}``; first and last states are always saved
    scalars_every : distance of rows in the time series between those at snapshots
    output : HDF5 file to write; the result then reads from it. None keeps it in memory
    overwrite : False refuses to replace an earlier result
    progress : show a progress bar if there is a terminal
    allow_ill_posed : run a theory all the same whose shortest waves grow without bound as the grid is refined
    config : text of a configuration file, kept word for word with the result
    metadata : further settings to keep with the result, what JSON can hold

    Raises
    ------
    ConfigError : an argument is out of range, or a method is unknown
    GridError, ActionError, ExpressionError : action, grid and initial values do not fit, or do not fit into memory
    FileError : the output cannot be written
    StepError : the solution stops being finite, or steps become too short; what was good is saved first, see `simulate`
    """
    # Everything that can be wrong with the arguments, before anything is compiled.
    method = resolve(method, Tolerance.of(rtol, atol, action.fields).rtol)
    times = _Times(end, clock, save_every, save_at, scalars_every)
    times.on(make_clock(action.friction, grid.dimension, dynamics), 0.0)
    writer = MemoryWriter() if output is None else HDF5Writer(output, overwrite)
    check_memory(method, len(action.fields), grid, dtype, dynamics == "damped")
    system = discretise(action, grid, order=order, dynamics=dynamics, dtype=dtype)
    state = system.state(initial, velocity)
    if not allow_ill_posed:
        refuse_ill_posed(action, grid, state.w, order)
    return simulate(
        system,
        state,
        make_stepper(method, system),
        end=end,
        clock=clock,
        rtol=rtol,
        atol=atol,
        save_every=save_every,
        save_at=save_at,
        scalars_every=scalars_every,
        writer=writer,
        progress=progress,
        config=config,
        metadata=metadata,
    )


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
    Ctrl-C ends the run after the step at hand: the state there is saved and the result says "interrupted".

    Parameters
    ----------
    system, state : as `discretise` and `System.state` make them; the state may stand at any time before `end`
    stepper : of `system`, or the name of a method
    end, clock, rtol, atol, save_every, save_at, scalars_every, progress, config, metadata : see `solve`
    writer : takes the output; in memory by default
    first_step, max_step : in `clock`; chosen and unlimited by default
    max_steps : ends the run as failed after so many steps

    Raises
    ------
    ConfigError : an argument is out of range
    StepError : the solution stops being finite, or the smallest step is rejected, or `max_steps` are done. The last good state
        is saved as the last snapshot, unless it is the first; the attribute `result` of the error holds what there is, or None
    """
    if isinstance(stepper, str):
        stepper = make_stepper(stepper, system, rtol)
    tolerance = Tolerance.of(rtol, atol, system.fields)
    axis, due = _Times(end, clock, save_every, save_at, scalars_every).on(system.clock, state.t)
    limits = {"first_step": first_step, "max_step": max_step, "max_steps": max_steps}
    checked = {name: None if value is None else axis.check(name, value) for name, value in limits.items()}
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
        run = _Run(system, state, stepper, tolerance, _Recorder(system, stepper, axis, out), due, max_steps)
        run.choose_first_step(checked["first_step"], checked["max_step"])
        with Interrupts() as interrupts, ProgressBar(progress, stepper.method) as bar:
            return run.through(interrupts, bar)


@dataclass(frozen=True)
class _Times:
    """What the user said about times."""

    end: Any
    clock: Any
    save_every: Any
    save_at: Any
    scalars_every: Any

    def on(self, clock: Clock, t: float) -> tuple[UserClock, list[Event]]:
        """The user's clock, and what is due in it from physical time t on; raises `ConfigError` where that makes no sense."""
        axis = UserClock(clock, self.clock)
        start = axis.reading(t)
        end = axis.check("end", self.end, start)
        return axis, events(start, end, snapshot_schedule(self.save_every, self.save_at), scalar_schedule(self.scalars_every))


class _Recorder:
    """Writes the state at hand: a row of the time series always, a snapshot where one is due."""

    def __init__(self, system: System, stepper: Stepper, axis: UserClock, writer: Writer):
        self.axis, self.writer = axis, writer
        self._system, self._stepper = system, stepper
        self._sums = CellSums(system.layout, len(system.fields))
        self._volume = system.grid.cell_volume * len(system.fields) * system.grid.size
        self._last = -1

    def record(self, state: State, reading: float, step: float, snapshot: bool = True) -> None:
        """Record `state` at `reading` of the user's clock, `step` being the next step in theta."""
        clock = self._system.clock
        t, tau = self.axis.t(reading), self.axis.tau(reading)
        force = self._stepper.force(state)
        force_square = self._sums.mean_square(force.storage)
        if state.momentum is None:
            v, scale, square = force.w, clock.gamma, force_square
        else:
            v, scale, square = self._system.layout.interior(state.momentum), clock.scale, self._sums.mean_square(state.momentum)
        if snapshot:
            self.writer.snapshot(t, tau, state.w, v if scale == 1.0 else v / scale)
            self._last = state.step
        cost, kinetic = self._system.cost_of(state), 0.5 * square * self._volume / scale**2
        length = self.axis.reading(clock.t(step))
        self.writer.scalars(t, tau, (cost, kinetic, cost + kinetic, math.sqrt(force_square), length))

    def keep(self, state: State, step: float) -> None:
        """Make `state` the last snapshot, unless it is one."""
        if self._last != state.step:
            self.record(state, self.axis.reading(state.t), step)


class _Run:
    """One run: where it is, how it goes on, how it ends. Times and steps are in theta."""

    def __init__(
        self,
        system: System,
        state: State,
        stepper: Stepper,
        tolerance: Tolerance,
        recorder: _Recorder,
        due: list[Event],
        max_steps: int | None,
    ):
        self.system, self.state, self.stepper, self.tolerance = system, state, stepper, tolerance
        self.recorder, self.axis, self.due = recorder, recorder.axis, due
        self.theta, self.end = system.clock.theta(state.t), self.axis.theta(due[-1].time)
        self.span = self.end - self.theta
        self.first, self.limit = state.step, max_steps
        self.rejected = 0
        self.pace = Pace(system, stepper, self.axis, self.end)
        self.before = stepper.force_evaluations, stepper.linear_solves
        stepper.reset()

    @property
    def steps(self) -> int:
        return self.state.step - self.first

    @property
    def fraction(self) -> float:
        return 1 - (self.end - self.theta) / self.span

    def choose_first_step(self, first: float | None, largest: float | None) -> None:
        """Set up the controller; both lengths are in the user's clock."""
        limit = math.inf if largest is None else self.axis.theta(largest)
        if first is None:
            step = min(self.stepper.first_step(self.state, self.tolerance), self.span / 100)
        else:
            step = self.axis.theta(first)
        self.controller = PIController(self.stepper.rule.rounded(step), limit)

    def through(self, interrupts: Interrupts, bar: ProgressBar) -> Result:
        """Step from event to event; what is due there is written with the exact time."""
        # From here on nothing but the kernels of a step is still to be loaded.
        self.started = time.perf_counter()
        self.recorder.keep(self.state, self.controller.step)
        for event in self.due:
            target = self.axis.theta(event.time)
            while self.theta < target:
                if interrupts.asked:
                    return self._interrupted(interrupts.asked)
                self._step(target)
                bar.show(self.fraction, self.steps)
            self.state.t = self.axis.t(event.time)
            self.recorder.record(self.state, event.time, self.controller.step, event.snapshot)
        bar.show(1.0, self.steps, last=True)
        return self.recorder.writer.finish(self._stats())

    def _step(self, target: float) -> None:
        """One accepted step towards `target`, which is hit exactly."""
        if self.steps == self.limit:
            self._fail(lambda saved: too_many(self.state, self.steps, saved))
        while True:
            length, hits = self._length(target)
            error = self.stepper.step(self.state, length, self.tolerance)
            if error <= 1.0:
                break
            self.rejected += 1
            self.controller.rejected(length, error, self.stepper.error_exponent, self.stepper.rule)
            if self.controller.step < _SMALLEST * max(abs(self.theta), _NEAR_ZERO * self.span):
                self._fail(lambda saved: too_short(self.system, self.stepper, self.state, saved))
        self.stepper.accept(self.state)
        self.controller.accepted(length, error, self.stepper.error_exponent, self.stepper.rule)
        self.theta = target if hits else self.theta + length
        self.state.t = self.system.clock.t(self.theta)
        self.pace.look(self.state, self.theta, self.steps, self.controller.step)

    def _length(self, target: float) -> tuple[float, bool]:
        """Length of the next step, and whether it ends at `target`; the way to a near target is halved, not cut unevenly."""
        remaining, step = target - self.theta, self.controller.step
        if remaining <= step * _STRETCH:
            return remaining, True
        return (remaining / 2 if remaining < 2 * step else step), False

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
        )


def _settings(system: System, stepper: Stepper, axis: UserClock, end: float, tolerance: Tolerance) -> dict[str, Any]:
    """What was solved and how, as plain data."""
    return {
        "action": repr(system.action),
        "dynamics": system.dynamics,
        "gamma": system.clock.gamma,
        "order": system.order,
        "method": stepper.method,
        "rtol": tolerance.rtol,
        "atol": dict(zip(system.fields, tolerance.atol.tolist(), strict=True)),
        "end": end,
        "clock": axis.name,
    }
