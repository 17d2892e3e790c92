"""Fields in a result file that are read when, and as far as, they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sftsolve.errors import FileError


def open_file(path: Path, run_id: str | None = None) -> h5py.File:
    """Open a result file for reading; with `run_id`, only if it still holds that run.

    Raises
    ------
    FileError : the file is gone, damaged, or holds another run by now
    """
    try:
        # The files never change once they have their name, so a system without file locks can read them all the same.
        file = h5py.File(path, "r", locking="best-effort")
    except FileNotFoundError as error:
        raise FileError(f"{path} is no longer there", remedy="run again, or open the file from where it is now") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read", given=error, remedy="check that it was copied whole and may be read") from error
    if run_id is not None and file.attrs.get("run_id") != run_id:
        file.close()
        raise FileError(f"{path} has been replaced by another run", remedy="open it again")
    return file


class LazyFields(np.lib.mixins.NDArrayOperatorsMixin):
    """An array (n, field, *axes) in a result file, one data set a field.

    It has `shape`, `dtype`, `ndim`, `size`, `len()` and NumPy's basic indexing (integers, slices, `...`, `None`), and one
    list or array of time levels in the first place; only what is asked for is read. NumPy's functions and operators take it
    as an array, and read all of it. The file is opened for each read and closed after it: nothing is held between reads, so
    that a later run can replace the file; reading after that raises.

    Raises
    ------
    FileError : (on reading) the file is gone, damaged, or has been replaced by another run
    """

    def __init__(self, path: Path, run_id: str, names: Sequence[str], shape: tuple[int, ...], dtype: np.dtype):
        # So that a change of the working directory does not lose the file.
        self._path = path.absolute()
        self._run_id = run_id
        self._names = tuple(names)
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """Number of axes, time and field included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that the whole takes in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        entries = key if isinstance(key, tuple) else (key,)
        if entries and isinstance(entries[0], (list, np.ndarray)) and np.ndim(entries[0]):
            levels = np.arange(len(self))[np.asarray(entries[0], dtype=None if len(entries[0]) else np.intp)]
            rest = entries[1:]
            rows = [self[(int(level), *rest)] for level in levels.ravel()]
            shape = rows[0].shape if rows else self[(slice(0, 0), *rest)].shape[1:]
            return np.array(rows, dtype=self.dtype).reshape(*levels.shape, *shape)
        whole = _expand(entries, self.ndim)
        places = [entry for entry in whole if entry is not None]
        data = self._read([_forward(entry, n) for entry, n in zip(places, self.shape, strict=True)])
        # What was read has every axis, and runs forward; drop, add and turn axes in memory.
        return data[tuple(_afterwards(entry) for entry in whole)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("fields in a file cannot become an array without a copy")
        return np.asarray(self[...], dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(entry) if isinstance(entry, LazyFields) else entry for entry in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def _read(self, selection: list[slice]) -> np.ndarray:
        time, fields, *space = selection
        values = np.empty([len(range(s.start, s.stop, s.step)) for s in selection], dtype=self.dtype)
        if not values.size:
            return values
        with open_file(self._path, self._run_id) as file:
            for number, name in enumerate(self._names[fields]):
                try:
                    file[name].read_direct(values, source_sel=(time, *space), dest_sel=np.s_[:, number])
                except OSError as error:
                    raise FileError(f"field {name!r} in {self._path} is damaged", given=error, remedy="run again") from error
        return values

    def __repr__(self) -> str:
        return f"LazyFields(shape={self.shape}, dtype={self.dtype}, names={self._names}, file={str(self._path)!r})"


def _expand(entries: tuple[Any, ...], ndim: int) -> list[Any]:
    """`entries` with `...` and missing places filled by full slices; integers, slices and None."""
    if sum(entry is Ellipsis for entry in entries) > 1:
        raise IndexError("an index can have only one ellipsis")
    missing = ndim - sum(entry is not None and entry is not Ellipsis for entry in entries)
    if missing < 0:
        raise IndexError(f"too many indices: {ndim} axes, {ndim - missing} indices")
    where = next((place for place, entry in enumerate(entries) if entry is Ellipsis), len(entries))
    return [*entries[:where], *[slice(None)] * missing, *entries[where + 1 :]]


def _forward(entry: Any, n: int) -> slice:
    """The slice with positive step, start and stop that reads what `entry` names on an axis of n places."""
    if isinstance(entry, slice):
        places = range(*entry.indices(n))
        places = places if places.step > 0 else places[::-1]
        return slice(places.start, places.stop, places.step) if places else slice(0, 0, 1)
    try:
        if isinstance(entry, (bool, np.bool_)):
            raise TypeError
        number = operator.index(entry)
    except TypeError:
        raise IndexError(
            "fields in a file take integers, slices, ..., None, and one list of time levels in the first place; "
            "read them first for more: numpy.asarray(result.w)[...]"
        ) from None
    if not -n <= number < n:
        raise IndexError(f"index {number} is out of bounds for an axis of {n} places")
    return slice(number % n, number % n + 1, 1)


def _afterwards(entry: Any) -> Any:
    if isinstance(entry, slice):
        return slice(None, None, -1 if (entry.step or 1) < 0 else 1)
    return None if entry is None else 0
