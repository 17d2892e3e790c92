"""Boundary conditions, one small class each: its data and its ghost formula.

A face is a wall of the box; its condition holds on the plane half a spacing outside the outermost cell
centre. Ghost cell number m = 1, 2, ... outside the wall mirrors interior cell m - 1, and its value is affine
in it,

    w_ghost(m) = factor * w_mirror + shift(m),

so that the force can be varied through the ghosts and stays the exact gradient of the discrete cost.
A new condition is one class with the decorator `@condition("key")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sftsolve.errors import GridError, is_number, nearest


class Condition(Protocol):
    """What a wall imposes on one field, constant in time and along the face."""

    key: ClassVar[str]
    factor: ClassVar[float]

    @property
    def data(self) -> float:
        """The imposed number."""
        ...

    def shift(self, number: int, spacing: float) -> float:
        """The constant part of ghost cell `number` = 1, 2, ... at grid spacing `spacing`."""
        ...

    def description(self) -> dict[str, float]:
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

    data: float
    key: ClassVar[str] = "value"
    keys: ClassVar[tuple[str, ...]] = ("value",)
    factor: ClassVar[float] = -1.0

    def shift(self, number: int, spacing: float) -> float:
        return 2.0 * self.data

    def description(self) -> dict[str, float]:
        return {"value": self.data}


@condition("derivative")
@dataclass(frozen=True)
class Neumann:
    """dw/dn = data on the wall, n the outward normal: w_ghost(m) = w_mirror + (2m - 1) h data."""

    data: float
    key: ClassVar[str] = "derivative"
    keys: ClassVar[tuple[str, ...]] = ("derivative",)
    factor: ClassVar[float] = 1.0

    def shift(self, number: int, spacing: float) -> float:
        return (2 * number - 1) * spacing * self.data

    def description(self) -> dict[str, float]:
        return {"derivative": self.data}


@condition("mixed")
@dataclass(frozen=True)
class Robin:
    """dw/dn + coefficient w = data on the wall, n the outward normal.

    Its flux comes from a boundary energy alone, so its ghosts mirror evenly: w_ghost(m) = w_mirror.
    """

    coefficient: float
    data: float
    key: ClassVar[str] = "mixed"
    keys: ClassVar[tuple[str, ...]] = ("mixed", "const")
    factor: ClassVar[float] = 1.0

    def shift(self, number: int, spacing: float) -> float:
        return 0.0

    def description(self) -> dict[str, float]:
        return {"mixed": self.coefficient, "const": self.data}


EXPECTED = 'one of {"value": b}, {"derivative": g} (outward normal derivative) and {"mixed": a, "const": b} (dw/dn + a w = b)'


def make_condition(spec: object, where: str) -> Condition:
    """Build a condition from what the user wrote, e.g. ``{"value": 0.0}``; `where` names the face in errors.

    Raises
    ------
    GridError : not a mapping of the keys of one known condition to finite numbers
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
    for key in keys:
        value = spec[key]
        if not is_number(value):
            raise GridError(
                f"boundary data of {where} must be finite numbers",
                expected=f'a number for "{key}"; data that varies along the face or in time is not supported yet',
                given=repr(value),
            )
    return found[0](*(float(spec[key]) for key in keys))


def is_condition(spec: object) -> bool:
    """Whether `spec` is meant as one condition (and not as a mapping of field names or of faces)."""
    if isinstance(spec, tuple(_CONDITIONS.values())):
        return True
    return isinstance(spec, Mapping) and any(key in _CONDITIONS for key in spec)
