"""What every operator between fields answers. The system is their sum, and steppers see nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from sftsolve.errors import ConfigError, GridError
from sftsolve.grid import Grid
from sftsolve.memory import Need, of_machine
from sftsolve.state import Layout, State

# What one kernel may take of the machine's memory: a run holds several states beside it.
SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class Estimate:
    """What a kernel costs on a grid, known before anything is built.

    Attributes
    ----------
    flops, bytes : floating-point operations, and bytes between processor and memory, of one force
    memory : bytes that the bound operator holds, states not counted
    given : bytes that are held beside, such as the weights or the matrix from which the operator was made
    making : bytes that go beyond these while the operator is made
    """

    flops: float
    bytes: float
    memory: float
    given: float = 0.0
    making: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        making = max(self.making, other.making)
        sums = self.flops + other.flops, self.bytes + other.bytes, self.memory + other.memory, self.given + other.given
        return Estimate(*sums, making)

    @property
    def need(self) -> Need:
        """What the operator and its description take of a run's memory."""
        return Need.of(self.memory + self.given, self.making)

    def require(self, what: str, limit: float | None = None, remedy: str | None = None) -> None:
        """Refuse what would not fit.

        Parameters
        ----------
        what : who asks, the subject of the message
        limit : bytes, `memory_limit` by default
        remedy : the alternatives

        Raises
        ------
        GridError : more memory than the limit
        """
        allowed = memory_limit() if limit is None else limit
        if self.memory > allowed:
            raise GridError(
                f"{what} needs more memory than it may take",
                expected=f"at most {readable(allowed)} (SFTSOLVE_MEMORY sets another limit)",
                given=readable(self.memory),
                remedy=remedy,
            )


def memory_limit() -> float:
    """Bytes that one kernel may hold: ``SFTSOLVE_MEMORY`` if set (a number of bytes), else half of the machine's memory.

    Raises
    ------
    ConfigError : the variable is not a positive number
    """
    wanted = os.environ.get("SFTSOLVE_MEMORY")
    if wanted is None:
        return SHARE_OF_MEMORY * of_machine()
    try:
        limit = float(wanted)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ConfigError("SFTSOLVE_MEMORY is not usable", expected="a positive number of bytes, such as 8e9", given=wanted)
    return limit


def readable(size: float) -> str:
    """A number of bytes as people write it, e.g. "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


class Operator(Protocol):
    """A part of the cost bound to a grid. Ghosts of states hold anything; nothing of field size is allocated.

    An operator may also offer ``merge(other) -> Operator | None``: one that does the work of both at a lower price, or None. One
    that changes in time says so by an attribute ``time_dependent``; it may offer ``power(state, t)``, the derivative of its cost
    by time with the fields held fixed, NaN where that is not known; if it is smooth only in pieces of time it also offers what
    `Switching` has.
    """

    def add_force(self, state: State, out: State, t: float) -> None:
        """out.w += -h^-d dC/dw at (state, t)."""
        ...

    def energy(self, state: State, t: float) -> float:
        """This operator's part of the cost."""
        ...

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        """out.w += F'(state, t) direction.w."""
        ...

    def symbol(self) -> np.ndarray | None:
        """Constant-coefficient linear part of F per mode, (field, field, *modes); None where there is none."""
        ...

    def bound(self, t: float = 0.0) -> float | None:
        """Upper bound of |eigenvalues| of F' at time t for any state; None where it depends on the state."""
        ...


@runtime_checkable
class Switching(Protocol):
    """An operator that is smooth only in pieces of time.

    Evaluations at times inside the piece at hand, its ends included, use its smooth extension; others take up their own piece.
    """

    def switches(self, first: float, last: float) -> Sequence[float]:
        """Times inside (first, last) where it is not smooth."""
        ...

    def enter(self, t: float) -> None:
        """Take up the piece that holds t, the later one where two meet."""
        ...


def changes_in_time(operator: Operator) -> bool:
    """Whether the force of an operator depends on t explicitly."""
    return bool(getattr(operator, "time_dependent", False))


def drifts(operator: Operator) -> bool:
    """Whether it does so within pieces of time too, not only from one to the next."""
    return bool(getattr(operator, "drifting", changes_in_time(operator)))


def power_of(operator: Operator, state: State, t: float) -> float:
    """dC/dt of an operator with the fields held fixed; NaN where it changes in time and does not tell."""
    if not changes_in_time(operator):
        return 0.0
    power = getattr(operator, "power", None)
    return math.nan if power is None else float(power(state, t))


class Kernel(Protocol):
    """A description of an operator, free of any grid; `bind` makes the operator."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields it acts between."""
        ...

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> Operator:
        """The operator on a grid for an action with these fields."""
        ...

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """What one force on this grid costs, and the memory of the operator, for fields of this type."""
        ...


def merged(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """The same sum in fewer operators where some offer to merge; each stays where its first part stood."""
    found: list[Operator] = []
    for operator in operators:
        for number, earlier in enumerate(found):
            merge = getattr(earlier, "merge", None)
            joined = merge(operator) if merge is not None else None
            if joined is not None:
                found[number] = joined
                break
        else:
            found.append(operator)
    return tuple(found)
