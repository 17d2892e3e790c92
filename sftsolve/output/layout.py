"""The file format in one place: names, attributes and chunk shapes of a finished result file.

One HDF5 file that xarray (CF), ParaView (VTKHDF) and plain h5py read alike::

    /                 Conventions, title, sftsolve_format, run_id, complete
    /t /tau           (T,) physical and training time; t is an unlimited dimension scale
    /z /y /x          (n,) cell centres, dimension scales
    /NAME /NAME_t     (T, *axes) field and velocity, dimensions attached to the scales
    /ts               time, tau and one (N,) dataset a scalar, sampled more often than the fields
    /meta             provenance: attributes; long texts and the configuration as datasets
    /VTKHDF           ImageData view; its point data are hard links to the fields, nothing is stored twice

Fields and scales live at the root because the netCDF-4 library does not find the scales of a field in a group.
Sources: CF Conventions 1.11, chapters 4-6; VTKHDF file format specification, version 2.2, ImageData and temporal data.
"""

from __future__ import annotations

import math

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.grid import Grid

FORMAT = 1
CONVENTIONS = "CF-1.11"

TIME, TRAINING_TIME = "t", "tau"
SCALARS, SCALARS_TIME = "ts", "time"
META, VTK = "meta", "VTKHDF"
RESERVED = (TIME, TRAINING_TIME, "x", "y", "z", SCALARS, META, VTK)

META_JSON = ("grid", "fields", "settings", "seeds", "argv", "versions", "cpu", "stats")

TIME_CHUNK = 1024
SCALARS_CHUNK = 8192
CHUNK_BYTES = 2 << 20
ROW_VALUES = 1 << 17

TIME_ATTRIBUTES = {"axis": "T", "units": "1", "long_name": "physical time"}
TRAINING_TIME_ATTRIBUTES = {"units": "1", "long_name": "training time, the integral of dt/gamma"}


def velocity_name(field: str) -> str:
    """Name of the data set that holds w_t of `field`."""
    return f"{field}_t"


def check_names(fields: tuple[str, ...]) -> None:
    """Raises `ActionError` where a field would take the place of another data set of the file."""
    for field in fields:
        if field in RESERVED:
            raise ActionError(
                f"the field name {field!r} is taken in result files",
                expected=f"a name other than {', '.join(RESERVED)}",
                given=", ".join(fields),
                remedy="rename the field",
            )
        if velocity_name(field) in fields:
            raise ActionError(
                f"the field {velocity_name(field)!r} has the name that the velocity of {field!r} has in result files",
                given=", ".join(fields),
                remedy=f"rename {velocity_name(field)!r}",
            )
    if len(set(fields)) < len(fields):
        raise ActionError("two fields have the same name", given=", ".join(fields), remedy="give each field a name of its own")


def axis_attributes(axis: str) -> dict[str, str]:
    """CF attributes of the coordinate of one space axis."""
    return {"axis": axis.upper(), "units": "1", "long_name": f"{axis} coordinate of the cell centres"}


def field_attributes(field: str) -> dict[str, str]:
    """CF attributes of a field; `coordinates` makes tau an auxiliary coordinate for xarray."""
    return {"long_name": f"field {field}", "units": "1", "coordinates": TRAINING_TIME}


def velocity_attributes(field: str) -> dict[str, str]:
    """CF attributes of the velocity of a field."""
    return {"long_name": f"velocity d{field}/dt", "units": "1", "coordinates": TRAINING_TIME}


def chunk_shape(shape: tuple[int, ...], itemsize: int, snapshots: int | None = None) -> tuple[int, ...]:
    """Chunk of a (T, *shape) data set.

    One time level, split along the slowest axes into even parts of 1 to 2 MiB, so that a chunk is one piece of memory
    and little is lost at the edges. Lines (1D) are short: several levels share a chunk of at most 2**17 values.
    """
    if len(shape) == 1 and shape[0] <= ROW_VALUES:
        levels = max(1, ROW_VALUES // shape[0])
        return (levels if snapshots is None else max(1, min(levels, snapshots)), shape[0])
    chunk = list(shape)
    for axis, count in enumerate(shape):
        size = math.prod(chunk) * itemsize
        if size <= CHUNK_BYTES:
            break
        parts = min(count, math.ceil(size / CHUNK_BYTES))
        chunk[axis] = math.ceil(count / parts)
    return (1, *chunk)


def stored_bytes(shape: tuple[int, ...], itemsize: int, levels: int) -> int:
    """Bytes that `levels` time levels of one field take on disk, the padding of edge chunks included."""
    chunk = chunk_shape(shape, itemsize, levels)
    return itemsize * math.prod(math.ceil(n / c) * c for n, c in zip((levels, *shape), chunk, strict=True))


def vtk_attributes(grid: Grid) -> dict[str, np.ndarray]:
    """Attributes of the VTKHDF group: an image, x first, whose points are the cell centres."""
    missing = 3 - grid.dimension
    origin = [float(axis[0]) for axis in reversed(grid.coordinates)] + [0.0] * missing
    spacing = [float(h) for h in reversed(grid.spacing)] + [1.0] * missing
    extent = [bound for n in (*reversed(grid.shape), *[1] * missing) for bound in (0, n - 1)]
    return {
        "Version": np.array([2, 2], dtype=np.int64),
        # VTK compares this attribute as a fixed-length string; the variable-length one that h5py makes of a str fails.
        "Type": np.array(b"ImageData", dtype="S9"),
        "WholeExtent": np.array(extent, dtype=np.int64),
        "Origin": np.array(origin),
        "Spacing": np.array(spacing),
        "Direction": np.eye(3).ravel(),
    }
