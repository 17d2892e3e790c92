"""Step size control: the stepper proposes a step and measures its error, the controller says what comes next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sftsolve.errors import ConfigError, nearest

# A step cut to less than this part of the controller's says too little about the step that it would have chosen.
_TELLING = 0.2
_SMALLEST_RTOL = 1e-14
_TRIAL_GROWTH = 1e3
_SMALLEST_ERROR = 1e-30
# An error far below tolerance must not hold back the steps after it.
_SMALLEST_MEMORY = 1e-4


@dataclass(frozen=True)
class Tolerance:
    """What an error is measured by: the scale ``atol + rtol |w|``, with atol per field.

    Attributes
    ----------
    rtol : relative tolerance, 1e-14 <= rtol < 1
    atol : absolute tolerance per field, in the units of the fields, (field,)
    """

    rtol: float
    atol: np.ndarray

    @classmethod
    def of(cls, rtol: object, atol: object, fields: Sequence[str]) -> Tolerance:
        """Check what the user gave: `atol` is one number > 0, or one per field name.

        Raises
        ------
        ConfigError : out of range, or a field is missing or unknown
        """
        if not _positive(rtol) or not _SMALLEST_RTOL <= rtol < 1:  # type: ignore[operator]
            expected = f"a number from {_SMALLEST_RTOL:g} (rounding allows no less) to 1, such as 1e-6"
            raise ConfigError("rtol is out of range", expected=expected, given=repr(rtol))
        entries = dict(atol) if isinstance(atol, Mapping) else dict.fromkeys(fields, atol)
        for name in entries:
            if name not in fields:
                raise ConfigError(f"atol names an unknown field {name!r}", remedy=nearest(str(name), tuple(fields)))
        for name in fields:
            if not _positive(entries.get(name)):
                raise ConfigError(
                    f"atol of field {name!r} is out of range",
                    expected="a finite number > 0, or a mapping from every field's name to one",
                    given=repr(entries.get(name)),
                )
        return cls(float(rtol), np.array([float(entries[name]) for name in fields]))  # type: ignore[arg-type]


def _positive(value: object) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0  # type: ignore[arg-type,operator]


class PIController:
    """Proportional-integral control, PI(0.6, -0.2) by default (G. Soderlind, Numer. Algorithms 31 (2002) 281-310).

        h_next = h * safety * err^(-alpha/k) * err_before^(-beta/k),    factor held within [0.2, 5]

    where err = 1 is an error at tolerance and err ~ h^k. After a rejection the factor is ``safety err^(-1/k)``, at most 0.9,
    and the step after does not grow; after a step that was not finite it is 0.1. The first accepted step is a trial: its error
    alone sets the second, which may be up to 1000 times as long.

    Parameters
    ----------
    step : the first step, in theta; a cautious guess
    exponent : k, order of the embedded result + 1
    largest : upper limit of the step
    """

    def __init__(
        self,
        step: float,
        exponent: int,
        largest: float = math.inf,
        alpha: float = 0.6,
        beta: float = -0.2,
        safety: float = 0.9,
        factors: tuple[float, float] = (0.2, 5.0),
    ):
        self.step = min(step, largest)
        self._exponent = exponent
        self._largest = largest
        self._alpha, self._beta, self._safety = alpha, beta, safety
        self._lowest, self._highest = factors
        self._growth = _TRIAL_GROWTH
        self._before: float | None = None

    def accepted(self, taken: float, error: float) -> None:
        """Choose the next step after one of length `taken` (at most `step`: it may have been cut short to hit a time)."""
        if taken < _TELLING * self.step:
            return
        # What the error would have been, had the step not been cut short.
        error = max(error * (self.step / taken) ** self._exponent, _SMALLEST_ERROR)
        if self._before is None:
            factor = self._safety * error ** (-1 / self._exponent)
        else:
            factor = self._safety * (error**-self._alpha * self._before**-self._beta) ** (1 / self._exponent)
        self.step = min(self.step * min(max(factor, self._lowest), self._growth), self._largest)
        self._before = max(error, _SMALLEST_MEMORY)
        self._growth = self._highest

    def rejected(self, taken: float, error: float) -> None:
        """Choose a shorter step after one of length `taken` was rejected; `error` may be NaN or infinite."""
        factor = 0.1
        if math.isfinite(error):
            factor = min(max(self._safety * error ** (-1 / self._exponent), self._lowest), 0.9)
        self.step = taken * factor
        self._growth = 1.0
