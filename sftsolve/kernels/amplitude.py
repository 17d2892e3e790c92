"""Time-dependent factors of kernels, and the parameters of their expressions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sftsolve.algebra import ONE, leaves
from sftsolve.errors import ActionError
from sftsolve.expression import evaluate, parse
from sftsolve.sources import TIME, slope


def numbers(kernel: str, parameters: Mapping[str, float] | None, taken: tuple[str, ...]) -> dict[str, float]:
    """Parameters of a kernel's expressions as finite numbers.

    Parameters
    ----------
    taken : names that mean something else in these expressions

    Raises
    ------
    ActionError : no finite number, or a name that is taken
    """
    found = {}
    for name, value in (parameters or {}).items():
        if name in taken:
            raise ActionError(f"a parameter of {kernel} is called {name!r}", expected=f"a name other than {', '.join(taken)}")
        found[name] = number(f"parameter {name!r} of {kernel}", value)
    return found


def number(what: str, value: object) -> float:
    """A finite number.

    Raises
    ------
    ActionError : anything else
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(float(value)):
        raise ActionError(f"{what} must be a finite number", given=repr(value)[:80])
    return float(value)


class Amplitude:
    """The factor g(t) of a kernel: one number, or an expression of the time t and the kernel's parameters.

    Attributes
    ----------
    constant : the number, None where the factor depends on time

    Raises
    ------
    ActionError : neither a finite number nor text
    ExpressionError : an expression outside the language
    """

    def __init__(self, kernel: str, amplitude: str | float, parameters: Mapping[str, float]):
        self.given = amplitude
        self.constant: float | None = None
        if not isinstance(amplitude, str):
            self.constant = number(f"the amplitude of {kernel}", amplitude)
            return
        self._tree = parse(amplitude, ["t", *parameters], f"the amplitude of {kernel}")
        self._slope = slope(self._tree, {TIME: ONE})
        self._values = {**parameters, "t": 0.0}
        if TIME not in leaves(self._tree):
            self.constant = number(f"the amplitude of {kernel}", evaluate(self._tree, self._values))

    def at(self, t: float) -> float:
        """The factor at time t."""
        if self.constant is not None:
            return self.constant
        self._values["t"] = t
        return float(evaluate(self._tree, self._values))

    def rate(self, t: float) -> float:
        """Its derivative by time; NaN where that is not known."""
        if self.constant is not None:
            return 0.0
        self._values["t"] = t
        return math.nan if self._slope is None else float(evaluate(self._slope, self._values))
