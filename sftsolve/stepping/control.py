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
# From the trial step, a hundredth of the time of change, to a third of it. What an error so far below tolerance promises beyond
# does not hold: a step a thousand times as long leaps over the initial layer, and its estimate may not see that.
_TRIAL_GROWTH = 30.0
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


@dataclass(frozen=True)
class StepRule:
    """How a method wants its steps to change.

    Attributes
    ----------
    growth : largest factor from one step to the next
    dead_band : a factor from 1 to this leaves the step as it is: methods that prepare something for a step like to keep it
    per_octave : steps are 2^(j / per_octave) only, so that what was prepared for them is met again; 0 for any
    """

    growth: float = 5.0
    dead_band: float = 1.0
    per_octave: int = 0

    def rounded(self, step: float) -> float:
        """The longest admissible step up to `step`."""
        if not self.per_octave or not 0 < step < math.inf:
            return step
        return float(2.0 ** (math.floor(self.per_octave * math.log2(step) + 1e-9) / self.per_octave))


ANY_STEP = StepRule()


class PIController:
    """Proportional-integral control, PI(0.6, -0.2) by default (G. Soderlind, Numer. Algorithms 31 (2002) 281-310).

        h_next = h * safety * err^(-alpha/k) * err_before^(-beta/k),    factor held within [0.2, 5]

    where err = 1 is an error at tolerance and err ~ h^k. After a rejection the factor is ``safety err^(-1/k)``, at most 0.9,
    and the step after does not grow; after a step that was not finite it is 0.1. The first accepted step is a trial: its error
    alone sets the second, which may be up to 30 times as long.

    Parameters
    ----------
    step : the first step, in theta; a cautious guess
    largest : upper limit of the step
    """

    def __init__(
        self,
        step: float,
        largest: float = math.inf,
        alpha: float = 0.6,
        beta: float = -0.2,
        safety: float = 0.9,
        lowest: float = 0.2,
    ):
        self.step = min(step, largest)
        self._largest = largest
        self._alpha, self._beta, self._safety, self._lowest = alpha, beta, safety, lowest
        self._before: float | None = None
        self._rejected = False

    def limit(self, largest: float) -> None:
        """Change the upper limit of the step."""
        self._largest, self.step = largest, min(self.step, largest)

    def accepted(self, taken: float, error: float, exponent: int, rule: StepRule = ANY_STEP) -> None:
        """Choose the next step after one of length `taken` (at most `step`: it may have been cut short to hit a time).

        Parameters
        ----------
        error : of the step, in units of the tolerance
        exponent : k, order of the embedded result + 1
        rule : how the method wants its steps to change
        """
        if taken < _TELLING * self.step:
            return
        # What the error would have been, had the step not been cut short.
        error = max(error * (self.step / taken) ** exponent, _SMALLEST_ERROR)
        if self._before is None:
            factor, growth = self._safety * error ** (-1 / exponent), _TRIAL_GROWTH
        else:
            factor, growth = self._safety * (error**-self._alpha * self._before**-self._beta) ** (1 / exponent), rule.growth
        factor = min(max(factor, self._lowest), 1.0 if self._rejected else growth)
        if not 1.0 <= factor <= rule.dead_band:
            self.step = min(rule.rounded(self.step * factor), self._largest)
        self._before = max(error, _SMALLEST_MEMORY)
        self._rejected = False

    def rejected(self, taken: float, error: float, exponent: int, rule: StepRule = ANY_STEP) -> None:
        """Choose a shorter step after one of length `taken` was rejected; `error` may be NaN or infinite."""
        factor = 0.1
        if math.isfinite(error):
            factor = min(max(self._safety * error ** (-1 / exponent), self._lowest), 0.9)
        self.step = rule.rounded(taken * factor)
        self._rejected = True
