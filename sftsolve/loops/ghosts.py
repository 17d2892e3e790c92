"""Filling ghost cells: copies round periodic axes, affine mirrors at walls. Axes are filled x first, so that corners follow.

On large grids planes are shared out to threads, then the rows of the z ghosts; on plane grids it is the
rows, whose x ghosts are most of the work.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, inline="always")
def _fill_line(line: np.ndarray, offset: int, n: int, halo: int, wall: np.ndarray) -> None:
    """Ghosts of one line; wall[side] = (is a wall, factor, shift of ghost 1, shift of ghost 2, ...)."""
    for m in range(1, halo + 1):
        if wall[0, 0] == 0.0:
            line[offset - m] = line[offset + n - m]
            line[offset + n - 1 + m] = line[offset + m - 1]
        else:
            line[offset - m] = wall[0, 1] * line[offset + m - 1] + wall[0, 1 + m]
            line[offset + n - 1 + m] = wall[1, 1] * line[offset + n - m] + wall[1, 1 + m]


@njit(cache=True, nogil=True)
def _copy_row(storage, field, target, origin, factor, shift, first, last):  # type: ignore[no-untyped-def]
    """One ghost row, corners included: target and origin are (z, y)."""
    to = storage[field, target[0], target[1], first:last]
    source = storage[field, origin[0], origin[1], first:last]
    for x in range(last - first):
        to[x] = factor * source[x] + shift


@njit(cache=True, nogil=True)
def _fill_columns(storage, field, z, offsets, shape, halo, walls):  # type: ignore[no-untyped-def]
    """x ghosts of the rows of one plane."""
    for y in range(offsets[1], offsets[1] + shape[1]):
        _fill_line(storage[field, z, y], offsets[2], shape[2], halo[2], walls[field, 2])


@njit(cache=True, nogil=True)
def _fill_rows(storage, field, z, offsets, shape, halo, walls):  # type: ignore[no-untyped-def]
    """y ghosts of one plane."""
    first, last = offsets[2] - halo[2], offsets[2] + shape[2] + halo[2]
    lower, upper = offsets[1], offsets[1] + shape[1] - 1
    wall = walls[field, 1]
    for m in range(1, halo[1] + 1):
        if wall[0, 0] == 0.0:
            _copy_row(storage, field, (z, lower - m), (z, upper + 1 - m), 1.0, 0.0, first, last)
            _copy_row(storage, field, (z, upper + m), (z, lower + m - 1), 1.0, 0.0, first, last)
        else:
            _copy_row(storage, field, (z, lower - m), (z, lower + m - 1), wall[0, 1], wall[0, 1 + m], first, last)
            _copy_row(storage, field, (z, upper + m), (z, upper + 1 - m), wall[1, 1], wall[1, 1 + m], first, last)


@njit(cache=True, nogil=True)
def _fill_planes(storage, field, y, offsets, shape, halo, walls):  # type: ignore[no-untyped-def]
    """Row y of the z ghosts."""
    first, last = offsets[2] - halo[2], offsets[2] + shape[2] + halo[2]
    lower, upper = offsets[0], offsets[0] + shape[0] - 1
    wall = walls[field, 0]
    for m in range(1, halo[0] + 1):
        if wall[0, 0] == 0.0:
            _copy_row(storage, field, (lower - m, y), (upper + 1 - m, y), 1.0, 0.0, first, last)
            _copy_row(storage, field, (upper + m, y), (lower + m - 1, y), 1.0, 0.0, first, last)
        else:
            _copy_row(storage, field, (lower - m, y), (lower + m - 1, y), wall[0, 1], wall[0, 1 + m], first, last)
            _copy_row(storage, field, (upper + m, y), (upper + 1 - m, y), wall[1, 1], wall[1, 1 + m], first, last)


@njit(cache=True, nogil=True)
def fill(storage, offsets, shape, halo, walls, columns):  # type: ignore[no-untyped-def]
    """Fill the ghosts of every field, serial.

    Parameters
    ----------
    storage : (field, Z, Y, X)
    offsets, shape, halo : (z, y, x) of the layout
    walls : (field, axis, side, 2 + halo): is a wall, factor, shift of ghost 1, 2, ...
    columns : whether to fill those along x, too; they may be known already
    """
    for field in range(storage.shape[0]):
        for z in range(offsets[0], offsets[0] + shape[0]):
            if columns:
                _fill_columns(storage, field, z, offsets, shape, halo, walls)
            _fill_rows(storage, field, z, offsets, shape, halo, walls)
        for y in range(offsets[1] - halo[1], offsets[1] + shape[1] + halo[1]):
            _fill_planes(storage, field, y, offsets, shape, halo, walls)


@njit(cache=True, nogil=True, parallel=True)
def fill_threads(storage, offsets, shape, halo, walls, columns):  # type: ignore[no-untyped-def]
    """The same with the planes of each field, or the rows of its only plane, shared out to threads."""
    for field in range(storage.shape[0]):
        if shape[0] > 1:
            for plane in prange(shape[0]):
                if columns:
                    _fill_columns(storage, field, offsets[0] + np.int64(plane), offsets, shape, halo, walls)
                _fill_rows(storage, field, offsets[0] + np.int64(plane), offsets, shape, halo, walls)
            for row in prange(shape[1] + 2 * halo[1]):
                _fill_planes(storage, field, offsets[1] - halo[1] + np.int64(row), offsets, shape, halo, walls)
        else:
            for row in prange(shape[1] if columns else 0):
                _fill_line(storage[field, offsets[0], offsets[1] + np.int64(row)], offsets[2], shape[2], halo[2], walls[field, 2])
            _fill_rows(storage, field, offsets[0], offsets, shape, halo, walls)


@njit(cache=True, nogil=True, inline="always")
def _fill_line_data(line, offset, n, halo, wall, shifts, z, y):  # type: ignore[no-untyped-def]
    """Ghosts of one line along x between walls whose shifts vary: shifts[side, ghost, z, y, 0]."""
    for m in range(1, halo + 1):
        line[offset - m] = wall[0, 1] * line[offset + m - 1] + shifts[0, m - 1, z, y, 0]
        line[offset + n - 1 + m] = wall[1, 1] * line[offset + n - m] + shifts[1, m - 1, z, y, 0]


@njit(cache=True, nogil=True)
def _mirror_row(storage, field, target, origin, factor, shift, first, last):  # type: ignore[no-untyped-def]
    """One ghost row whose shift varies along it."""
    to = storage[field, target[0], target[1], first:last]
    source = storage[field, origin[0], origin[1], first:last]
    for x in range(last - first):
        to[x] = factor * source[x] + shift[x]


@njit(cache=True, nogil=True)
def _fill_rows_data(storage, field, offsets, shape, halo, walls, along_y, along_z):  # type: ignore[no-untyped-def]
    """y ghosts of every plane, then z ghosts with their corners, between walls whose shifts vary."""
    first, last = offsets[2] - halo[2], offsets[2] + shape[2] + halo[2]
    lower, upper = offsets[1], offsets[1] + shape[1] - 1
    wall, shifts = walls[field, 1], along_y[field]
    for z in range(offsets[0], offsets[0] + shape[0]):
        for m in range(1, halo[1] + 1):
            if wall[0, 0] == 0.0:
                _copy_row(storage, field, (z, lower - m), (z, upper + 1 - m), 1.0, 0.0, first, last)
                _copy_row(storage, field, (z, upper + m), (z, lower + m - 1), 1.0, 0.0, first, last)
            else:
                low, high = shifts[0, m - 1, z - offsets[0] + halo[0], 0], shifts[1, m - 1, z - offsets[0] + halo[0], 0]
                _mirror_row(storage, field, (z, lower - m), (z, lower + m - 1), wall[0, 1], low, first, last)
                _mirror_row(storage, field, (z, upper + m), (z, upper + 1 - m), wall[1, 1], high, first, last)
    lower, upper = offsets[0], offsets[0] + shape[0] - 1
    wall, shifts = walls[field, 0], along_z[field]
    for y in range(offsets[1] - halo[1], offsets[1] + shape[1] + halo[1]):
        for m in range(1, halo[0] + 1):
            if wall[0, 0] == 0.0:
                _copy_row(storage, field, (lower - m, y), (upper + 1 - m, y), 1.0, 0.0, first, last)
                _copy_row(storage, field, (upper + m, y), (lower + m - 1, y), 1.0, 0.0, first, last)
            else:
                low, high = shifts[0, m - 1, 0, y - offsets[1] + halo[1]], shifts[1, m - 1, 0, y - offsets[1] + halo[1]]
                _mirror_row(storage, field, (lower - m, y), (lower + m - 1, y), wall[0, 1], low, first, last)
                _mirror_row(storage, field, (upper + m, y), (upper + 1 - m, y), wall[1, 1], high, first, last)


@njit(cache=True, nogil=True)
def _fill_x_data(storage, field, row, offsets, shape, halo, walls, along_x):  # type: ignore[no-untyped-def]
    """x ghosts of one row."""
    z, y = divmod(np.int64(row), shape[1])
    line = storage[field, offsets[0] + z, offsets[1] + y]
    if walls[field, 2, 0, 0] == 0.0:
        _fill_line(line, offsets[2], shape[2], halo[2], walls[field, 2])
    else:
        _fill_line_data(line, offsets[2], shape[2], halo[2], walls[field, 2], along_x[field], z + halo[0], y + halo[1])


@njit(cache=True, nogil=True)
def fill_data(storage, offsets, shape, halo, walls, along_z, along_y, along_x):  # type: ignore[no-untyped-def]
    """`fill` where shifts vary along the faces.

    Parameters
    ----------
    along_z, along_y, along_x : shifts at walls of the axis, (field, side, ghost, z, y, x) with the halo, one cell thick along it
    """
    for field in range(storage.shape[0]):
        for row in range(shape[0] * shape[1]):
            _fill_x_data(storage, field, row, offsets, shape, halo, walls, along_x)
        _fill_rows_data(storage, field, offsets, shape, halo, walls, along_y, along_z)


@njit(cache=True, nogil=True, parallel=True)
def fill_data_threads(storage, offsets, shape, halo, walls, along_z, along_y, along_x):  # type: ignore[no-untyped-def]
    """The same with the rows of each field shared out to threads."""
    for field in range(storage.shape[0]):
        for row in prange(shape[0] * shape[1]):
            _fill_x_data(storage, field, row, offsets, shape, halo, walls, along_x)
        _fill_rows_data(storage, field, offsets, shape, halo, walls, along_y, along_z)
