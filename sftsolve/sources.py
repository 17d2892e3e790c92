"""Sources J(x), K(x): what training data become. An array, a number, an expression, a data set in an HDF5 file, or a function
of the grid; each evaluated once on the grid it meets.

A new kind of source is one class with `values(grid, parameters)`; `make_source` tells them apart by what was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from sftsolve.errors import ActionError, ExpressionError, FileError, GridError, nearest
from sftsolve.expression import Names, evaluate, parse
from sftsolve.grid import Grid


class Source(Protocol):
    """Something that has a value in every cell of a grid."""

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        """Array that broadcasts to `grid.shape`."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Values on the cells, in axis order."""

    array: np.ndarray

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        return self.array


@dataclass(frozen=True)
class ExpressionSource:
    """An expression of the coordinates and the action's parameters, e.g. ``"cos(2*pi*x)"``."""

    text: str

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        return evaluate_on(grid, self.text, parameters)


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
    ExpressionError : not in the language, or an unknown name
    """
    mesh = grid.mesh
    try:
        tree = parse(text, Names(values=[*mesh, *parameters]), what)
    except ExpressionError as error:
        if "unknown name 't'" in error.message:
            raise ExpressionError(
                error.message,
                expected="an expression of " + ", ".join(mesh),
                remedy="sources that vary in time are not supported yet",
            ) from None
        raise
    with np.errstate(all="ignore"):
        return np.asarray(evaluate(tree, {**mesh, **parameters}), float)


def read_dataset(path: Path, dataset: str) -> np.ndarray:
    """One data set of an HDF5 file as an array.

    Raises
    ------
    FileError : no such file, not HDF5, or no such data set (the ones there are listed)
    """
    if not path.is_file():
        raise FileError("source file not found", expected="an HDF5 file", given=path)
    try:
        with h5py.File(path, "r") as file:
            found = file.get(dataset)
            if not isinstance(found, h5py.Dataset):
                names: list[str] = []
                file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
                raise FileError(f"no data set {dataset!r} in {path}", remedy=nearest(dataset, names))
            return np.asarray(found[()])
    except OSError as error:
        raise FileError(f"cannot read {path} as HDF5", given=error, expected="an HDF5 file") from None


def make_source(name: str, spec: Any) -> Source:
    """Turn what the user gave for source `name` into a source.

    Raises
    ------
    ActionError : none of the known forms
    """
    if isinstance(spec, bool) or spec is None:
        pass
    elif callable(getattr(spec, "values", None)) and not isinstance(spec, Mapping):
        return spec
    elif isinstance(spec, str):
        return ExpressionSource(spec)
    elif isinstance(spec, (int, float, np.ndarray, np.number, list, tuple)):
        return ArraySource(as_array(name, spec))
    elif callable(spec):
        return FunctionSource(spec)
    elif isinstance(spec, Mapping) and set(spec) == {"expression"}:
        return ExpressionSource(str(spec["expression"]))
    elif isinstance(spec, Mapping) and set(spec) == {"file", "dataset"} and isinstance(spec["file"], (str, Path)):
        return FileSource(Path(spec["file"]), str(spec["dataset"]))
    raise ActionError(
        f"source {name!r} is not understood",
        expected='an array, a number, an expression, {"file": path, "dataset": name} or a function of the grid',
        given=repr(spec)[:80],
    )


def as_array(name: str, values: Any, what: str = "source") -> np.ndarray:
    """`values` as an array.

    Raises
    ------
    GridError : nested lists of unequal lengths
    """
    try:
        return np.asarray(values)
    except ValueError:
        raise GridError(f"{what} {name!r} is not an array", expected="rows of equal length", given=repr(values)[:80]) from None


def on_grid(grid: Grid, name: str, values: Any, what: str = "source") -> np.ndarray:
    """`values` as a finite float64 array of the grid's shape (a read-only broadcast where possible).

    Raises
    ------
    GridError : wrong shape, not real numbers, not finite
    """
    array = as_array(name, values, what)
    if array.dtype.kind not in "fiub":
        raise GridError(f"{what} {name!r} is not real", expected="real numbers", given=f"dtype {array.dtype}")
    array = array.astype(np.float64, copy=False)
    if not (array.ndim == 0 or array.shape == grid.shape or (array.ndim == grid.dimension and _fits(array.shape, grid.shape))):
        raise GridError(
            f"{what} {name!r} does not fit the grid",
            expected=f"shape {grid.shape} (axes {', '.join(grid.axes)})",
            given=f"shape {array.shape}",
        )
    bad = ~np.isfinite(array)
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), array.shape) if array.ndim else ()
        raise GridError(
            f"{what} {name!r} is not finite",
            expected="finite values everywhere",
            given=f"{int(bad.sum())} values are NaN or infinite, the first at index {tuple(int(i) for i in where)}",
        )
    return np.broadcast_to(array, grid.shape)


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return all(n in (1, m) for n, m in zip(shape, target, strict=True))
