"""What every operator between fields answers. The system is their sum, and steppers see nothing else."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sftsolve.grid import Grid
from sftsolve.state import Layout, State


class Operator(Protocol):
    """A part of the cost bound to a grid. States come with filled ghosts; nothing of field size is allocated."""

    def add_force(self, state: State, out: State, t: float) -> None:
        """out.w += -h^-d dC/dw at (state, t)."""
        ...

    def energy(self, state: State, t: float) -> float:
        """This operator's part of the cost."""
        ...

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        """out.w += F'(state, t) direction.w."""
        ...

    def symbol(self) -> np.ndarray | None:
        """Constant-coefficient linear part per mode, None where there is none."""
        ...


class Kernel(Protocol):
    """A description of an operator, free of any grid; `bind` makes the operator."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields it acts between."""
        ...

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> Operator:
        """The operator on a grid for an action with these fields."""
        ...
