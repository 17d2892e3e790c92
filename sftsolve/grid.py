"""The grid: cell centres on a box of one to three axes, x last, with a condition on every face."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sftsolve.boundary import Condition, WallArray, is_condition, make_condition
from sftsolve.errors import GridError, is_number, nearest

AXES = ("z", "y", "x")
SIDES = ("lower", "upper")
_LARGEST = 2**40


class Grid:
    """Cell centres ``x_i = origin + (i + 1/2) h`` on every axis, periodic or walled.

    Parameters
    ----------
    shape : number of cells per axis, in axis order: ``(nx,)``, ``(ny, nx)`` or ``(nz, ny, nx)``
    length : side lengths in the same order (the unit of length is yours)
    origin : lower corner of the box, zero by default
    boundary : ``"periodic"``, or one condition for all faces, or a mapping from axis name to ``"periodic"``, to a condition
        for both its faces or to ``{"lower": condition, "upper": condition}``. A condition is ``{"value": b}`` (w = b on
        the wall), ``{"derivative": g}`` (outward normal derivative) or ``{"mixed": a, "const": b}`` (dw/dn + a w = b), or a
        mapping from field names to conditions. b, g and a are numbers, arrays along the face (in axis order), or expressions
        of the coordinates, of the action's parameters and of the physical time t, such as ``"sin(pi*y)*cos(t)"``.
        Axes that are not named are periodic.

    Raises
    ------
    GridError : shapes, lengths or conditions that do not fit together
    """

    def __init__(
        self,
        shape: Sequence[int] | int,
        length: Sequence[float] | float,
        origin: Sequence[float] | float | None = None,
        boundary: object = "periodic",
    ):
        self.shape = _integers(shape)
        if not 1 <= len(self.shape) <= 3:
            raise GridError("a grid has one to three axes", expected="shape (nx,), (ny, nx) or (nz, ny, nx)", given=repr(shape))
        if any(n < 1 for n in self.shape) or math.prod(self.shape) > _LARGEST:
            raise GridError("every axis needs at least one cell, and the grid at most 2**40", given=self.shape)
        self.length = _numbers(length, len(self.shape), "length")
        if any(side <= 0 for side in self.length):
            raise GridError("side lengths must be positive", given=self.length)
        self.origin = _numbers(0.0 if origin is None else origin, len(self.shape), "origin")
        self.axes: tuple[str, ...] = AXES[-len(self.shape) :]
        self.spacing: tuple[float, ...] = tuple(side / n for side, n in zip(self.length, self.shape, strict=True))
        self._faces = _faces(boundary, self.axes)
        _check_arrays(self._faces, self.axes, self.shape)

    @property
    def dimension(self) -> int:
        """Number of axes, 1 to 3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def cell_volume(self) -> float:
        """Product of the spacings, the weight of a cell in every integral."""
        return math.prod(self.spacing)

    @cached_property
    def coordinates(self) -> tuple[np.ndarray, ...]:
        """One 1-D array of cell centres per axis, in axis order."""
        return tuple(start + (np.arange(n) + 0.5) * h for start, n, h in zip(self.origin, self.shape, self.spacing, strict=True))

    @property
    def mesh(self) -> dict[str, np.ndarray]:
        """Coordinates by axis name, shaped so that they broadcast to `shape` (nothing of grid size is made)."""
        arrays = {}
        for number, (name, points) in enumerate(zip(self.axes, self.coordinates, strict=True)):
            arrays[name] = points.reshape([-1 if axis == number else 1 for axis in range(self.dimension)])
        return arrays

    def periodic(self, axis: str) -> bool:
        """Whether `axis` ("x", "y" or "z") closes on itself."""
        return axis not in self._faces

    @property
    def walls(self) -> tuple[str, ...]:
        """Names of the axes that end in walls, in axis order."""
        return tuple(axis for axis in self.axes if axis in self._faces)

    def condition(self, axis: str, side: str, field: str) -> Condition:
        """The condition of `field` on the "lower" or "upper" face of a walled `axis`.

        Raises
        ------
        GridError : the face has conditions by field and none for this one
        """
        face = self._faces[axis][side]
        if not isinstance(face, dict):
            return face
        if field not in face:
            raise GridError(
                f"the {side} {axis} face has no condition for field {field!r}",
                expected="a condition for every field, or one for all",
                given=", ".join(face),
            )
        return face[field]

    def named_fields(self) -> set[str]:
        """Field names that the boundary conditions mention."""
        return {field for faces in self._faces.values() for face in faces.values() if isinstance(face, dict) for field in face}

    @property
    def boundary(self) -> dict[str, Any]:
        """The conditions as plain data, the same form that the constructor takes."""
        return {axis: _plain(self._faces[axis]) if axis in self._faces else "periodic" for axis in self.axes}

    def description(self) -> dict[str, Any]:
        """The constructor's arguments as plain data (JSON-able)."""
        return {
            "shape": list(self.shape),
            "length": list(self.length),
            "origin": list(self.origin),
            "boundary": self.boundary,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.description() == other.description()

    def __hash__(self) -> int:
        return hash((self.shape, self.length, self.origin, str(self.boundary)))

    def __repr__(self) -> str:
        return f"Grid(shape={self.shape}, length={self.length}, origin={self.origin}, boundary={self.boundary})"


def _entries(values: object) -> list[object]:
    """A sequence as a list, anything else as a list of one."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]


def _integers(shape: object) -> tuple[int, ...]:
    entries = _entries(shape)
    whole = [int(n) for n in entries if isinstance(n, numbers.Integral) and not isinstance(n, bool)]
    if len(whole) != len(entries):
        raise GridError("the grid's shape must be whole numbers", expected="shape=(ny, nx), say", given=repr(shape))
    return tuple(whole)


def _numbers(values: object, count: int, what: str) -> tuple[float, ...]:
    entries = [values] * count if is_number(values) else _entries(values)
    real = [value for value in entries if is_number(value)]
    if len(real) != len(entries) or len(real) != count:
        raise GridError(f"the grid's {what} needs one finite number per axis", expected=f"{count} numbers", given=repr(values))
    return tuple(map(float, real))


_Face = Condition | dict[str, Condition]


def _face(spec: object, where: str) -> _Face:
    by_field = isinstance(spec, Mapping) and any(isinstance(entry, Mapping) or is_condition(entry) for entry in spec.values())
    if isinstance(spec, Mapping) and by_field and not is_condition(spec):
        return {str(field): make_condition(entry, f"{where}, field {field!r}") for field, entry in spec.items()}
    return make_condition(spec, where)


def _faces(boundary: object, axes: tuple[str, ...]) -> dict[str, dict[str, _Face]]:
    """Conditions per walled axis and side."""
    if isinstance(boundary, str) and boundary == "periodic":
        return {}
    if is_condition(boundary):
        boundary = dict.fromkeys(axes, boundary)
    if not isinstance(boundary, Mapping):
        raise GridError(
            "the boundary is not understood",
            expected='"periodic", a condition, or a mapping from axis names to conditions',
            given=repr(boundary),
        )
    faces: dict[str, dict[str, _Face]] = {}
    for axis, spec in boundary.items():
        if axis not in axes:
            raise GridError(f"boundary names axis {axis!r}", expected=f"axes {', '.join(axes)}", given=repr(axis))
        if isinstance(spec, str) and spec == "periodic":
            continue
        if isinstance(spec, Mapping) and any(side in SIDES for side in spec):
            unknown = [side for side in spec if side not in SIDES]
            if unknown or len(spec) != 2:
                raise GridError(
                    f"axis {axis!r} needs a condition on both its faces",
                    expected='{"lower": condition, "upper": condition}',
                    given=repr(dict(spec)),
                    remedy=nearest(str(unknown[0]), SIDES) if unknown else "name the other face too",
                )
            faces[axis] = {side: _face(spec[side], f"the {side} {axis} face") for side in SIDES}
        else:
            faces[axis] = {side: _face(spec, f"the {side} {axis} face") for side in SIDES}
    return faces


def _check_arrays(faces: dict[str, dict[str, _Face]], axes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Wall data in arrays have the face's shape."""
    for axis, sides in faces.items():
        along = tuple(n for name, n in zip(axes, shape, strict=True) if name != axis)
        for side, face in sides.items():
            for condition in face.values() if isinstance(face, dict) else (face,):
                for data in vars(condition).values():
                    if isinstance(data, WallArray) and data.values.shape != along:
                        raise GridError(
                            f"boundary data of the {side} {axis} face do not fit it",
                            expected=f"shape {along} (axes {', '.join(name for name in axes if name != axis) or 'none'})",
                            given=f"shape {data.values.shape}",
                        )


def _plain(face: Any) -> Any:
    if isinstance(face, dict):
        return {key: _plain(entry) for key, entry in face.items()}
    return face.description()
