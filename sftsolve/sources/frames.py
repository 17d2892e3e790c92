"""A bank of arrays on a grid, one a frame: in memory or in an HDF5 file, of which only what is asked for is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sftsolve.errors import ActionError, FileError, GridError
from sftsolve.grid import Grid
from sftsolve.sources.arrays import as_array, open_dataset


class Frames:
    """What the user gave as (frame, *grid): an array, or ``{"file": path, "dataset": name}``.

    Raises
    ------
    ActionError : neither
    GridError : no real numbers
    """

    def __init__(self, what: str, given: Any):
        self.what = what
        self._array: np.ndarray | None = None
        self._place: tuple[Path, str] | None = None
        if isinstance(given, Mapping):
            if set(given) != {"file", "dataset"} or not isinstance(given["file"], (str, Path)):
                raise ActionError(f"{what} are not understood", expected=EXPECTED, given=repr(dict(given))[:80])
            self._place = Path(given["file"]), str(given["dataset"])
        else:
            self._array = as_array(what, given)
            if self._array.dtype.kind not in "fiub":
                raise GridError(f"{what} are not real", expected="real numbers", given=f"dtype {self._array.dtype}")
            if self._array.ndim < 2 or not len(self._array):
                raise GridError(f"{what} have no frames", expected="shape (frame, *grid.shape)", given=self._array.shape)

    def open(self, grid: Grid, keep: int = 1) -> OpenFrames:
        """Make them readable for one grid.

        Parameters
        ----------
        keep : number of frames of a file that stay in memory

        Raises
        ------
        FileError : no such data set
        GridError : frames of another shape
        """
        found: Any = self._array if self._place is None else open_dataset(*self._place)
        if found.shape[1:] != grid.shape or not found.shape[0]:
            raise GridError(
                f"{self.what} do not fit the grid",
                expected=f"shape (frame, {', '.join(map(str, grid.shape))})",
                given=f"shape {found.shape}",
            )
        if found.dtype.kind not in "fiub":
            raise GridError(f"{self.what} are not real", expected="real numbers", given=f"dtype {found.dtype}")
        return OpenFrames(self.what, found, keep)

    def bytes_on(self, grid: Grid, keep: int = 1) -> float:
        """Bytes that they hold; as `open` says, of a file."""
        return float(8 * keep * grid.size if self._array is None else self._array.nbytes)

    def count(self) -> int:
        """Number of frames."""
        if self._array is not None:
            return len(self._array)
        assert self._place is not None
        found = open_dataset(*self._place)
        count = found.shape[0] if found.ndim else 0
        found.file.close()
        return count

    def __repr__(self) -> str:
        return f"array{self._array.shape}" if self._array is not None else f"{self._place}"


EXPECTED = 'an array (frame, *grid.shape), or {"file": path, "dataset": name}'


class OpenFrames:
    """Frames on a grid. `reads` counts the frames that were taken from the array or the file."""

    def __init__(self, what: str, data: Any, keep: int):
        self._what, self._data, self._keep = what, data, keep
        self._kept: dict[int, np.ndarray] = {}  # the one that was asked for last at the end
        self.reads = 0

    def __len__(self) -> int:
        return int(self._data.shape[0])

    def read(self, number: int) -> np.ndarray:
        """One frame; it may be overwritten by the next ones.

        Raises
        ------
        GridError : values that are not finite
        FileError : the file cannot be read
        """
        frame = self._kept.pop(number, None)
        if frame is None:
            frame = self._data[number] if isinstance(self._data, np.ndarray) else self._from_file(number)
            self.reads += 1
            if frame.dtype.kind == "f" and not np.isfinite(frame).all():
                given = f"NaN or infinity in frame {number}"
                raise GridError(f"{self._what} are not finite", expected="finite values", given=given)
        if not isinstance(self._data, np.ndarray):
            self._kept[number] = frame
        return frame

    def _from_file(self, number: int) -> np.ndarray:
        """A frame of a data set, in the place of the one that was not asked for the longest."""
        full = len(self._kept) >= self._keep
        frame = self._kept.pop(next(iter(self._kept))) if full else np.empty(self._data.shape[1:], self._data.dtype)
        try:
            self._data.read_direct(frame, np.s_[number])
        except OSError as error:
            raise FileError(f"frame {number} of {self._what} cannot be read", given=error) from None
        return frame
