"""Time series: sources known at given times, interpolated between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sftsolve.algebra import add, multiply
from sftsolve.errors import ActionError, ConfigError
from sftsolve.grid import Grid
from sftsolve.sources.arrays import read_dataset
from sftsolve.sources.frames import Frames, OpenFrames
from sftsolve.sources.moving import ROUNDING, Form, Moving, TimeSource, hidden

INTERPOLATIONS = {"linear": 2, "cubic": 4}  # frames that a value is made of


class TimeSeries(TimeSource):
    """A source given by frames J_n(x) at times t_n.

    linear:  J = (1 - s) J_n + s J_{n+1},  s = (t - t_n)/(t_{n+1} - t_n); every t_n is a kink, where steps end.
    cubic:   the Hermite cubic with J_n, J_{n+1} and the slopes there of the parabolas through three neighbouring frames
             (Catmull-Rom on times of any spacing); continuous with its first derivative.

    Only the two or four frames that a value is made of are on the grid; of a file only these are read.

    Parameters
    ----------
    times : physical times t_n, increasing, two at least; or the name of their data set where the frames are in a file
    frames : an array (time, *grid.shape), or ``{"file": path, "dataset": name}``
    interpolation : "linear" or "cubic"

    Raises
    ------
    ActionError : times that do not increase, another number of frames, an unknown interpolation
    FileError : the times cannot be read
    """

    kind: ClassVar[str] = "a time series"

    def __init__(self, times: Any, frames: Any, interpolation: str = "linear"):
        if interpolation not in INTERPOLATIONS:
            raise ActionError("this interpolation is not known", expected=" or ".join(INTERPOLATIONS), given=repr(interpolation))
        self.interpolation = interpolation
        self._frames = Frames("the frames of a time series", frames)
        if isinstance(times, str) and isinstance(frames, Mapping):
            times = read_dataset(Path(frames["file"]), times)
        self.times = np.asarray(times)
        if self.times.ndim != 1 or self.times.dtype.kind not in "fiu" or len(self.times) < 2:
            raise ActionError("a time series needs times", expected="two or more numbers, one a frame", given=repr(times)[:80])
        self.times = self.times.astype(np.float64)
        if not np.isfinite(self.times).all() or not (np.diff(self.times) > 0).all():
            raise ActionError("the times of a series must increase", given=repr(times)[:80])
        count = self._frames.count()
        if count != len(self.times):
            raise ActionError("a time series needs one time a frame", expected=f"{count} times", given=len(self.times))

    @property
    def window(self) -> int:
        """Number of frames that are needed at once."""
        return min(INTERPOLATIONS[self.interpolation], len(self.times))

    def form(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Form:
        frames = [hidden(name, "frame", number) for number in range(self.window)]
        weights = [hidden(name, "weight", number) for number in range(self.window)]
        tree = add(*[multiply(frame, weight) for frame, weight in zip(frames, weights, strict=True)])
        return Form(tree, tuple(frame.name for frame in frames), tuple(weight.name for weight in weights))

    def bind(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> MovingSeries:
        # Two frames more than a window: steps that reach over a time of the series go back and forth between two windows.
        return MovingSeries(name, self.form(name, grid, parameters), self, self._frames.open(grid, keep=self.window + 2))

    def bytes_on(self, grid: Grid) -> float:
        """Bytes that it holds beside the arrays of a run."""
        return self._frames.bytes_on(grid, self.window + 2)

    def values_at(self, grid: Grid, parameters: Mapping[str, float], t: float) -> np.ndarray:
        self.check_range(t, t, "this series")
        frames, total = self._frames.open(grid), np.zeros(grid.shape)
        piece = self.piece(t)
        for frame, weight in zip(self.needed(piece), self.weights(piece, t), strict=True):
            total += weight * frames.read(frame)
        return total

    def check_range(self, first: float, last: float, what: str) -> None:
        """Refuse times outside the series."""
        slack = ROUNDING * (self.times[-1] - self.times[0])
        if first < self.times[0] - slack or last > self.times[-1] + slack:
            asked = f"t = {first:.12g}" + (f" to {last:.12g}" if last > first else "")
            raise ConfigError(
                f"{what} does not reach over all times that are asked for",
                expected=f"physical times from {self.times[0]:.12g} to {self.times[-1]:.12g}",
                given=asked,
                remedy="add frames, or run over the times of the series (times are t; t = gamma tau for constant friction)",
            )

    def piece(self, t: float) -> int:
        """Number of the interval that holds t, the later one where two meet, the nearest one outside."""
        number = int(np.searchsorted(self.times, t, side="right")) - 1
        number = min(max(number, 0), len(self.times) - 2)
        begin, end = self.times[number : number + 2]
        return min(number + (t >= end - ROUNDING * (end - begin)), len(self.times) - 2)

    def needed(self, piece: int) -> range:
        """Frames that the values in an interval are made of."""
        first = piece if self.window == 2 else min(max(piece - 1, 0), len(self.times) - self.window)
        return range(first, first + self.window)

    def weights(self, piece: int, t: float) -> list[float]:
        """What the frames that are needed contribute at t."""
        begin, end = self.times[piece : piece + 2]
        length = end - begin
        s = (t - begin) / length
        if self.window == 2:
            return [1.0 - s, s]
        frames = self.needed(piece)
        weights = np.zeros(self.window)
        here = piece - frames.start
        weights[here] += (1 + 2 * s) * (1 - s) ** 2
        weights[here + 1] += s**2 * (3 - 2 * s)
        for knot, factor in ((piece, s * (1 - s) ** 2), (piece + 1, -(s**2) * (1 - s))):
            start = min(max(knot - 1, 0), len(self.times) - 3)
            slope = _slope(self.times[start : start + 3], self.times[knot])
            weights[start - frames.start : start - frames.start + 3] += factor * length * slope
        return [float(weight) for weight in weights]

    def weight_rates(self, piece: int, t: float) -> list[float]:
        """Derivatives of the weights by time: differences of fourth order, which are exact for cubics at any width."""
        width = 0.25 * float(self.times[piece + 1] - self.times[piece])
        a, b, c, d = (np.array(self.weights(piece, t + step * width)) for step in (-2, -1, 1, 2))
        return [float(rate) for rate in (8.0 * (c - b) - (d - a)) / (12.0 * width)]

    def __repr__(self) -> str:
        return f"TimeSeries({self.times[0]:g}..{self.times[-1]:g}, {self._frames!r}, interpolation={self.interpolation!r})"


def _slope(times: np.ndarray, t: float) -> np.ndarray:
    """What three values contribute to the slope at t of the parabola through them."""
    a, b, c = times
    return np.array(
        [(2 * t - b - c) / ((a - b) * (a - c)), (2 * t - a - c) / ((b - a) * (b - c)), (2 * t - a - b) / ((c - a) * (c - b))]
    )


class MovingSeries(Moving):
    """A time series on a grid. Frame n stands in slot n modulo the window, so that a new interval changes one slot."""

    def __init__(self, name: str, form: Form, series: TimeSeries, frames: OpenFrames):
        self.form, self.frames = form, frames
        self._name, self._series = name, series
        self._piece = -1
        self._slots: list[int] = [-1] * series.window

    def check(self, first: float, last: float) -> None:
        self._series.check_range(first, last, f"the time series {self._name!r}")

    def switches(self, first: float, last: float) -> Sequence[float]:
        if self._series.interpolation != "linear":
            return ()
        knots = self._series.times[1:-1]
        slack = ROUNDING * np.diff(self._series.times)[:-1] if len(knots) else knots
        return [float(t) for t in knots[(knots > first + slack) & (knots < last - slack)]]

    def enter(self, t: float) -> Sequence[str]:
        self._piece = self._series.piece(t)
        self.start, self.end = (float(time) for time in self._series.times[self._piece : self._piece + 2])
        changed = []
        for frame in self._series.needed(self._piece):
            slot = frame % self._series.window
            if self._slots[slot] != frame:
                self._slots[slot] = frame
                changed.append(self.form.arrays[slot])
        return changed

    def scalars(self, t: float) -> Sequence[float]:
        if not self.start <= t <= self.end:
            self._series.check_range(t, t, f"the time series {self._name!r}")
        weights = [0.0] * self._series.window
        for frame, weight in zip(self._series.needed(self._piece), self._series.weights(self._piece, t), strict=True):
            weights[frame % self._series.window] = weight
        return weights

    def rates(self, t: float) -> Sequence[float]:
        rates = [0.0] * self._series.window
        for frame, rate in zip(self._series.needed(self._piece), self._series.weight_rates(self._piece, t), strict=True):
            rates[frame % self._series.window] = rate
        return rates

    def write(self, name: str, out: np.ndarray) -> None:
        out[...] = self.frames.read(self._slots[self.form.arrays.index(name)])
