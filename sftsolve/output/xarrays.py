"""A result as an `xarray.Dataset`, whose variables read from the file what is asked of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sftsolve.errors import ConfigError
from sftsolve.grid import Grid
from sftsolve.output import layout
from sftsolve.output.lazy import LazyFields

if TYPE_CHECKING:
    import xarray


def to_dataset(
    grid: Grid,
    fields: tuple[str, ...],
    t: np.ndarray,
    tau: np.ndarray,
    w: np.ndarray | LazyFields,
    v: np.ndarray | LazyFields | None,
    attributes: dict[str, object],
) -> xarray.Dataset:
    """Snapshots w and v (n, field, *shape) at times t and tau (n,) as a data set; see `Result.to_xarray`."""
    try:
        import xarray
    except ImportError as error:
        raise ConfigError("xarray is not installed", remedy="pip install 'sftsolve[xarray]'") from error
    coordinates: dict[str, Any] = {
        layout.TIME: (layout.TIME, t, layout.TIME_ATTRIBUTES),
        layout.TRAINING_TIME: (layout.TIME, tau, layout.TRAINING_TIME_ATTRIBUTES),
    }
    for axis, points in zip(grid.axes, grid.coordinates, strict=True):
        coordinates[axis] = (axis, points, layout.axis_attributes(axis))
    dimensions = (layout.TIME, *grid.axes)
    data = {}
    for number, field in enumerate(fields):
        data[field] = xarray.Variable(dimensions, _one_field(w, number), layout.field_attributes(field))
        if v is not None:
            velocity = xarray.Variable(dimensions, _one_field(v, number), layout.velocity_attributes(field))
            data[layout.velocity_name(field)] = velocity
    for variable in data.values():
        # On opening a file xarray makes a coordinate of what this attribute names, and keeps it apart.
        variable.encoding["coordinates"] = variable.attrs.pop("coordinates")
    return xarray.Dataset(data, coordinates, attributes)


def _one_field(values: np.ndarray | LazyFields, number: int) -> Any:
    """Field `number` of `values`: a view, or for a file an array of xarray's own lazy kind."""
    if isinstance(values, np.ndarray):
        return values[:, number]
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class FieldInFile(BackendArray):
        def __init__(self, fields: LazyFields):
            self.shape = (len(fields), *fields.shape[2:])
            self.dtype = fields.dtype
            self._fields = fields

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._basic)

        def _basic(self, key: tuple[Any, ...]) -> np.ndarray:
            return self._fields[(key[0], number, *key[1:])]

    return indexing.LazilyIndexedArray(FieldInFile(values))
