"""What sources that change in time are made of.

The density meets a moving source as a small tree, its form: hidden arrays on the grid times hidden scalars,

    J(x, t) = sum_k weight_k(t) array_k(x)      (and, where J does not factor, an expression of x, y, z and hidden scalars).

The form alone decides what is compiled. The scalars are filled before every evaluation; the arrays change only where a piece of
time ends, in which the source is smooth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sftsolve.algebra import Node, Symbol
from sftsolve.errors import ActionError
from sftsolve.grid import Grid

ROUNDING = 1e-9  # of a piece's length: times this near to its end are its end


@dataclass(frozen=True)
class Form:
    """How a source enters the density.

    Attributes
    ----------
    tree : over hidden symbols and coordinates
    arrays, scalars : names of the hidden arrays and scalars in it
    """

    tree: Node
    arrays: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()


def hidden(source: str, kind: str, number: int) -> Symbol:
    """A symbol that no expression can name."""
    return Symbol(f"{source} {kind} {number}")


def rate_of(name: str) -> Symbol:
    """The symbol of a scalar's derivative by time."""
    return Symbol(f"rate of {name}")


class Moving(ABC):
    """A moving source on a grid, at one moment.

    Attributes
    ----------
    form : how it enters the density
    start, end : the piece of time at hand, in which the source is smooth
    """

    form: Form
    start: float = -np.inf
    end: float = np.inf

    def check(self, first: float, last: float) -> None:
        """Refuse a run from `first` to `last` that leaves the times for which the source is known."""
        return

    def switches(self, first: float, last: float) -> Sequence[float]:
        """Times inside (first, last) where it is not smooth."""
        return ()

    def scalars(self, t: float) -> Sequence[float]:
        """Values of the form's scalars, in their order, by the piece at hand."""
        return ()

    def rates(self, t: float) -> Sequence[float]:
        """Derivatives of `scalars` by time at t, in the piece at hand; NaN where they are not known."""
        return ()

    def enter(self, t: float) -> Sequence[str]:
        """Take up the piece that holds t, the later one where two meet; the names of the arrays that changed."""
        return ()

    def write(self, name: str, out: np.ndarray) -> None:
        """Values of a hidden array in the piece at hand; `out` has the grid's shape."""
        raise NotImplementedError(name)

    def follow(self, t: float) -> Sequence[str]:
        """Take up the piece that holds t unless the one at hand does, its ends included."""
        slack = ROUNDING * (self.end - self.start) if np.isfinite(self.end - self.start) else 1e-12 * abs(t)
        return () if self.start - slack <= t <= self.end + slack else self.enter(t)


class TimeSource(ABC):
    """A source that may change in time."""

    kind: ClassVar[str]

    def moves(self, grid: Grid, parameters: Mapping[str, float]) -> bool:
        """Whether it does on this grid."""
        return True

    @abstractmethod
    def values_at(self, grid: Grid, parameters: Mapping[str, float], t: float) -> np.ndarray:
        """J(., t), an array that broadcasts to `grid.shape`; the later value where it jumps."""

    @abstractmethod
    def form(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Form:
        """How the source called `name` enters the density."""

    @abstractmethod
    def bind(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Moving:
        """The source on a grid."""

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        """Refused: where this is asked for, values must not change in time."""
        raise ActionError(
            f"{self.kind} stands where values cannot change in time",
            expected="an array, a number, an expression of the coordinates or a data set",
            remedy="give it to the action as a source, and name that source in the cost",
        )
