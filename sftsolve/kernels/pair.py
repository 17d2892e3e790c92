"""What the kernels between two fields share: names, reference values `about`, time-dependent amplitudes, checked arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sftsolve.errors import ActionError, ExpressionError, nearest
from sftsolve.expression import evaluate, parse
from sftsolve.grid import AXES, Grid
from sftsolve.sources import evaluate_on, on_grid
from sftsolve.state import Layout

NONE = (0, 1, 1)  # shape of the array that stands for "no reference" or "no mask" in compiled loops


def pair(kind: str, first: str, second: str) -> tuple[str, str]:
    """The two field names of a kernel.

    Raises
    ------
    ActionError : not names
    """
    for name in (first, second):
        if not isinstance(name, str) or not name.isidentifier():
            raise ActionError(f"{kind} acts between two fields", expected='their names, such as "w", "w"', given=repr(name))
    return first, second


def numbers(kind: str, parameters: Mapping[str, float] | None, taken: tuple[str, ...] = AXES) -> dict[str, float]:
    """Parameters of a kernel's expressions as finite numbers.

    Raises
    ------
    ActionError : not a finite number, or a name that means something else
    """
    found = {}
    for name, value in (parameters or {}).items():
        if name in taken:
            raise ActionError(f"a parameter of {kind} is called {name!r}", expected=f"a name other than {', '.join(taken)}")
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(float(value)):
            raise ActionError(f"parameter {name!r} of {kind} must be a finite number", given=repr(value))
        found[name] = float(value)
    return found


class Amplitude:
    """A factor of a kernel: one number, or an expression of the time t and the kernel's parameters.

    Raises
    ------
    ActionError : not a finite number
    ExpressionError : outside the language
    """

    def __init__(self, kind: str, amplitude: str | float | None, parameters: Mapping[str, float]):
        self.constant: float | None = None
        self.given = 1.0 if amplitude is None else amplitude
        if isinstance(self.given, str):
            self._tree = parse(self.given, ["t", *parameters], f"the amplitude of {kind}")
            self._values = dict(parameters)
        elif isinstance(self.given, bool) or not isinstance(self.given, (int, float)) or not math.isfinite(self.given):
            raise ActionError(
                f"the amplitude of {kind} is not understood", expected='a finite number or an expression such as "cos(t)"',
                given=repr(amplitude),
            )
        else:
            self.constant = float(self.given)

    def at(self, t: float) -> float:
        """The factor at time t."""
        if self.constant is not None:
            return self.constant
        self._values["t"] = t
        return float(evaluate(self._tree, self._values))


class About:
    """The reference w_ref of a kernel that acts on w - w_ref.

    Parameters
    ----------
    kind : the kernel's name in messages
    about : None, or the reference of the kernel's one field, or a mapping from field names; each an array of the grid's
        shape, a number or an expression of the coordinates and the kernel's parameters
    fields : the kernel's fields

    Raises
    ------
    ActionError : a field that the kernel does not have, or one value for two fields
    """

    def __init__(self, kind: str, about: Any, fields: tuple[str, ...], parameters: Mapping[str, float]):
        self.kind, self.parameters = kind, dict(parameters)
        names = tuple(dict.fromkeys(fields))
        if about is None:
            about = {}
        elif not isinstance(about, Mapping):
            if len(names) > 1:
                raise ActionError(
                    f"about= of {kind} does not say which field it means", expected=f"a mapping from {' and '.join(names)}"
                )
            about = {names[0]: about}
        for name in about:
            if name not in names:
                raise ActionError(f"about= of {kind} names field {name!r}", remedy=nearest(str(name), names))
        self.given: dict[str, Any] = dict(about)

    def on(self, name: str, grid: Grid, layout: Layout) -> np.ndarray:
        """w_ref of a field, (nz, ny, nx) with extents one for axes that the grid lacks; without cells where there is none.

        Raises
        ------
        GridError : an array of another shape or not finite
        ExpressionError : an expression of other names than the coordinates and parameters
        """
        if name not in self.given:
            return np.empty(NONE, layout.dtype)
        value = self.given[name]
        if isinstance(value, str):
            value = evaluate_on(grid, value, self.parameters, f"about= of {self.kind}")
        return cells(on_grid(grid, name, np.asarray(value), f"about= of {self.kind} for field"), layout)


def cells(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Values on the grid (..., *grid.shape) as a contiguous array (..., nz, ny, nx) of the layout's dtype."""
    lead = values.shape[: values.ndim - layout.dimension]
    return np.ascontiguousarray(values.reshape(*lead, *layout.shape), layout.dtype)


def expression_error(error: ExpressionError, known: str) -> ExpressionError:
    """The same refusal with a word on what the names may be."""
    return ExpressionError(error.message, expected=known, given=error.given, remedy=error.remedy)
