"""What to tell a user whose run cannot go on: what happened, in which field, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sftsolve.errors import SftError, StepError
from sftsolve.state import State
from sftsolve.stepping.registry import Stepper

# What is no number from a time on is found this near behind it, relative to the time.
_BEHIND = (0.0, 1e-14, 1e-12, 1e-10)


def _undefined(system: Any, times: Iterable[float]) -> SftError | None:
    """What a source or wall data that are not finite at one of these times say of it."""
    for t in times:
        try:
            system.check_times(t, t)
        except (SftError, MemoryError) as error:
            return error if isinstance(error, SftError) else None
    return None


def too_short(system: Any, stepper: Stepper, state: State, until: float, saved: str) -> StepError:
    """The error to raise when the smallest step was rejected.

    Parameters
    ----------
    until : physical time at which the step would have ended
    saved : where the last good state is, if anywhere
    """
    when = f"tau = {system.clock.tau(state.t):.6g} (t = {state.t:.6g}), step {state.step + 1}"
    place = stepper.not_finite(state)
    if place is not None:
        outside = _undefined(system, (state.t, 0.5 * (state.t + until), *(until + more * abs(until) for more in _BEHIND)))
        if outside is not None:
            remedy = "end the run before, or mend the expression" + saved
            return StepError(outside.message, expected=outside.expected, given=outside.given, remedy=remedy)
        what = f"the solution is not finite after {when}"
        remedy = "look for a cost that is unbounded below or undefined there, or for an ill-posed theory; or end the run before"
    else:
        what = f"the steps became too short at {when}"
        remedy = "if the solution blows up there, end the run before; if not, rtol or atol is smaller than rounding allows"
        force = np.abs(stepper.force(state).w)
        index = np.unravel_index(int(force.argmax()), force.shape)
        place = int(index[0]), tuple(int(i) for i in index[1:])
    field, cell = place
    grid = system.grid
    position = ", ".join(f"{axis} = {x[i]:.6g}" for axis, x, i in zip(grid.axes, grid.coordinates, cell, strict=True))
    return StepError(what, given=f"field {system.fields[field]!r} at {position}", remedy=remedy + saved)


def too_many(state: State, limit: int, saved: str) -> StepError:
    """The error to raise when the run was given `limit` steps and is not at its end."""
    what = f"the run is not at its end after max_steps = {limit} steps"
    return StepError(what, given=f"t = {state.t:.6g}", remedy="allow more steps, or a larger rtol" + saved)
