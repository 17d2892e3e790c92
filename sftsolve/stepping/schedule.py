"""Schedules: when snapshots and time series are taken, as exact times in the clock of the user."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sftsolve.errors import ConfigError, nearest
from sftsolve.friction import Clock

_LARGEST_COUNT = 10**7
# Times closer than this, relative to the larger, are one: k * dt and a time typed in differ by rounding.
_SAME = 1e-12


@dataclass(frozen=True)
class UserClock:
    """The clock in which the user gives and reads times: "t" (physical) or "tau" (training time).

    Raises
    ------
    ConfigError : unknown name, or "tau" where gamma = 0 leaves it undefined
    """

    clock: Clock
    name: str

    def __post_init__(self) -> None:
        if self.name not in ("tau", "t"):
            raise ConfigError("unknown clock", expected='"tau" or "t"', given=repr(self.name))
        if self.name == "tau" and not self.clock.trains:
            raise ConfigError("training time tau does not exist without friction", given="gamma = 0", remedy='take clock="t"')

    def check(self, name: str, value: object, above: float = 0.0) -> float:
        """`value` as a float; raises `ConfigError` unless it is a finite number > `above`."""
        number = _number(value, name)
        if number <= above:
            raise ConfigError(f"{name} is out of range", expected=f"a number > {above:g} (clock {self.name})", given=repr(value))
        return number

    def reading(self, t: float) -> float:
        """What the clock shows at physical time t."""
        return t if self.name == "t" else self.clock.tau(t)

    def t(self, reading: float) -> float:
        return reading if self.name == "t" else self.clock.t_of_tau(reading)

    def tau(self, reading: float) -> float:
        return reading if self.name == "tau" else self.clock.tau(reading)

    def theta(self, reading: float) -> float:
        return self.clock.theta(self.t(reading))

    def length(self, theta: float, h: float) -> float:
        """What passes on this clock in a short step h of theta."""
        t = self.clock.t(theta)
        passed = h * self.clock.scale_at(t)
        return passed if self.name == "t" else passed / self.clock.gamma_at(t)


class Schedule(Protocol):
    """Times at which something is due."""

    def times(self, start: float, end: float) -> np.ndarray:
        """The times in (start, end], ascending. Raises `ConfigError` where they do not fit the run."""
        ...


@dataclass(frozen=True)
class Never:
    """No times."""

    def times(self, start: float, end: float) -> np.ndarray:
        return np.empty(0)


@dataclass(frozen=True)
class Every:
    """start + k dt, k = 1, 2, ...; each time is computed from k, never added up."""

    dt: float
    name: str = "save_every"

    def times(self, start: float, end: float) -> np.ndarray:
        if not 0 < self.dt < math.inf:
            raise ConfigError(f"{self.name} is out of range", expected="a finite number > 0", given=repr(self.dt))
        count = (end - start) / self.dt
        if count > _LARGEST_COUNT:
            raise ConfigError(
                f"{self.name} asks for too many times", expected=f"at most {_LARGEST_COUNT} in a run", given=f"{count:.3g}"
            )
        return start + np.arange(1, math.floor(count * (1 + _SAME)) + 1) * self.dt


@dataclass(frozen=True)
class At:
    """Times given one by one."""

    values: tuple[float, ...]

    def times(self, start: float, end: float) -> np.ndarray:
        times = np.unique(np.array(self.values, dtype=np.float64))
        _check_within(times, start, end)
        return times


@dataclass(frozen=True)
class Logarithmic:
    """`count` times from `low` to `high`, both included, at equal ratios."""

    low: float
    high: float
    count: int

    def times(self, start: float, end: float) -> np.ndarray:
        if not 0 < self.low < self.high < math.inf or not 2 <= self.count <= _LARGEST_COUNT:
            expected = '{"log": [low, high], "count": n} with 0 < low < high and n >= 2'
            given = f'{{"log": [{self.low:g}, {self.high:g}], "count": {self.count}}}'
            raise ConfigError("save_at is out of range", expected=expected, given=given)
        times = np.geomspace(self.low, self.high, self.count)
        times[-1] = self.high
        _check_within(times, start, end)
        return times


def _check_within(times: np.ndarray, start: float, end: float) -> None:
    outside = times[~((times >= start) & (times <= end * (1 + math.copysign(_SAME, end))))]
    if len(outside):
        raise ConfigError(
            "save_at names a time outside the run",
            expected=f"times from {start:g} to end = {end:g}",
            given=f"{outside[0]:g}",
            remedy="move end, or leave that time out",
        )


def snapshot_schedule(save_every: float | None, save_at: Any) -> Schedule:
    """What `save_every` and `save_at` of the public interface mean.

    Parameters
    ----------
    save_every : distance of snapshots
    save_at : list of times, or ``{"log": [low, high], "count": n}``

    Raises
    ------
    ConfigError : both are given, or one is not understood
    """
    if save_every is not None and save_at is not None:
        raise ConfigError("save_every and save_at exclude each other", remedy="leave one of them out")
    if save_every is not None:
        return Every(_number(save_every, "save_every"))
    if save_at is None:
        return Never()
    if isinstance(save_at, Mapping):
        return _logarithmic(save_at)
    if isinstance(save_at, str) or not isinstance(save_at, Iterable):
        raise ConfigError("save_at is not understood", expected=_FORMS, given=repr(save_at))
    return At(tuple(_number(value, "save_at") for value in save_at))


def scalar_schedule(scalars_every: float | None) -> Schedule:
    """Times of the time series between snapshots."""
    return Never() if scalars_every is None else Every(_number(scalars_every, "scalars_every"), "scalars_every")


_FORMS = 'a list of times, or {"log": [low, high], "count": n}'


def _logarithmic(spec: Mapping[str, Any]) -> Schedule:
    unknown = [str(key) for key in spec if key not in ("log", "count")]
    if unknown:
        raise ConfigError(
            "save_at is not understood", expected=_FORMS, given=repr(dict(spec)), remedy=nearest(unknown[0], ("log", "count"))
        )
    bounds, count = spec.get("log"), spec.get("count")
    whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
    if isinstance(bounds, (str, Mapping)) or not isinstance(bounds, Iterable) or len(limits := list(bounds)) != 2 or not whole:
        raise ConfigError("save_at is not understood", expected=_FORMS, given=repr(dict(spec)))
    return Logarithmic(_number(limits[0], "save_at"), _number(limits[1], "save_at"), int(count))  # type: ignore[arg-type]


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not math.isfinite(value):
        raise ConfigError(f"{name} is not a finite number", expected="a finite number", given=repr(value))
    return float(value)


@dataclass(frozen=True)
class Event:
    """A time of a run.

    Attributes
    ----------
    time : in the user's clock
    snapshot, series : whether a snapshot, or a row of the time series, is due; a row comes with every snapshot
    switch : physical time of a switch of the system, which a step must end at; None for none
    """

    time: float
    snapshot: bool = False
    series: bool = False
    switch: float | None = None

    @property
    def due(self) -> bool:
        """Whether anything is to be written."""
        return self.snapshot or self.series

    def joined(self, other: Event) -> Event:
        """Both at this one's time."""
        switch = other.switch if self.switch is None else self.switch
        return Event(self.time, self.snapshot or other.snapshot, self.series or other.series, switch)


def events(
    start: float, end: float, snapshots: Schedule, scalars: Schedule, switches: Iterable[tuple[float, float]] = ()
) -> list[Event]:
    """All events after `start`, ascending, `end` the last; a snapshot is due at `end` always.

    Parameters
    ----------
    start, end : in the user's clock
    switches : switches of the system, (time in the user's clock, physical time)
    """
    last = Event(float(end), snapshot=True)
    wanted = [Event(float(time), snapshot=True) for time in snapshots.times(start, end)]
    wanted += [Event(float(time), series=True) for time in scalars.times(start, end)]
    wanted += [Event(time, switch=t) for time, t in switches]
    kept: list[Event] = []
    for event in sorted(wanted, key=lambda event: (event.time, not event.due)):
        if _same(event.time, end):
            break
        if _same(event.time, start):
            continue
        if kept and _same(event.time, kept[-1].time):
            kept[-1] = kept[-1].joined(event)
        else:
            kept.append(event)
    return [*kept, last]


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
