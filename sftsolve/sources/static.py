"""Sources that do not change in time: an array, an expression of the coordinates, a data set, a function of the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sftsolve.errors import ExpressionError
from sftsolve.expression import Names, evaluate, parse
from sftsolve.grid import Grid
from sftsolve.sources.arrays import read_dataset


class Source(Protocol):
    """Something that has a value in every cell of a grid."""

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        """Array that broadcasts to `grid.shape`."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Values on the cells, in axis order."""

    array: np.ndarray

    def bytes_on(self, grid: Grid) -> float:
        """Bytes that it holds beside what a run makes of it."""
        return float(self.array.nbytes)

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        return self.array


@dataclass(frozen=True)
class FileSource:
    """A data set in an HDF5 file, shaped like the grid."""

    path: Path
    dataset: str

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        return read_dataset(self.path, self.dataset)


@dataclass(frozen=True)
class FunctionSource:
    """A Python function of the grid, for sources that know how to evaluate themselves anywhere."""

    function: Callable[[Grid], np.ndarray]

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        return np.asarray(self.function(grid))


def evaluate_on(grid: Grid, text: str, parameters: Mapping[str, float], what: str = "the expression") -> np.ndarray:
    """Value of an expression of the coordinates and parameters; an array that broadcasts to the grid's shape.

    Raises
    ------
    ExpressionError : not in the language, or an unknown name, or one that depends on time
    """
    mesh = grid.mesh
    try:
        tree = parse(text, Names(values=[*mesh, *parameters]), what)
    except ExpressionError as error:
        if "unknown name 't'" in error.message:
            raise ExpressionError(
                error.message,
                expected="an expression of " + ", ".join(mesh),
                remedy="only the sources of an action and wall data may depend on time",
            ) from None
        raise
    with np.errstate(all="ignore"):
        return np.asarray(evaluate(tree, {**mesh, **parameters}), float)
