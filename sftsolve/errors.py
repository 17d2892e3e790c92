"""Every error that a user can cause says what was expected, what was given and what to do.

One class a kind of mistake, all below `SftError`, so that a script can catch the one it can mend and the
command line can print any of them as one message with exit code 2.
"""

from __future__ import annotations

import math
import numbers
from typing import TypeGuard


class SftError(Exception):
    """Base of all errors that sftsolve raises on purpose.

    Parameters
    ----------
    message : what went wrong, one sentence without a full stop
    expected, given, remedy : the three things a reader needs next; each optional, shown on a line of its own
    """

    def __init__(self, message: str, *, expected: str | None = None, given: object = None, remedy: str | None = None):
        self.message = message
        self.expected = expected
        self.given = None if given is None else str(given)
        self.remedy = remedy
        lines = [message]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if self.given is not None:
            lines.append(f"  given:    {self.given}")
        if remedy is not None:
            lines.append(f"  to do:    {remedy}")
        super().__init__("\n".join(lines))


class ConfigError(SftError):
    """A configuration file or an argument is malformed, unknown or out of range."""


class ExpressionError(SftError):
    """A typed expression is not in the language; the message shows the offending column."""


class GridError(SftError):
    """The grid, its boundary conditions or an array's shape do not fit together."""


class ActionError(SftError):
    """The action names something that does not exist, or has no discretisation that is exact and of full order."""


class StepError(SftError):
    """The time stepper cannot go on: not finite, or the smallest step was rejected.

    The attribute `result` holds what was saved of the run, None where nothing was.
    """

    result: object = None


class FileError(SftError):
    """A file is missing, unreadable, not of this project, or in the way."""


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a real number, of Python or NumPy, that a float can hold: finite, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an int larger than any float
        return False


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A phrase that lists the known names nearest to `name` (all of them when none is near)."""
    import difflib

    near = [other for other in known if other.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return "did you mean " + " or ".join(near) + "?" if near else "known: " + (", ".join(known) or "(none)")
