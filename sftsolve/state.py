"""The state of the fields: halo-padded storage with interior views.

Every array of a run has the same layout: ``(field, z, y, x)`` with axes that the grid lacks of extent one, a
halo on the others, and rows whose first interior cell starts a cache line. Loops see four axes always; users
see the interior, shaped like the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftsolve.grid import Grid

_LINE = 64  # bytes of a cache line, and of the widest vector


@dataclass(frozen=True)
class Layout:
    """Shape of the padded storage of a grid.

    Attributes
    ----------
    shape : interior extents (nz, ny, nx), one for axes that the grid lacks
    halo : ghost cells on each side of (z, y, x), zero for axes that the grid lacks
    offset : index of the first interior cell on (z, y, x); on x it is a whole number of cache lines
    padded : extents of the storage
    dimension : number of axes of the grid
    dtype : "float64" or "float32"
    """

    shape: tuple[int, int, int]
    halo: tuple[int, int, int]
    offset: tuple[int, int, int]
    padded: tuple[int, int, int]
    dimension: int
    dtype: str

    @classmethod
    def of(cls, grid: Grid, halo: int, dtype: str = "float64") -> Layout:
        """The layout of `grid` with `halo` ghost cells on every face."""
        line = _LINE // np.dtype(dtype).itemsize
        missing = 3 - grid.dimension
        nz, ny, nx = (1,) * missing + grid.shape
        hz, hy, hx = (0,) * missing + (halo,) * grid.dimension
        left = line * max(1, -(-hx // line))
        row = left + nx + hx
        row += -row % line
        return cls((nz, ny, nx), (hz, hy, hx), (hz, hy, left), (nz + 2 * hz, ny + 2 * hy, row), grid.dimension, dtype)

    def zeros(self, count: int) -> np.ndarray:
        """`count` padded arrays of zeros in one block, rows aligned to cache lines: (count, Z, Y, X)."""
        dtype = np.dtype(self.dtype)
        extents = (count, *self.padded)
        length = int(np.prod(extents))
        raw = np.zeros(length + _LINE // dtype.itemsize, dtype)
        skip = (-raw.ctypes.data % _LINE) // dtype.itemsize
        return raw[skip : skip + length].reshape(extents)

    def bytes_of(self, count: int) -> int:
        """Bytes of `count` padded arrays."""
        return count * math.prod(self.padded) * np.dtype(self.dtype).itemsize

    def interior(self, storage: np.ndarray) -> np.ndarray:
        """View of the cells of the grid, (count, *grid.shape), without halo."""
        (oz, oy, ox), (nz, ny, nx) = self.offset, self.shape
        view = storage[:, oz : oz + nz, oy : oy + ny, ox : ox + nx]
        return view[(slice(None),) + (0,) * (3 - self.dimension)]

    def pad(self, values: np.ndarray) -> np.ndarray:
        """Copy of `values` (count, *grid.shape) in padded storage; ghosts are zero."""
        storage = self.zeros(len(values))
        self.interior(storage)[...] = values
        return storage


class State:
    """Fields w, and u = w_theta where the dynamics has a velocity, at one moment.

    Attributes
    ----------
    storage, momentum : padded arrays (field, Z, Y, X) of w and u; `momentum` is None for a gradient flow
    w, u : views of the interior, (field, *grid.shape)
    t : physical time
    step : number of accepted steps
    """

    def __init__(self, layout: Layout, storage: np.ndarray, momentum: np.ndarray | None, t: float = 0.0, step: int = 0):
        self.layout = layout
        self.storage = storage
        self.momentum = momentum
        self.t = t
        self.step = step

    @property
    def w(self) -> np.ndarray:
        return self.layout.interior(self.storage)

    @property
    def u(self) -> np.ndarray | None:
        return None if self.momentum is None else self.layout.interior(self.momentum)

    def like(self) -> State:
        """A new state of zeros of the same layout and time."""
        count = len(self.storage)
        momentum = None if self.momentum is None else self.layout.zeros(count)
        return State(self.layout, self.layout.zeros(count), momentum, self.t, self.step)

    def copy(self) -> State:
        """A new state with the same values."""
        other = self.like()
        other.storage[...] = self.storage
        if other.momentum is not None:
            other.momentum[...] = self.momentum
        return other

    def __repr__(self) -> str:
        fields: Any = self.w.shape
        return f"State(w{fields}, u={'none' if self.momentum is None else 'present'}, t={self.t:g}, step={self.step})"
