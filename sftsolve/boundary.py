"""Boundary conditions, one small class each: its data and its ghost formula.

A face is a wall of the box; its condition holds on the plane half a spacing outside the outermost cell
centre. Ghost cell number m = 1, 2, ... outside the wall mirrors interior cell m - 1, and its value is affine
in it,

    w_ghost(m) = factor * w_mirror + lift(m) * data,

so that the force can be varied through the ghosts and stays the exact gradient of the discrete cost.
A new condition is one class with the decorator `@condition("key")`.

The data are numbers, arrays along the face, or expressions of the coordinates, of the action's parameters and of the physical
time t; on a face the coordinate across it has its value on the wall.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from sftsolve.algebra import Node, Symbol, leaves
from sftsolve.errors import ExpressionError, GridError, is_number, nearest
from sftsolve.expression import CONSTANTS, Names, parse

AXES_OF_SPACE = ("z", "y", "x")


@dataclass(frozen=True)
class WallExpression:
    """Wall data as an expression; what its names mean is known only where it meets an action."""

    text: str

    @cached_property
    def tree(self) -> Node:
        """The parsed text, whatever its names may be.

        Raises
        ------
        ExpressionError : not in the language
        """
        words = set(re.findall(r"[^\W\d]\w*", self.text)) - CONSTANTS.keys()
        return parse(self.text, Names(values=words), "the wall data")

    @property
    def names(self) -> set[str]:
        """Names in it."""
        return {leaf.name for leaf in leaves(self.tree) if isinstance(leaf, Symbol)}


@dataclass(frozen=True, eq=False)
class WallArray:
    """Wall data in the cells along a face, in axis order."""

    values: np.ndarray


Data = float | WallExpression | WallArray


def role(data: Data, axis: str) -> str:
    """How data on a face of `axis` enter compiled code: "zero", "scalar" (the same along the face) or "face"."""
    if isinstance(data, WallArray):
        return "face"
    if isinstance(data, WallExpression):
        return "face" if data.names & (set(AXES_OF_SPACE) - {axis}) else "scalar"
    return "scalar" if data else "zero"


def plain(data: Data) -> float | str | list:
    """Data as their user wrote them."""
    if isinstance(data, WallExpression):
        return data.text
    return data.values.tolist() if isinstance(data, WallArray) else data


class Condition(Protocol):
    """What a wall imposes on one field."""

    key: ClassVar[str]
    factor: ClassVar[float]

    @property
    def data(self) -> Data:
        """What is imposed."""
        ...

    def lift(self, number: int, spacing: float) -> float:
        """What the data are multiplied by in ghost cell `number` = 1, 2, ... at grid spacing `spacing`."""
        ...

    def description(self) -> dict[str, float | str | list]:
        """The condition as its user writes it."""
        ...


_CONDITIONS: dict[str, type] = {}


def condition(key: str) -> Callable[[type], type]:
    """Register a condition class under the key that users write, e.g. ``{"value": 0}``.

    The class is built from the keys of the description, in the order of its attributes.
    """

    def register(cls: type) -> type:
        cls.key = key  # type: ignore[attr-defined]
        _CONDITIONS[key] = cls
        return cls

    return register


@condition("value")
@dataclass(frozen=True)
class Dirichlet:
    """w = data on the wall: w_ghost(m) = 2 data - w_mirror."""

    data: Data
    key: ClassVar[str] = "value"
    keys: ClassVar[tuple[str, ...]] = ("value",)
    factor: ClassVar[float] = -1.0

    def lift(self, number: int, spacing: float) -> float:
        return 2.0

    def description(self) -> dict[str, float | str | list]:
        return {"value": plain(self.data)}


@condition("derivative")
@dataclass(frozen=True)
class Neumann:
    """dw/dn = data on the wall, n the outward normal: w_ghost(m) = w_mirror + (2m - 1) h data."""

    data: Data
    key: ClassVar[str] = "derivative"
    keys: ClassVar[tuple[str, ...]] = ("derivative",)
    factor: ClassVar[float] = 1.0

    def lift(self, number: int, spacing: float) -> float:
        return (2 * number - 1) * spacing

    def description(self) -> dict[str, float | str | list]:
        return {"derivative": plain(self.data)}


@condition("mixed")
@dataclass(frozen=True)
class Robin:
    """dw/dn + coefficient w = data on the wall, n the outward normal.

    Its flux comes from a boundary energy alone, so its ghosts mirror evenly: w_ghost(m) = w_mirror.
    """

    coefficient: Data
    data: Data
    key: ClassVar[str] = "mixed"
    keys: ClassVar[tuple[str, ...]] = ("mixed", "const")
    factor: ClassVar[float] = 1.0

    def lift(self, number: int, spacing: float) -> float:
        return 0.0

    def description(self) -> dict[str, float | str | list]:
        return {"mixed": plain(self.coefficient), "const": plain(self.data)}


EXPECTED = 'one of {"value": b}, {"derivative": g} (outward normal derivative) and {"mixed": a, "const": b} (dw/dn + a w = b)'


def make_condition(spec: object, where: str) -> Condition:
    """Build a condition from what the user wrote, e.g. ``{"value": 0.0}``; `where` names the face in errors.

    Raises
    ------
    GridError : not a mapping of the keys of one known condition to data
    """
    if isinstance(spec, tuple(_CONDITIONS.values())):
        return spec  # type: ignore[return-value]
    if not isinstance(spec, Mapping) or not spec:
        raise GridError(f"boundary condition of {where} is not understood", expected=EXPECTED, given=repr(spec))
    found = [cls for key, cls in _CONDITIONS.items() if key in spec]
    if not found:
        key = str(next(iter(spec)))
        raise GridError(
            f"unknown boundary condition {key!r} of {where}",
            expected=EXPECTED,
            given=repr(dict(spec)),
            remedy=nearest(key, sorted(_CONDITIONS)),
        )
    keys = found[0].keys  # type: ignore[attr-defined]
    if len(found) > 1 or set(spec) != set(keys):
        raise GridError(f"boundary condition of {where} is not understood", expected=EXPECTED, given=repr(dict(spec)))
    return found[0](*(_data(spec[key], key, where) for key in keys))


def _data(given: object, key: str, where: str) -> Data:
    """Wall data from what the user wrote."""
    if is_number(given):
        return float(given)
    if isinstance(given, (WallExpression, WallArray)):
        return given
    if isinstance(given, str):
        expression = WallExpression(given)
        try:
            expression.tree  # noqa: B018  (parsed here, so that errors come early)
        except ExpressionError as error:
            message = f"boundary data of {where}: {error.message}"
            raise GridError(message, expected=error.expected, given=error.given, remedy=error.remedy) from None
        return expression
    if isinstance(given, (np.ndarray, Sequence)):
        try:
            values = np.asarray(given)
        except ValueError:
            values = np.empty(0, object)
        if values.ndim and values.dtype.kind in "fiu" and np.isfinite(values).all():
            return WallArray(values.astype(np.float64))
    raise GridError(
        f"boundary data of {where} are not understood",
        expected=f'for "{key}" a finite number, an array of them along the face, or an expression of coordinates and t',
        given=repr(given)[:80],
    )


def is_condition(spec: object) -> bool:
    """Whether `spec` is meant as one condition (and not as a mapping of field names or of faces)."""
    if isinstance(spec, tuple(_CONDITIONS.values())):
        return True
    return isinstance(spec, Mapping) and any(key in _CONDITIONS for key in spec)
