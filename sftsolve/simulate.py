"""simulate(): the only time loop; solve(): from an action to a result in one call."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.errors import ConfigError, GridError, StepError
from sftsolve.grid import Grid
from sftsolve.loops.norms import CellSums
from sftsolve.output import HDF5Writer, MemoryWriter, Result, RunDescription, Stats, Writer
from sftsolve.state import Layout, State
from sftsolve.stepping import (
    Interrupts,
    PIController,
    ProgressBar,
    Stepper,
    Tolerance,
    UserClock,
    events,
    make_stepper,
    registers,
    resolve,
    scalar_schedule,
    snapshot_schedule,
)
from sftsolve.stepping.schedule import Event
from sftsolve.stepping.stiffness import MANY_STEPS, slow_warning
from sftsolve.system import System, discretise

log = logging.getLogger("sftsolve")

SCALARS = ("cost", "kinetic", "energy", "force_rms", "step")

# A step this small against the time itself no longer moves it; the second number serves times near zero.
_SMALLEST = 16 * np.finfo(np.float64).eps
_NEAR_ZERO = 1e-6


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
    allow_ill_posed : run a theory that is ill-posed all the same; without effect as long as nothing refuses one
    config : text of a configuration file, kept word for word with the result
    metadata : further settings to keep with the result, what JSON can hold

    Raises
    ------
    ConfigError : an argument is out of range, or a method is unknown
    GridError, ActionError, ExpressionError : action, grid and initial values do not fit, or do not fit into memory
    FileError : the output cannot be written
    StepError : the solution stops being finite, or steps become too short; what was good is saved first, see `simulate`
    """
    method = resolve(method, Tolerance.of(rtol, atol, action.fields).rtol)
    writer = MemoryWriter() if output is None else HDF5Writer(output, overwrite)
    _check_memory(len(action.fields), grid, dtype, method, dynamics == "damped")
    system = discretise(action, grid, order=order, dynamics=dynamics, dtype=dtype)
    return simulate(
        system,
        system.state(initial, velocity),
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
    time_axis = UserClock(system.clock, clock)
    start = time_axis.reading(state.t)
    _check_number("end", end, start, clock)
    for name, value in (("first_step", first_step), ("max_step", max_step), ("max_steps", max_steps)):
        if value is not None:
            _check_number(name, value, 0.0, clock)
    due = events(start, float(end), snapshot_schedule(save_every, save_at), scalar_schedule(scalars_every))
    description = RunDescription(
        grid=system.grid,
        fields=system.fields,
        dtype=system.dtype,
        scalar_names=SCALARS,
        snapshots=1 + sum(event.snapshot for event in due),
        config=config,
        settings=_settings(system, stepper, end, clock, tolerance) | dict(metadata or {}),
    )
    with writer or MemoryWriter() as out:
        out.begin(description)
        run = _Run(system, state, stepper, tolerance, time_axis, out, end=float(end), max_steps=max_steps)
        run.choose_first_step(first_step, max_step)
        with Interrupts() as interrupts, ProgressBar(progress, stepper.method) as bar:
            return run.through(due, interrupts, bar)


class _Run:
    """One run: where it is, how it goes on, what it leaves."""

    def __init__(
        self,
        system: System,
        state: State,
        stepper: Stepper,
        tolerance: Tolerance,
        time_axis: UserClock,
        writer: Writer,
        *,
        end: float,
        max_steps: int | None,
    ):
        self.system, self.state, self.stepper, self.tolerance = system, state, stepper, tolerance
        self.time_axis, self.writer, self.max_steps = time_axis, writer, max_steps
        self.theta, self.end = system.clock.theta(state.t), time_axis.theta(end)
        self.span = self.end - self.theta
        self.steps = self.rejected = 0
        self.started = time.perf_counter()
        self.clock_started = self.started
        self.forces_before, self.solves_before = stepper.force_evaluations, stepper.linear_solves
        self.next_check = 2
        self.saved_step = -1
        self.sums = CellSums(system.layout, len(system.fields))
        self.volume = system.grid.cell_volume * len(system.fields) * system.grid.size
        stepper.reset()

    def choose_first_step(self, first: float | None, largest: float | None) -> None:
        """Set up the controller; both lengths are in the user's clock."""
        step = min(self.stepper.first_step(self.state, self.tolerance), self.span / 100)
        if first is not None:
            step = self.time_axis.theta(first)
        limit = math.inf if largest is None else self.time_axis.theta(largest)
        self.controller = PIController(step, self.stepper.error_exponent, limit)

    def through(self, due: list[Event], interrupts: Interrupts, bar: ProgressBar) -> Result:
        """Step from event to event; what is due there is written with the exact time."""
        self._record(self.time_axis.reading(self.state.t), snapshot=True)
        for event in due:
            target = self.end if event is due[-1] else self.time_axis.theta(event.time)
            while self.theta < target:
                if interrupts.asked:
                    return self._interrupted(interrupts.asked)
                self._step(target)
                bar.show(1 - (self.end - self.theta) / self.span, self.steps)
            self.state.t = self.time_axis.t(event.time)
            self._record(event.time, event.snapshot)
        bar.show(1.0, self.steps, last=True)
        return self.writer.finish(self._stats())

    def _step(self, target: float) -> None:
        """One accepted step towards `target`, which is hit exactly."""
        while True:
            length, hits = self._length(target)
            error = self.stepper.step(self.state, length, self.tolerance)
            if error <= 1.0:
                break
            self.rejected += 1
            self.controller.rejected(length, error)
            if self.controller.step < _SMALLEST * max(abs(self.theta), _NEAR_ZERO * self.span):
                self._fail(*self._too_short(error))
        self.stepper.accept(self.state)
        self.controller.accepted(length, error)
        self.theta = target if hits else self.theta + length
        self.state.t = self.system.clock.t(self.theta)
        self.steps += 1
        if self.steps == 1:
            self.clock_started = time.perf_counter()
        if self.steps == self.next_check:
            self._check_pace()
        if self.max_steps is not None and self.steps >= self.max_steps and self.theta < self.end:
            self._fail(
                f"the run is not at its end after max_steps = {self.max_steps} steps", None, "allow more steps, or a larger rtol"
            )

    def _length(self, target: float) -> tuple[float, bool]:
        """Length of the next step, and whether it ends at `target`; the way to a near target is halved, not cut unevenly."""
        remaining, step = target - self.theta, self.controller.step
        if remaining <= step:
            return remaining, True
        return (remaining / 2 if remaining < 2 * step else step), False

    def _check_pace(self) -> None:
        """Say it once when the run will take very many steps; looked at after 2, 8, 32, ... steps."""
        self.next_check *= 4
        left = self.end - self.theta
        if left / self.controller.step <= MANY_STEPS:
            return
        stable = self.stepper.stable_step(self.system.spectral_radius(self.state))
        limited = left / stable > MANY_STEPS
        # While steps still grow, only the limit of stability tells something.
        if not limited and self.steps < 500:
            return
        step = max(stable, self.controller.step) if limited else self.controller.step
        rate = (self.steps - 1) / max(time.perf_counter() - self.clock_started, 1e-9)
        axis = self.time_axis
        reading = axis.reading(self.system.clock.t(step))
        log.warning("%s", slow_warning(self.stepper.method, left / step, reading, axis.name, limited, axis.clock, rate))
        self.next_check = -1

    def _record(self, reading: float, snapshot: bool) -> None:
        """Write a row of the time series, and a snapshot where one is due; the state stands at `reading` of the user's clock."""
        state, system = self.state, self.system
        t, tau = self.time_axis.t(reading), self.time_axis.tau(reading)
        force = self.stepper.force(state)
        force_square = self.sums.mean_square(force.storage)
        if state.momentum is None:
            scale, square = system.clock.gamma, force_square
        else:
            scale, square = system.clock.scale, self.sums.mean_square(state.momentum)
        if snapshot:
            v = force.w if state.u is None else state.u
            self.writer.snapshot(t, tau, state.w, v if scale == 1.0 else v / scale)
            self.saved_step = self.steps
        kinetic = 0.5 * square * self.volume / scale**2
        cost = system.cost_of(state)
        step = self.time_axis.reading(system.clock.t(self.controller.step))
        self.writer.scalars(t, tau, (cost, kinetic, cost + kinetic, math.sqrt(force_square), step))

    def _save_here(self) -> None:
        """Make the state at hand the last snapshot, unless it is one."""
        if self.saved_step != self.steps:
            self._record(self.time_axis.reading(self.state.t), snapshot=True)

    def _interrupted(self, by: str) -> Result:
        self._save_here()
        axis = self.time_axis
        done = 100 * (1 - (self.end - self.theta) / self.span)
        end = axis.reading(self.system.clock.t(self.end))
        where = f"{axis.name} = {axis.reading(self.state.t):.6g} of {end:.6g} ({done:.0f}%), step {self.steps}"
        message = f"stopped by {by} at {where}; the state there is saved"
        log.warning("%s", message)
        return self.writer.finish(self._stats(), "interrupted", message)

    def _too_short(self, error: float) -> tuple[str, str | None, str]:
        """What happened when the smallest step was rejected, where, and what to do."""
        place = self.stepper.not_finite(self.state)
        when = f"tau = {self.system.clock.tau(self.state.t):.6g} (t = {self.state.t:.6g}), step {self.steps + 1}"
        if place is not None:
            what = f"the solution is not finite after {when}"
            remedy = "look for a cost that is unbounded below or not defined there, or an ill-posed theory; or end before"
        else:
            force = np.abs(self.stepper.force(self.state).w)
            index = np.unravel_index(int(force.argmax()), force.shape)
            place = int(index[0]), tuple(int(i) for i in index[1:])
            what = f"steps become too short at {when}"
            remedy = "the solution seems to blow up there: end before; if not, rtol or atol may be smaller than rounding allows"
        field, cell = place
        grid = self.system.grid
        points = zip(grid.axes, grid.coordinates, cell, strict=True)
        return (
            what,
            f"field {self.system.fields[field]!r} at " + ", ".join(f"{axis} = {x[i]:.6g}" for axis, x, i in points),
            remedy,
        )

    def _fail(self, what: str, where: str | None, remedy: str) -> None:
        """Save the last good state and raise."""
        result = None
        if self.steps:
            self._save_here()
            result = self.writer.finish(self._stats(), "failed", what if where is None else f"{what}: {where}")
            if result.path is not None:
                remedy += f"; the last good state is in {result.path}"
        error = StepError(what, given=where, remedy=remedy)
        error.result = result  # type: ignore[attr-defined]
        raise error

    def _stats(self) -> Stats:
        return Stats(
            steps=self.steps,
            rejected=self.rejected,
            force_evaluations=self.stepper.force_evaluations - self.forces_before,
            linear_solves=self.stepper.linear_solves - self.solves_before,
            wall_time=time.perf_counter() - self.started,
            method=self.stepper.method,
        )


def _settings(system: System, stepper: Stepper, end: float, clock: str, tolerance: Tolerance) -> dict[str, Any]:
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
        "clock": clock,
    }


def _check_number(name: str, value: object, above: float, clock: str) -> None:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= above:  # type: ignore[arg-type,operator]
        raise ConfigError(f"{name} is out of range", expected=f"a finite number > {above:g} (clock {clock})", given=repr(value))


def _check_memory(fields: int, grid: Grid, dtype: str, method: str, damped: bool) -> None:
    """Refuse what cannot fit, before any of it is made."""
    padded = math.prod(Layout.of(grid, 1).padded) * fields
    arrays = registers(method, damped) + (2 if damped else 1)
    needed = padded * arrays * (4 if dtype == "float32" else 8)
    room = _memory()
    if needed > room:
        raise GridError(
            f"the run does not fit into memory: {method} needs {arrays} arrays of the fields' size",
            expected=f"at most {room / 2**30:.3g} GiB",
            given=f"{needed / 2**30:.3g} GiB for {fields} field(s) on {' x '.join(map(str, grid.shape))} cells",
            remedy="take a coarser grid, or rk32, which holds the fewest arrays",
        )


def _memory() -> float:
    """Bytes of memory of this machine; infinite where that cannot be found out."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf
