"""Writers: where the time loop puts snapshots and time series, in memory or in a file."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from sftsolve.errors import FileError, GridError
from sftsolve.output import layout, provenance
from sftsolve.output.description import RunDescription, Stats
from sftsolve.output.guarded import GuardedFile
from sftsolve.output.result import Result, format_of, open_result
from sftsolve.output.resultfile import ResultFile

# Left free so that a run that stops for want of room can still close its file.
_RESERVE_BYTES = 8 << 20


class Writer(ABC):
    """Takes what a run puts out: `begin`, any number of `snapshot` and `scalars`, then `finish` or `abandon`.

    A context manager: leaving it without `finish` abandons.
    """

    def begin(self, run: RunDescription) -> None:
        """Get ready for `run`; raises `FileError` where that is impossible."""
        self._run = run
        self._meta = provenance.begin(run)
        self._rows = np.empty((layout.SCALARS_CHUNK, 2 + len(run.scalar_names)))
        self._filled = 0
        self._open()

    def snapshot(self, t: float, tau: float, w: np.ndarray, v: np.ndarray | None = None) -> None:
        """Keep a copy of fields w and velocities v (field, *shape) at physical time t and training time tau.

        Both may be strided views, such as the interior of an array with a halo. v is left out where the run has none.

        Raises
        ------
        GridError : an array has another shape than the run
        FileError : no room is left. What is there can still be finished, unless writing itself failed: then nothing is left
        """
        expected = (len(self._run.fields), *self._run.grid.shape)
        for values in (w, v) if self._run.has_velocity else (w,):
            if values is None or values.shape != expected:
                given = None if values is None else values.shape
                raise GridError("a snapshot does not fit the run", expected=f"shape {expected}", given=str(given))
        self._append(t, tau, w, v if self._run.has_velocity else None)

    def scalars(self, t: float, tau: float, values: Sequence[float]) -> None:
        """Add one row to the time series, in the order of `RunDescription.scalar_names`; kept in blocks."""
        row = self._rows[self._filled]
        row[0], row[1] = t, tau
        row[2:] = values
        self._filled += 1
        if self._filled == len(self._rows):
            self._flush_scalars()

    def finish(self, stats: Stats, status: str = "complete", message: str = "") -> Result:
        """End the run as "complete", "interrupted" or "failed" and hand out its result."""
        self._flush_scalars()
        return self._seal(replace(stats, status=status, message=message))

    @abstractmethod
    def abandon(self) -> None:
        """Drop everything; nothing is left on disk. Harmless after `finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.abandon()

    def _flush_scalars(self) -> None:
        rows, self._filled = self._rows[: self._filled], 0
        if len(rows):
            self._append_scalars(rows)

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _append(self, t: float, tau: float, w: np.ndarray, v: np.ndarray | None) -> None: ...

    @abstractmethod
    def _append_scalars(self, rows: np.ndarray) -> None: ...

    @abstractmethod
    def _seal(self, stats: Stats) -> Result: ...


class MemoryWriter(Writer):
    """Keeps everything in memory."""

    def _open(self) -> None:
        run = self._run
        room = (run.snapshots or 8, len(run.fields), *run.grid.shape)
        self._times: list[tuple[float, float]] = []
        self._blocks: list[np.ndarray] = []
        self._w = np.empty(room, dtype=run.dtype)
        self._v = np.empty(room if run.has_velocity else (0, *room[1:]), dtype=run.dtype)

    def _append(self, t: float, tau: float, w: np.ndarray, v: np.ndarray | None) -> None:
        level = len(self._times)
        if level == len(self._w):
            self._resize(2 * level)
        self._w[level] = w
        if v is not None:
            self._v[level] = v
        self._times.append((t, tau))

    def _append_scalars(self, rows: np.ndarray) -> None:
        self._blocks.append(rows.copy())

    def _resize(self, levels: int) -> None:
        # In place, so that large results are not held twice; no views of these arrays are out before the end.
        self._w.resize((levels, *self._w.shape[1:]), refcheck=False)
        if self._run.has_velocity:
            self._v.resize((levels, *self._v.shape[1:]), refcheck=False)

    def _seal(self, stats: Stats) -> Result:
        run = self._run
        self._resize(len(self._times))
        t, tau = np.array(self._times, dtype=np.float64).reshape(-1, 2).T.copy()
        names = (layout.TIME, layout.TRAINING_TIME, *run.scalar_names)
        columns = np.concatenate([np.empty((0, len(names))), *self._blocks]).T.copy()
        scalars = dict(zip(names, columns, strict=True))
        meta = provenance.end(self._meta, asdict(stats))
        result = Result(run.grid, run.fields, t, tau, self._w, self._v if run.has_velocity else None, scalars, stats, meta)
        self.abandon()
        return result

    def abandon(self) -> None:
        """Let go of the arrays."""
        self._w = self._v = np.empty(0)
        self._blocks = []


class HDF5Writer(Writer):
    """Writes one HDF5 file in the layout of `sftsolve.output.layout`, readable by xarray, ParaView and h5py.

    Snapshots go to a temporary file beside `path` as they come, which takes the name `path` when the run is finished; until
    then a result already there stays as it is. An earlier *result of sftsolve* at `path` is replaced; any other file is
    refused.

    Parameters
    ----------
    path : name of the file; its directory must exist
    overwrite : False refuses to replace an earlier result, too

    Raises
    ------
    FileError : the directory is missing or not writable, or another file is in the way (at once); too little room, or a
        disk that fails (from the methods; after a failed write nothing is left)
    """

    def __init__(self, path: str | Path, overwrite: bool = True):
        self.path = Path(path).expanduser()
        # Through links, so that the data lie on the disk that they point to and the link stays.
        self._target = Path(os.path.realpath(self.path))
        self._overwrite = overwrite
        self._guard: GuardedFile | None = None
        self._body: ResultFile | None = None
        self._temporary = self._target
        _check_target(self._target, overwrite)

    def _open(self) -> None:
        run = self._run
        _check_target(self._target, self._overwrite)
        self._level_bytes = layout.stored_bytes(run.grid.shape, np.dtype(run.dtype).itemsize, 1) * run.data_fields
        self._check_room(layout.stored_bytes(run.grid.shape, np.dtype(run.dtype).itemsize, run.snapshots or 1) * run.data_fields)
        self._temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}-{self._meta['run_id'][:8]}.tmp")
        try:
            self._guard = GuardedFile(self._temporary)
        except OSError as error:
            raise FileError(
                f"cannot write to {self._target.parent}", given=error, remedy="choose another directory for the output"
            ) from error
        self._attempt(self._create)

    def _create(self) -> None:
        self._body = ResultFile(self._guard, self._run, self._meta)

    def _append(self, t: float, tau: float, w: np.ndarray, v: np.ndarray | None) -> None:
        self._check_room(self._level_bytes)
        self._attempt(lambda: self._opened()[0].append(t, tau, w, v))

    def _append_scalars(self, rows: np.ndarray) -> None:
        self._attempt(lambda: self._opened()[0].append_scalars(rows))

    def _seal(self, stats: Stats) -> Result:
        self._attempt(lambda: self._seal_body(stats))
        try:
            open_result(self._temporary)
        except FileError:
            self.abandon()
            raise
        self._guard = self._body = None
        try:
            _check_target(self._target, self._overwrite)
            os.replace(self._temporary, self._target)
        except (OSError, FileError) as error:
            raise FileError(
                f"the finished result could not be given the name {self.path}",
                given=error,
                remedy=f"the result is whole: move {self._temporary} to where you want it",
            ) from error
        _synchronise_directory(self._target.parent)
        return open_result(self.path)

    def _seal_body(self, stats: Stats) -> None:
        body, guard = self._opened()
        body.seal(provenance.end(self._meta, asdict(stats)), complete=stats.status == "complete")
        guard.synchronise()
        guard.close()

    def abandon(self) -> None:
        """Close and remove the temporary file; a result that was at `path` before stays."""
        guard, self._guard = self._guard, None
        body, self._body = self._body, None
        if guard is None:
            return
        try:
            if body is not None:
                body.close()
        except (OSError, RuntimeError):
            pass
        finally:
            guard.close()
            self._temporary.unlink(missing_ok=True)

    def _opened(self) -> tuple[ResultFile, GuardedFile]:
        if self._body is None or self._guard is None:
            raise FileError(f"the writer of {self.path} is not open", expected="begin, snapshots, then finish, once each")
        return self._body, self._guard

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do `action`; where the disk or HDF5 fails, clean up and say so."""
        reason: Exception | None = None
        try:
            action()
        except (OSError, RuntimeError) as error:
            reason = error
        reason = (self._guard.failure if self._guard else None) or reason
        if reason is not None:
            self.abandon()
            raise FileError(
                f"writing {self.path} failed; nothing of it is left",
                given=reason,
                remedy="make room or write to another disk; save fewer snapshots, or in float32",
            ) from reason

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._target.parent).free
        if free < needed + _RESERVE_BYTES:
            raise FileError(
                f"there is too little room for {self.path}",
                expected=f"{(needed + _RESERVE_BYTES) / 1e6:.1f} MB",
                given=f"{free / 1e6:.1f} MB free",
                remedy="make room or write to another disk; save fewer snapshots, or in float32",
            )


def _check_target(path: Path, overwrite: bool) -> None:
    directory = path.parent
    if not directory.is_dir():
        raise FileError(f"there is no directory {directory}", expected="an existing one", remedy=f"mkdir -p {directory}")
    if not os.access(directory, os.W_OK):
        raise FileError(f"the directory {directory} is not writable", remedy="choose another directory for the output")
    if not path.exists():
        return
    if not path.is_file() or format_of(path) is None:
        raise FileError(
            f"{path} is in the way, and it was not written by sftsolve",
            expected="a new name, or that of an earlier result",
            remedy="move it away, or choose another name for the output",
        )
    if not overwrite:
        raise FileError(f"{path} exists", remedy="allow overwriting, or choose another name for the output")


def _synchronise_directory(directory: Path) -> None:
    """Make a new name last through a power cut, where the system has such a thing."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
