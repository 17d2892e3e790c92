"""solve(): from an action to a result in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftsolve.action import Action
from sftsolve.analysis import Run, refuse_ill_posed, refuse_too_large
from sftsolve.friction import make_clock
from sftsolve.grid import Grid
from sftsolve.output import HDF5Writer, MemoryWriter, Result
from sftsolve.simulation.run import simulate
from sftsolve.simulation.times import Limits, Times
from sftsolve.stepping import Tolerance, resolve
from sftsolve.system import discretise


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
    first_step: float | None = None,
    max_step: float | None = None,
    max_steps: int | None = None,
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
    velocity : w_t at t = 0 of some or all fields, per unit of t whatever the clock; by default at rest, or as
        `System.state` says of `Friction.matching_descent` and of the slow manifold
    end : when to stop, > 0, in `clock`
    clock : "tau" (training time, int dt / gamma) or "t" (physical time); `end`, `save_*` and `scalars_every` are in it too
    method : "auto" or a name of `sftsolve.stepping.STEPPERS`, such as "tsit5", "leapfrog" or "descent"
    rtol, atol : tolerance of the error of a step, ``atol + rtol |w|`` (root mean square); atol may be given by field
    order : order of accuracy in space
    dynamics : "damped"; "gradient-flow", its limit of high friction; or "slow-manifold", with the first correction in 1/gamma
    dtype : "float64", or "float32" where the system has it
    save_every : distance of snapshots, or
    save_at : list of times, or ``{"log": [low, high], "count": n}``; first and last states are always saved
    scalars_every : distance of rows in the time series between those at snapshots
    first_step, max_step : lengths in `clock` of the first step to try and of the longest, which methods of fixed steps do not
        heed; chosen by default, and unlimited but for forces that drift in time: there steps are no longer than a 25th of the
        run, lest one leaps over a pulse from where all is at rest. Shorter pulses ask for `max_step`
    max_steps : ends the run as failed after so many steps, what was reached being saved
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
    StepError : the solution stops being finite, steps become too short, or `max_steps` are done; what was good is saved first,
        see `simulate`
    """
    # Everything that can be wrong with the arguments, before anything is compiled.
    known = resolve(method, Tolerance.of(rtol, atol, action.fields).rtol)
    times = Times(end, clock, save_every, save_at, scalars_every)
    axis, due = times.on(make_clock(action.friction, grid.dimension, dynamics), 0.0)
    Limits(first_step, max_step, max_steps).on(axis)
    writer = MemoryWriter() if output is None else HDF5Writer(output, overwrite)
    kept = 0 if output is not None else sum(event.snapshot for event in due) + 1
    refuse_too_large(Run(action, grid, initial, order, dynamics, known, dtype, kept, len(due) > 1))
    system = discretise(action, grid, order=order, dynamics=dynamics, dtype=dtype)
    state = system.state(initial, velocity)
    if not allow_ill_posed:
        refuse_ill_posed(action, grid, state.w, order)
    return simulate(
        system,
        state,
        method,
        end=end,
        clock=clock,
        rtol=rtol,
        atol=atol,
        save_every=save_every,
        save_at=save_at,
        scalars_every=scalars_every,
        first_step=first_step,
        max_step=max_step,
        max_steps=max_steps,
        writer=writer,
        progress=progress,
        config=config,
        metadata=metadata,
    )
