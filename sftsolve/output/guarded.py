"""A file under HDF5 that never fails: it remembers the first error and lets the library go on.

HDF5 does not survive a write that fails, on a full disk say: the file cannot be closed any more and the process dies of
a segmentation fault when it exits, long after the error was caught. So the library writes through `GuardedFile`, which
takes every write; after the first that the system refused, it keeps the small ones (HDF5's own tables, which the
library reads back when it closes) in memory and drops the rest. The owner asks `failure` after each call.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

_KEPT_BYTES = 1 << 20


class GuardedFile:
    """A new binary file with the methods that h5py asks of a file object.

    Raises
    ------
    OSError : the file cannot be created or exists already
    """

    def __init__(self, path: Path):
        self.failure: OSError | None = None
        self._file = io.FileIO(path, "x+")
        self._position = 0
        self._kept: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as `io.RawIOBase.seek` does."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.fstat(self._file.fileno()).st_size if start is None else start)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Not used: h5py takes a file object for one by this name, and reads by `readinto`."""
        raise io.UnsupportedOperation("read")

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` from the position, with what was kept in memory on top."""
        view, start = memoryview(buffer).cast("B"), self._position
        count = 0
        if not self._file.closed:
            self._file.seek(start)
            count = self._file.readinto(view) or 0
        for at, data in self._kept:
            lower, upper = max(at, start), min(at + len(data), start + len(view))
            if lower < upper:
                view[lower - start : upper - start] = data[lower - at : upper - at]
                count = max(count, upper - start)
        self._position += count
        return count

    def write(self, buffer: memoryview) -> int:
        """Write all of `buffer` at the position, or note the failure; never raises `OSError`."""
        view = memoryview(buffer).cast("B")
        size = len(view)
        if self.failure is None and not self._file.closed:
            self._attempt(view)
        if self.failure is not None and size <= _KEPT_BYTES:
            self._kept.append((self._position, bytes(view)))
        self._position += size
        return size

    def truncate(self, size: int) -> int:
        """Set the file's size, or note the failure."""
        if self.failure is None and not self._file.closed:
            try:
                self._file.truncate(size)
            except OSError as error:
                self.failure = error
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def synchronise(self) -> None:
        """Wait until the data are on the disk, or note the failure."""
        if self.failure is None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self.failure = error

    def close(self) -> None:
        """Close the file; some systems report a full quota only here.

        Where HDF5 could not close before, it goes on writing when the process ends: those writes are dropped, too.
        """
        try:
            self._file.close()
        except OSError as error:
            self.failure = self.failure or error

    def _attempt(self, view: memoryview) -> None:
        try:
            self._file.seek(self._position)
            done = 0
            while done < len(view):
                done += self._file.write(view[done:]) or 0
        except OSError as error:
            self.failure = error
