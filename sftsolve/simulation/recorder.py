"""What a run writes: snapshots, and rows of its time series."""

from __future__ import annotations

import math

from sftsolve.loops.norms import CellSums
from sftsolve.output import Writer
from sftsolve.state import State
from sftsolve.stepping import Stepper, UserClock
from sftsolve.system import System


class Recorder:
    """Writes the state at hand: a row of the time series always, a snapshot where one is due."""

    def __init__(self, system: System, stepper: Stepper, axis: UserClock, writer: Writer):
        self.axis, self.writer = axis, writer
        self._system, self._stepper = system, stepper
        self._sums = CellSums(system.layout, len(system.fields))
        self._volume = system.grid.cell_volume * len(system.fields) * system.grid.size
        self._last = -1
        self._between: tuple[State, State] | None = None

    def record(self, state: State, reading: float, step: float, snapshot: bool = True) -> None:
        """Record `state` at `reading` of the user's clock, `step` being the next step in theta."""
        self._write(state, self._stepper.force(state), self.axis.t(reading), self.axis.tau(reading), step, snapshot)
        if snapshot:
            self._last = state.step

    def record_between(self, state: State, reading: float, fraction: float, step: float, snapshot: bool) -> None:
        """Record what was at `reading`, at a fraction of the step that led to `state`, from the stepper's dense output."""
        if self._between is None:
            self._between = state.like(), State(state.layout, state.like().storage, None)
        between, force = self._between
        self._stepper.interpolate(state, fraction, between)  # type: ignore[attr-defined]
        between.t = self.axis.t(reading)
        self._system.force_into(between, force, between.t)
        self._write(between, force, between.t, self.axis.tau(reading), step, snapshot)

    def _write(self, state: State, force: State, t: float, tau: float, step: float, snapshot: bool) -> None:
        clock = self._system.clock
        force_square = self._sums.mean_square(force.storage)
        if state.momentum is None:
            v, scale, square = force.w, clock.gamma_at(t), force_square
        else:
            v, scale, square = (
                self._system.layout.interior(state.momentum),
                clock.scale_at(t),
                self._sums.mean_square(state.momentum),
            )
        if snapshot:
            self.writer.snapshot(t, tau, state.w, v if scale == 1.0 else v / scale)
        cost, kinetic = self._system.cost_of(state), 0.5 * square * self._volume / scale**2
        length = self.axis.length(clock.theta(t), step)
        self.writer.scalars(t, tau, (cost, kinetic, cost + kinetic, math.sqrt(force_square), length))

    def keep(self, state: State, step: float) -> None:
        """Make `state` the last snapshot, unless it is one."""
        if self._last != state.step:
            self.record(state, self.axis.reading(state.t), step)
