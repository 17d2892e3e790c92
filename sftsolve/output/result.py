"""What a run leaves: `Result`, in memory or in a file, and `open_result`, which reads it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sftsolve.errors import ConfigError, FileError, nearest
from sftsolve.grid import Grid
from sftsolve.output import layout
from sftsolve.output.description import Stats
from sftsolve.output.lazy import LazyFields, open_file
from sftsolve.output.xarrays import to_dataset

if TYPE_CHECKING:
    import xarray

FieldArray = np.ndarray | LazyFields


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Snapshots and time series of one run.

    Attributes
    ----------
    grid : the grid
    fields : names of the fields, in the order of the second axis of w and v
    t : physical times of the snapshots, (n,)
    tau : training times, the integral of dt/gamma, (n,); NaN at gamma = 0
    w : fields (n, field, *shape), axes in grid order, x last; a NumPy array, or `LazyFields` where a file holds them
    v : velocities dw/dt per unit of physical time, as w; None where they were not stored
    scalars : time series by name, each (N,), sampled at scalars["t"] and scalars["tau"]
    stats : the work done, the method, and how the run ended
    meta : provenance: configuration, settings, versions, machine, command, times
    path : the file, None in memory
    """

    grid: Grid
    fields: tuple[str, ...]
    t: np.ndarray
    tau: np.ndarray
    w: FieldArray
    v: FieldArray | None
    scalars: Mapping[str, np.ndarray]
    stats: Stats
    meta: Mapping[str, Any]
    path: Path | None = None

    @property
    def complete(self) -> bool:
        """Whether the run reached its end."""
        return self.stats.status == "complete"

    def __getitem__(self, name: str) -> np.ndarray:
        """All snapshots of one field, or with NAME_t of its velocity: (n, *shape).

        Raises
        ------
        ConfigError : no such field
        """
        known = {field: (self.w, number) for number, field in enumerate(self.fields)}
        if self.v is not None:
            known |= {layout.velocity_name(field): (self.v, number) for number, field in enumerate(self.fields)}
        if name not in known:
            raise ConfigError(f"the result has no field {name!r}", given=repr(name), remedy=nearest(str(name), tuple(known)))
        values, number = known[name]
        return values[:, number]

    def to_xarray(self) -> xarray.Dataset:
        """The snapshots as an `xarray.Dataset`.

        Dimensions t and the axes, tau along t as a second time coordinate, one variable a field and NAME_t its velocity.
        Where a file holds the fields, a variable reads what is asked of it.

        Raises
        ------
        ConfigError : xarray is not installed
        """
        attributes = {
            "Conventions": layout.CONVENTIONS,
            "title": self.meta["title"],
            "sftsolve_format": layout.FORMAT,
            "run_id": self.meta["run_id"],
            "complete": int(self.complete),
        }
        return to_dataset(self.grid, self.fields, self.t, self.tau, self.w, self.v, attributes)

    def close(self) -> None:
        """Does nothing: no file is open between reads. Here so that results can be used like other files."""

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.grid.shape)
        span = f"t = {self.t[0]:.6g} to {self.t[-1]:.6g}" if len(self.t) else "no times"
        lines = [
            f"Result: {', '.join(self.fields)} on {shape} cells, {len(self.t)} snapshots, {span}",
            f"  {self.stats.status}: {self.stats.steps} steps by {self.stats.method or '?'} in {self.stats.wall_time:.3g} s",
        ]
        if self.stats.message:
            lines.append(f"  {self.stats.message}")
        if len(self.scalars) > 2:
            names = ", ".join(name for name in self.scalars if name not in (layout.TIME, layout.TRAINING_TIME))
            lines.append(f"  time series: {names} ({len(self.scalars[layout.TIME])} rows)")
        if self.path is not None:
            lines.append(f"  file: {self.path}")
        return "\n".join(lines)


def open_result(path: str | Path) -> Result:
    """Open a result file; fields are read when they are asked for.

    A file of a run that was interrupted or failed opens like any other, with `complete` False.

    Raises
    ------
    FileError : there is no such file, or it is not HDF5, not written by sftsolve, of a newer format, or damaged
    """
    path = Path(path).expanduser()
    check_readable(path)
    with open_file(path) as file:
        try:
            return _read(file, path)
        except (KeyError, OSError, RuntimeError, ValueError, TypeError) as error:
            raise FileError(f"{path} is damaged", given=error, remedy="run again, or take another copy") from error


def check_readable(path: Path) -> None:
    """Raises `FileError` unless `path` is a result file of a format that this version knows."""
    if path.is_dir() or not path.exists():
        siblings = tuple(entry.name for entry in path.parent.glob("*.h5")) if path.parent.is_dir() else ()
        raise FileError(
            f"{path} is a directory" if path.is_dir() else f"there is no file {path}",
            expected="a result file of sftsolve",
            remedy=nearest(path.name, siblings) if siblings else None,
        )
    marker = format_of(path)
    if marker is None:
        raise FileError(f"{path} was not written by sftsolve", expected="a result file of sftsolve")
    if marker > layout.FORMAT:
        raise FileError(
            f"{path} was written by a newer sftsolve",
            expected=f"format {layout.FORMAT} or older",
            given=f"format {marker}",
            remedy="pip install --upgrade sftsolve",
        )


def format_of(path: Path) -> int | None:
    """Number of the file format, None for a file that is not a result of sftsolve.

    Raises
    ------
    FileError : the file may not be read, or is a damaged HDF5 file
    """
    try:
        if not h5py.is_hdf5(path):
            # is_hdf5 also says no where reading is not allowed.
            with path.open("rb"):
                return None
    except OSError as error:
        raise FileError(f"{path} cannot be read", given=error, remedy="check its permissions") from error
    with open_file(path) as file:
        marker = file.attrs.get("sftsolve_format")
        return None if marker is None else int(marker)


def _read(file: h5py.File, path: Path) -> Result:
    meta = _read_meta(file[layout.META])
    names = tuple(meta["fields"])
    t, tau = file[layout.TIME][...], file[layout.TRAINING_TIME][...]
    group = file[layout.SCALARS]
    columns = {name: column[...] for name, column in group.items()}
    training = columns.pop(layout.TRAINING_TIME)
    scalars = {layout.TIME: columns.pop(layout.SCALARS_TIME), layout.TRAINING_TIME: training, **columns}
    grid = Grid(**meta["grid"])
    shape = (len(t), len(names), *grid.shape)

    def lazy(data_names: tuple[str, ...]) -> LazyFields:
        return LazyFields(path, str(file.attrs["run_id"]), data_names, shape, file[data_names[0]].dtype)

    velocities = tuple(layout.velocity_name(name) for name in names)
    v = lazy(velocities) if all(name in file for name in velocities) else None
    known = {entry.name for entry in fields(Stats)}
    stats = Stats(**{name: value for name, value in meta["stats"].items() if name in known})
    return Result(grid, names, t, tau, lazy(names), v, scalars, stats, meta, path)


def _read_meta(group: h5py.Group) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    for name, value in group.attrs.items():
        meta[name] = value.item() if isinstance(value, np.generic) else value
    meta |= {name: dataset.asstr()[()] for name, dataset in group.items()}
    return {name: json.loads(value) if name in layout.META_JSON else value for name, value in meta.items()}
