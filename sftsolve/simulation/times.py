"""What the user said about times, brought onto a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sftsolve.errors import ConfigError
from sftsolve.friction import Clock
from sftsolve.stepping import Event, UserClock, events, scalar_schedule, snapshot_schedule


@dataclass(frozen=True)
class Limits:
    """How long steps may be, and how many, as given by the user; None leaves it to the method."""

    first_step: Any = None
    max_step: Any = None
    max_steps: Any = None

    def on(self, axis: UserClock) -> tuple[float | None, float | None, int | None]:
        """The first step and the longest, in the user's clock, and the number; raises `ConfigError` where they make no sense."""
        first, largest, most = (
            value if value is None or value == math.inf else axis.check(name, value) for name, value in vars(self).items()
        )
        if most is not None and not most.is_integer():
            raise ConfigError("max_steps is no number of steps", expected="a whole number > 0", given=repr(self.max_steps))
        return first, largest, None if most is None else int(most)


def _none(first: float, last: float) -> Sequence[float]:
    return ()


@dataclass(frozen=True)
class Times:
    """When a run ends, and what it saves when, as given by the user."""

    end: Any
    clock: Any
    save_every: Any
    save_at: Any
    scalars_every: Any

    def on(
        self, clock: Clock, t: float, switches: Callable[[float, float], Sequence[float]] = _none
    ) -> tuple[UserClock, list[Event]]:
        """The user's clock, and the events in it from physical time t on; raises `ConfigError` where they make no sense.

        Parameters
        ----------
        clock : of the system
        switches : the system's switches between two physical times
        """
        axis = UserClock(clock, self.clock)
        start = axis.reading(t)
        end = axis.check("end", self.end, start)
        snapshots, scalars = snapshot_schedule(self.save_every, self.save_at), scalar_schedule(self.scalars_every)
        crossed = [(axis.reading(time), time) for time in switches(t, axis.t(end))]
        return axis, events(start, end, snapshots, scalars, crossed)
