"""Where the entries A(x_i, x_j) of a nonlocal kernel come from: an array, an expression, or a function in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from sftsolve.algebra import Node, evaluate
from sftsolve.codegen.pairs import compile_array, compile_expression
from sftsolve.errors import ActionError, GridError, SftError
from sftsolve.expression import CONSTANTS, Names, parse
from sftsolve.grid import AXES, Grid
from sftsolve.kernels.amplitude import numbers
from sftsolve.kernels.reference import check_finite

READING_ORDER = AXES[::-1]  # x, y, z: how points are written in expressions and passed to functions

_TIE = 1e-9  # an image exactly half a box away is taken on one side, whatever the rounding

Points = Mapping[str, np.ndarray]
"""Coordinates by axis name."""


class PointEntries(Protocol):
    """A kernel that can be evaluated between any two points."""

    def at(self, first: Points, second: Points) -> np.ndarray:
        """A between points; the coordinates of both are broadcast against each other."""
        ...


class ArrayEntries:
    """A as an array (N, N).

    Raises
    ------
    ActionError : not square, or values that are not finite real numbers
    """

    operations = 0.0
    """Floating-point operations that one entry takes."""

    def __init__(self, matrix: np.ndarray):
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
            raise ActionError(
                "the array of Dense is not square",
                expected="(N, N) over the cells of the grid in C order, or an expression",
                given=f"shape {matrix.shape}",
            )
        check_finite("the array of Dense", matrix)
        self.matrix = np.ascontiguousarray(matrix, np.float32 if matrix.dtype == np.float32 else np.float64)

    @property
    def nbytes(self) -> float:
        """Bytes that are held, and read by every force."""
        return float(self.matrix.nbytes)

    def compile(self, grid: Grid) -> tuple[Any, tuple[np.ndarray, ...]]:
        """The module of the sums, and the first arguments of its functions.

        Raises
        ------
        GridError : not of the number of cells
        """
        if len(self.matrix) != grid.size:
            raise GridError(
                "the array of Dense does not fit the grid",
                expected=f"({grid.size}, {grid.size}), the number of cells of {grid.shape}",
                given=self.matrix.shape,
            )
        return compile_array(), (self.matrix,)

    def __str__(self) -> str:
        return f"array {self.matrix.shape}"


class ExpressionEntries:
    """A(x, y, z, x2, y2, z2) as an expression; (x2, y2, z2) is the second point.

    Raises
    ------
    ActionError : a parameter that is no finite number, or that has the name of a coordinate
    ExpressionError : a text outside the language
    """

    nbytes = 0.0

    def __init__(self, text: str, parameters: Mapping[str, float] | None = None):
        points = [*READING_ORDER, *(f"{axis}2" for axis in READING_ORDER)]
        self.text = text
        self.parameters = numbers("Dense", parameters, (*points, *CONSTANTS))
        self.operations = float(_operations(self._tree(READING_ORDER)))

    def at(self, first: Points, second: Points) -> np.ndarray:
        values: dict[str, Any] = {**self.parameters, **first, **{f"{axis}2": points for axis, points in second.items()}}
        shape = np.broadcast_shapes(*(points.shape for points in (*first.values(), *second.values())))
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(evaluate(self._tree(tuple(first)), values), float), shape)

    def compile(self, grid: Grid) -> tuple[Any, tuple[np.ndarray, ...]]:
        """The module of the sums, and the first arguments of its functions.

        Raises
        ------
        ExpressionError : an axis that the grid lacks
        """
        module = compile_expression(self._tree(grid.axes), grid.axes, list(self.parameters))
        points = cell_points(grid, np.arange(grid.size))
        return module, (np.stack([*points.values()]), np.array([*self.parameters.values()], float))

    def _tree(self, axes: tuple[str, ...]) -> Node:
        names = Names(values=[*axes, *(f"{axis}2" for axis in axes), *self.parameters])
        return parse(self.text, names, "the kernel")

    def __str__(self) -> str:
        return repr(self.text)


class FunctionEntries:
    """A as a function in Python of arrays, A(x, y, z, x2, y2, z2) with as many coordinates as the grid has axes."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def at(self, first: Points, second: Points) -> np.ndarray:
        """A between points.

        Raises
        ------
        ActionError : the function fails, or returns something else than real numbers of the points' shape
        """
        names = [axis for axis in READING_ORDER if axis in first]
        arguments = [points[axis] for points in (first, second) for axis in names]
        shape = np.broadcast_shapes(*(argument.shape for argument in arguments))
        try:
            with np.errstate(all="ignore"):
                values = np.asarray(self.function(*arguments))
            if values.dtype.kind not in "fiub":
                raise TypeError(f"it returned {values.dtype}")
            return np.broadcast_to(values.astype(float, copy=False), shape)
        except SftError:
            raise
        except Exception as error:  # whatever a user's function may raise
            raise ActionError(
                "the kernel's function cannot be used",
                expected=f"a function of {len(arguments)} arrays of coordinates that returns real numbers of their shape",
                given=f"{type(error).__name__}: {error}",
            ) from error

    def __str__(self) -> str:
        return f"function {getattr(self.function, '__name__', '')}"


def cell_points(grid: Grid, cells: np.ndarray) -> dict[str, np.ndarray]:
    """Coordinates by axis name of cells that are numbered in C order."""
    index = cell_index(grid, cells)
    return {axis: points[i] for axis, points, i in zip(grid.axes, grid.coordinates, index, strict=True)}


def cell_index(grid: Grid, cells: np.ndarray) -> list[np.ndarray]:
    """Indices along the axes of cells that are numbered in C order."""
    # unravel_index of NumPy 2.4.6 is wrong for an array (n, 1) with n > 8192, so it is given flat ones.
    return [index.reshape(cells.shape) for index in np.unravel_index(cells.reshape(-1), grid.shape)]


def between(entries: PointEntries, grid: Grid, rows: np.ndarray, columns: np.ndarray, images: tuple[str, ...] = ()) -> np.ndarray:
    """A_ij between cells numbered in C order, `rows` and `columns` broadcast against each other.

    Along the axes `images` the second point is moved to its periodic image nearest to the first: x - x2 is in [-L/2, L/2).
    """
    first, second = cell_points(grid, rows), cell_points(grid, columns)
    for axis in images:
        length = grid.length[grid.axes.index(axis)]
        second[axis] = second[axis] + length * np.floor((first[axis] - second[axis]) / length + 0.5 + _TIE)
    return entries.at(first, second)


def _operations(node: Node) -> int:
    """How many operations a tree has, each distinct subexpression counted once."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if current not in seen and current.children:
            seen.add(current)
            stack.extend(current.children)
    return sum(len(part.children) for part in seen)
