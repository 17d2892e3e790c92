"""The body of a result file: an open HDF5 file in the layout of `layout.py` that grows by time levels.

It knows nothing of names on disk, renaming or failing disks (`writer.py` does), so that any file with the same inside,
a segment of a long run for one, can be written by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from sftsolve.output import layout
from sftsolve.output.description import RunDescription
from sftsolve.output.provenance import to_json

# HDF5 allows attributes of up to 64 KiB; longer texts become data sets.
_ATTRIBUTE_BYTES = 32 << 10
_AS_DATASET = ("config", "settings")


class ResultFile:
    """Creates the data sets of `run` in `target` and appends to them.

    Parameters
    ----------
    target : file object to write to (empty, seekable)
    run : description of the run
    meta : provenance; what becomes known later is given to `seal`
    """

    def __init__(self, target: Any, run: RunDescription, meta: Mapping[str, Any]):
        self.run = run
        self.levels = 0
        self._times: list[tuple[float, float]] = []
        self._rows = 0
        self._capacity = run.snapshots or 16
        self._file = h5py.File(target, "w", track_order=True)
        self._file.attrs.update(
            {
                "Conventions": layout.CONVENTIONS,
                "title": meta["title"],
                "sftsolve_format": np.int64(layout.FORMAT),
                "run_id": meta["run_id"],
                "complete": np.int8(0),
            }
        )
        self._create_scales()
        self._fields = [self._create_field(name, layout.field_attributes(name)) for name in run.fields]
        self._velocities: list[h5py.Dataset] = []
        if run.has_velocity:
            names = [(layout.velocity_name(name), layout.velocity_attributes(name)) for name in run.fields]
            self._velocities = [self._create_field(name, attributes) for name, attributes in names]
        self._columns = self._create_scalars()
        self._buffer = np.empty((self._fields[0].chunks[1], *run.grid.shape[1:]), dtype=run.dtype)

    def append(self, t: float, tau: float, w: np.ndarray, v: np.ndarray | None) -> None:
        """Write one time level; w and v are (field, *shape) and may be strided views. Without velocities v is not used.

        A level counts once all its parts are there, so what an exception leaves half done is not seen.
        """
        if self.levels == self._capacity:
            self._resize(2 * self._capacity)
        velocities = v if v is not None and self._velocities else ()
        for dataset, values in zip((*self._fields, *self._velocities), (*w, *velocities), strict=True):
            self._write_level(dataset, values)
        self._times.append((t, tau))
        self.levels += 1

    def append_scalars(self, rows: np.ndarray) -> None:
        """Append a block of time-series rows (n, 2 + scalars): t, tau, then the scalars in their order."""
        start, stop = self._rows, self._rows + len(rows)
        for column, values in zip(self._columns, rows.T, strict=True):
            column.resize(stop, axis=0)
            column[start:stop] = values
        self._rows = stop

    def seal(self, meta: Mapping[str, Any], complete: bool) -> None:
        """Write the times, the VTK view and the provenance, and close the file."""
        self._resize(self.levels)
        times = np.array(self._times, dtype=np.float64).reshape(-1, 2)
        for name, values in zip((layout.TIME, layout.TRAINING_TIME), times.T, strict=True):
            self._file[name].resize(self.levels, axis=0)
            self._file[name][...] = values
        self._write_vtk(times[:, 0])
        self._write_meta(meta)
        self._file.attrs.modify("complete", np.int8(complete))
        self.close()

    def close(self) -> None:
        """Close the file as it stands."""
        self._file.close()

    def _create_scales(self) -> None:
        file = self._file
        growing = {"shape": (0,), "maxshape": (None,), "chunks": (layout.TIME_CHUNK,), "dtype": "f8", "fletcher32": True}
        time = file.create_dataset(layout.TIME, **growing)
        time.attrs.update(layout.TIME_ATTRIBUTES)
        time.make_scale(layout.TIME)
        for axis, points in zip(self.run.grid.axes, self.run.grid.coordinates, strict=True):
            scale = file.create_dataset(axis, data=points)
            scale.attrs.update(layout.axis_attributes(axis))
            scale.make_scale(axis)
        training = file.create_dataset(layout.TRAINING_TIME, **growing)
        training.attrs.update(layout.TRAINING_TIME_ATTRIBUTES)
        training.dims[0].attach_scale(time)

    def _create_field(self, name: str, attributes: dict[str, str]) -> h5py.Dataset:
        shape, itemsize = self.run.grid.shape, np.dtype(self.run.dtype).itemsize
        chunks = layout.chunk_shape(shape, itemsize, self.run.snapshots)
        # A chunk that holds one level is written once and whole: a cache would only copy it, and hide a full disk. One that
        # gathers several levels must stay in the cache until it is full. (One byte, as h5py takes 0 for the default.)
        cache = 1 if chunks[0] == 1 else math.prod(chunks) * itemsize
        dataset = self._file.create_dataset(
            name,
            shape=(self._capacity, *shape),
            maxshape=(None, *shape),
            chunks=chunks,
            dtype=self.run.dtype,
            fletcher32=True,
            rdcc_nbytes=cache,
        )
        dataset.attrs.update(attributes)
        for number, scale in enumerate((layout.TIME, *self.run.grid.axes)):
            dataset.dims[number].attach_scale(self._file[scale])
        return dataset

    def _create_scalars(self) -> list[h5py.Dataset]:
        group = self._file.create_group(layout.SCALARS, track_order=True)
        names = (layout.SCALARS_TIME, layout.TRAINING_TIME, *self.run.scalar_names)
        columns = [
            group.create_dataset(name, (0,), "f8", maxshape=(None,), chunks=(layout.SCALARS_CHUNK,), fletcher32=True)
            for name in names
        ]
        time, training, *scalars = columns
        time.attrs.update(layout.TIME_ATTRIBUTES)
        time.make_scale(layout.SCALARS_TIME)
        training.attrs.update(layout.TRAINING_TIME_ATTRIBUTES)
        for name, column in zip(self.run.scalar_names, scalars, strict=True):
            column.attrs.update({"long_name": name, "units": "1"})
        for column in columns[1:]:
            column.dims[0].attach_scale(time)
        return columns

    def _resize(self, levels: int) -> None:
        for dataset in (*self._fields, *self._velocities):
            dataset.resize(levels, axis=0)
        self._capacity = levels

    def _write_level(self, dataset: h5py.Dataset, values: np.ndarray) -> None:
        """Write one field slab by slab, each a row of whole chunks, through a buffer of one slab."""
        count = len(self._buffer)
        for start in range(0, len(values), count):
            slab = values[start : start + count]
            if slab.dtype != self._buffer.dtype or not slab.flags.c_contiguous:
                buffer = self._buffer[: len(slab)]
                np.copyto(buffer, slab, casting="same_kind")
                slab = buffer
            dataset.write_direct(slab, dest_sel=np.s_[self.levels, start : start + len(slab)])

    def _write_vtk(self, times: np.ndarray) -> None:
        group = self._file.create_group(layout.VTK)
        group.attrs.update(layout.vtk_attributes(self.run.grid))
        points = group.create_group("PointData")
        steps = group.create_group("Steps")
        steps.attrs["NSteps"] = np.int64(self.levels)
        # A copy, because h5netcdf loses its way when one scale is reached by two names.
        steps.create_dataset("Values", data=times)
        offsets = steps.create_group("PointDataOffsets")
        for dataset in (*self._fields, *self._velocities):
            name = dataset.name.lstrip("/")
            points[name] = dataset
            offsets.create_dataset(name, data=np.arange(self.levels, dtype=np.int64))

    def _write_meta(self, meta: Mapping[str, Any]) -> None:
        group = self._file.create_group(layout.META)
        for name, value in meta.items():
            stored = to_json(value) if name in layout.META_JSON else value
            if isinstance(stored, str) and (name in _AS_DATASET or len(stored.encode()) > _ATTRIBUTE_BYTES):
                group.create_dataset(name, data=stored, dtype=h5py.string_dtype())
            else:
                group.attrs[name] = stored
