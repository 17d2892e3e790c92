"""Arrays from outside: what may become values on a grid, checked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sftsolve.errors import FileError, GridError, nearest
from sftsolve.grid import Grid


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
        where, count = tuple(map(int, np.unravel_index(int(np.argmax(bad)), array.shape))), int(bad.sum())
        raise GridError(
            f"{what} {name!r} is not finite",
            expected="finite values everywhere",
            given=f"{count} values are NaN or infinite, the first at index {where}" if array.ndim else float(array),
        )
    return np.broadcast_to(array, grid.shape)


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return all(n in (1, m) for n, m in zip(shape, target, strict=True))


def open_dataset(path: Path, dataset: str) -> h5py.Dataset:
    """One data set of an HDF5 file; the file stays open as long as the data set is held.

    Raises
    ------
    FileError : no such file, not HDF5, or no such data set (the ones there are listed)
    """
    if not path.is_file():
        raise FileError("source file not found", expected="an HDF5 file", given=path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileError(f"cannot read {path} as HDF5", given=error, expected="an HDF5 file") from None
    found = file.get(dataset)
    if isinstance(found, h5py.Dataset):
        return found
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    file.close()
    raise FileError(f"no data set {dataset!r} in {path}", remedy=nearest(dataset, names))


def read_dataset(path: Path, dataset: str) -> np.ndarray:
    """One data set of an HDF5 file as an array.

    Raises
    ------
    FileError : as `open_dataset`, or data that cannot be read
    """
    found = open_dataset(path, dataset)
    try:
        return np.asarray(found[()])
    except OSError as error:
        raise FileError(f"cannot read {path} as HDF5", given=error, expected="an HDF5 file") from None
    finally:
        found.file.close()
