"""What kernels between two fields share: which fields they join, and the point w_ref about which they act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sftsolve.errors import ActionError, GridError, nearest
from sftsolve.grid import Grid
from sftsolve.sources import Source, make_source, on_grid
from sftsolve.state import Layout

ASYMMETRY = 1e-10  # relative; rounding in data that are meant to be symmetric stays below it


def joined(kernel: str, *names: object) -> tuple[str, ...]:
    """The distinct field names of a kernel, in the order given.

    Raises
    ------
    ActionError : something that is no name
    """
    for name in names:
        if not isinstance(name, str) or not name:
            raise ActionError(f"{kernel} joins fields by their names", expected="text such as 'w'", given=repr(name)[:80])
    return tuple(dict.fromkeys(str(name) for name in names))


class Reference:
    """The values w_ref of a kernel's fields, for kernels that act on w - w_ref.

    Parameters
    ----------
    fields : the kernel's fields
    about : None for zero; an array of the grid's shape, a number or an expression of the coordinates, where the kernel has one
        field; a mapping from field names to such values where it has several (fields that are not named have zero)

    Raises
    ------
    ActionError : values for no or for unknown fields, or in no known form
    """

    def __init__(self, fields: tuple[str, ...], about: Any):
        self._sources: dict[str, Source] = {}
        if about is None:
            return
        named = isinstance(about, Mapping) and not set(about) & {"expression", "file"}
        if not named and len(fields) > 1:
            raise ActionError(
                "about= of a kernel between two fields needs the fields' names",
                expected="{" + ", ".join(f"{name!r}: values" for name in fields) + "}",
                given=type(about).__name__,
            )
        for name, value in about.items() if named else ((fields[0], about),):
            if name not in fields:
                raise ActionError(f"about= names field {name!r}", remedy=nearest(str(name), fields))
            self._sources[name] = make_source(f"about of {name}", value)

    def bytes_on(self, layout: Layout) -> float:
        """Bytes that `padded` fills."""
        return float(layout.bytes_of(len(self._sources)))

    def padded(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> np.ndarray | None:
        """w_ref of all `fields` in padded storage (field, Z, Y, X); None where it vanishes.

        Raises
        ------
        GridError : wrong shape, or values that are not finite
        """
        if not self._sources:
            return None
        storage = layout.zeros(len(fields))
        for name, source in self._sources.items():
            values = on_grid(grid, name, source.values(grid, {}), "about= of field")
            layout.interior(storage)[fields.index(name)] = values
        return storage


def check_finite(what: str, values: np.ndarray) -> None:
    """Refuse values that are not finite real numbers, without a copy of the array.

    Raises
    ------
    ActionError : complex or other values, NaN or infinity
    """
    if values.dtype.kind not in "fiub":
        raise ActionError(f"{what} is not real", expected="real numbers", given=f"dtype {values.dtype}")
    if values.dtype.kind == "f":
        for start in range(0, len(values), max(1, (1 << 20) // max(1, values[:1].size))):
            part = values[start : start + max(1, (1 << 20) // max(1, values[:1].size))]
            bad = ~np.isfinite(part)
            if bad.any():
                where = np.unravel_index(int(np.argmax(bad)), part.shape)
                index = (int(where[0]) + start, *(int(i) for i in where[1:]))
                raise ActionError(f"{what} is not finite", expected="finite values", given=f"{part[where]} at index {index}")


def as_bank(what: str, values: Any, leading: int) -> np.ndarray:
    """Functions on a grid as a contiguous float64 or float32 array, not copied where it is one.

    Parameters
    ----------
    leading : number of axes before those of the grid

    Raises
    ------
    ActionError : no such array, empty or not finite
    """
    array = np.asarray(values)
    if not leading < array.ndim <= leading + 3 or array.size == 0:
        raise ActionError(
            f"{what} has the wrong number of axes",
            expected="(rank, *grid.shape)" if leading == 1 else "(rank, field, *grid.shape)",
            given=f"shape {array.shape}",
        )
    check_finite(what, array)
    return np.ascontiguousarray(array, None if array.dtype in (np.float64, np.float32) else np.float64)


def check_shape(what: str, shape: tuple[int, ...], grid: Grid) -> None:
    """Refuse functions that live on another grid.

    Raises
    ------
    GridError : `shape` is not the grid's
    """
    if shape != grid.shape:
        raise GridError(
            f"{what} does not fit the grid", expected=f"shape {grid.shape} (axes {', '.join(grid.axes)})", given=f"shape {shape}"
        )


def inner_products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Inner products of two banks in double precision, in pieces that stay small."""
    total = np.zeros((len(one), len(other)))
    for start in range(0, one.shape[1], 1 << 14):
        piece = slice(start, start + (1 << 14))
        total += np.asarray(one[:, piece], np.float64) @ np.asarray(other[:, piece], np.float64).T
    return total
