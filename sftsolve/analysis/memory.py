"""The memory of a run before it is run: what each part says of itself, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.codegen.plan import plan
from sftsolve.codegen.walls import Datum
from sftsolve.errors import GridError
from sftsolve.friction import make_clock
from sftsolve.grid import SIDES, Grid
from sftsolve.linear.foresight import foresee
from sftsolve.memory import Need, in_turn, of_machine
from sftsolve.sources import bytes_of
from sftsolve.state import Layout
from sftsolve.stepping import STEPPERS, Setting

_RUNTIME = 222e6  # bytes of Python, NumPy, SciPy, Numba, LLVM and compiled code
_CHUNK = 4e6  # bytes at a time in which snapshots go to a file
# What is made beside state and stages is not looked at where these take less than this share of the machine.
_AMPLE = 0.25


@dataclass(frozen=True)
class Run:
    """What decides on the memory of a run.

    Attributes
    ----------
    initial : the fields at the start, as the user gives them
    method : name of a stepper
    snapshots : how many are kept in memory
    between : whether some fall between the ends of steps, so that they come from dense output
    """

    action: Action
    grid: Grid
    initial: Mapping[str, Any]
    order: int
    dynamics: str
    method: str
    dtype: str
    snapshots: int = 0
    between: bool = False

    def needs(self) -> dict[str, Need]:
        """What each part takes, in the order in which they are made."""
        action, grid, method = self.action, self.grid, STEPPERS[self.method]
        found = plan(action, grid, self.order, self.dtype)
        layout = Layout.of(grid, found.halo if found else 0, self.dtype)
        clock = make_clock(action.friction, grid.dimension, self.dynamics)
        fields, cells = len(action.fields), 8.0 * grid.size
        array, damped = float(layout.bytes_of(fields)), self.dynamics == "damped"
        arrays = len(found.names.arrays) if found else 0
        moving = bool(found and found.time_dependent)
        watched = bool(found and found.drifting) or _walls_move(action, grid) or not clock.constant
        linear = foresee(action, grid, self.order, layout) if method.linear != "nothing" else None
        given = sum(values.nbytes for values in self.initial.values() if isinstance(values, np.ndarray))
        kept = fields * np.dtype(self.dtype).itemsize * grid.size
        scaled = not clock.constant or (clock.scale_at(0.0) if damped else clock.gamma_at(0.0)) != 1.0
        between = self.between and damped + 2
        return {
            "program": Need.of(_RUNTIME),
            "given": Need.of(given + sum(bytes_of(source, grid) for source in action.sources.values())),
            "sources": Need.of(layout.bytes_of(arrays), cells if arrays else 0.0),
            "kernels": in_turn(kernel.estimate(grid, self.dtype).need for kernel in action.kernels),
            "correction": Need.of((4 if moving else 1) * array if self.dynamics == "slow-manifold" else 0.0),
            "state": Need.of((1 + damped) * array, fields * cells),
            "a look at short waves": Need.of(0.0, arrays * cells),
            "linear part": linear.building if linear else Need(),
            f"stages of {self.method}": method.need(Setting(array, damped, linear, watched)),
            "between steps": Need.of(between * array),
            # The axes of a file are read back at the end.
            "coordinates": Need.of(8.0 * sum(grid.shape)),
            "snapshots": Need.of(2 * self.snapshots * kept, min(_CHUNK, kept) + (kept if scaled else 0.0)),
        }


def _walls_move(action: Action, grid: Grid) -> bool:
    return any(Datum(axis, side, field).moves(grid) for axis in grid.walls for side in SIDES for field in action.fields)


def refuse_too_large(run: Run) -> None:
    """Refuse a run that cannot fit into this machine's memory, before any of it is made.

    Raises
    ------
    GridError : it needs more
    """
    room, damped = of_machine(), run.dynamics == "damped"
    array = float(Layout.of(run.grid, 1, run.dtype).bytes_of(len(run.action.fields)))
    needs = {
        "state": Need.of((1 + damped) * array),
        f"stages of {run.method}": STEPPERS[run.method].need(Setting(array, damped, None, False)),
    }
    if (least := in_turn(needs.values()).most) < _AMPLE * room:
        return
    if least <= room:
        needs = run.needs()
    if (needed := in_turn(needs.values()).most) > room:
        largest = sorted(needs, key=lambda name: -needs[name].most)[:3]
        raise GridError(
            "the run does not fit into memory: " + ", ".join(f"{name} {_gib(needs[name].most)}" for name in largest),
            expected=f"at most {_gib(room)}",
            given=f"{_gib(needed)} for {len(run.action.fields)} field(s) on {' x '.join(map(str, run.grid.shape))} cells",
            remedy='take a coarser grid, dtype="float32", or a method that holds fewer arrays: `check` tells what each takes',
        )


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
