"""What every network asks of its arguments: finite numbers, matching shapes, known words."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from sftsolve.errors import ConfigError, GridError, nearest

Choice = TypeVar("Choice")
Array = np.ndarray[Any, np.dtype[Any]]


def examples(inputs: ArrayLike, targets: ArrayLike, axes: tuple[str, ...]) -> tuple[Array, Array]:
    """Inputs and targets as finite real arrays of one shape `(L, *axes)`; arrays are passed through, not copied."""
    wanted = "(L, " + ", ".join(axes) + "), L >= 1"
    checked = tuple(_real_array(name, values) for name, values in (("inputs", inputs), ("targets", targets)))
    for name, array in zip(("inputs", "targets"), checked, strict=True):
        if array.ndim != 1 + len(axes) or 0 in array.shape:
            raise GridError(
                f"{name} do not have the shape of a set of examples",
                expected=f"shape {wanted}",
                given=f"shape {array.shape}",
                remedy="put the examples on the first axis; a single one still needs it: array[None]",
            )
    if checked[0].shape != checked[1].shape:
        raise GridError(
            "inputs and targets do not belong together",
            expected=f"one shape {wanted} for both",
            given=f"inputs {checked[0].shape}, targets {checked[1].shape}",
            remedy="give one target for every input, of the same size",
        )
    return checked[0], checked[1]


def _real_array(name: str, values: ArrayLike) -> Array:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise GridError(f"{name} are ragged", expected="a rectangular array of numbers", given=error) from None
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{name} are not real numbers", expected="integers or floats", given=f"dtype {array.dtype}")
    # The sum is finite whenever all summands are, short of overflow, and needs no array of flags as large as the data.
    if array.dtype.kind == "f" and not math.isfinite(float(array.sum(dtype=np.float64))) and not np.isfinite(array).all():
        raise ConfigError(
            f"{name} are not finite",
            expected="finite numbers",
            given=f"{int(np.count_nonzero(~np.isfinite(array)))} NaN or infinite values",
            remedy="mend or leave out the examples that hold them",
        )
    return array


def weights(w: ArrayLike, shape: tuple[int, ...]) -> Array:
    """`w` as float64 of `shape` = (field, *grid); a single field may come without its leading axis."""
    array = np.asarray(w)
    if array.dtype.kind not in "biuf":
        raise ConfigError("the weights are not real numbers", expected="floats", given=f"dtype {array.dtype}")
    if array.shape != shape and not (shape[0] == 1 and array.shape == shape[1:]):
        raise GridError(
            "the weights do not fit the network", expected=f"shape (field, *grid) = {shape}", given=f"shape {array.shape}"
        )
    return array.astype(np.float64, copy=False).reshape(shape)


def number(name: str, value: object, *, positive: bool) -> float:
    """A finite real number, positive or at least not negative."""
    wanted = "a finite number " + ("> 0" if positive else ">= 0")
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is not a number", expected=wanted, given=repr(value)) from None
    if not math.isfinite(result) or result < 0 or (positive and result == 0):
        raise ConfigError(f"{name} is out of range", expected=wanted, given=value)
    return result


def whole(name: str, value: object, *, least: int) -> int:
    """An integer >= `least`."""
    try:
        result = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"{name} is not a whole number", expected=f"an integer >= {least}", given=repr(value)) from None
    if result < least:
        raise ConfigError(f"{name} is out of range", expected=f"an integer >= {least}", given=result)
    return result


def choice(what: str, name: object, known: Mapping[str, Choice]) -> Choice:
    """The entry of `known` called `name`."""
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            f"no such {what}", expected="one of " + ", ".join(known), given=repr(name), remedy=nearest(str(name), tuple(known))
        )
    return known[name]
