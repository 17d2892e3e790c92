"""Mini-batches: sources that show some of the training examples at a time, shuffled anew every epoch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from sftsolve.errors import ActionError, is_number
from sftsolve.grid import Grid
from sftsolve.sources.arrays import on_grid
from sftsolve.sources.frames import Frames, OpenFrames
from sftsolve.sources.moving import ROUNDING, Form, Moving, TimeSource, hidden


class BatchSchedule:
    """Which of `count` examples are shown when.

    Batch k = 0, 1, ... is shown from t = start + k every to start + (k + 1) every. An epoch is ceil(count / size) batches, which
    show every example once; its order is ``numpy.random.default_rng([seed, epoch]).permutation(count)``, so that every batch is
    known without those before it.

    Parameters
    ----------
    count : number of examples
    size : examples a batch; the last batch of an epoch may be smaller
    every : how long a batch lasts, in physical time t. One step of gradient descent with learning rate eta is one unit of t at
        gamma = 1/eta (arXiv:2503.08827), so 1 shows every step a new batch
    seed : of the shuffle; None shows the examples in their order, the same in every epoch
    start : when the first batch begins; it is shown before that, too

    Raises
    ------
    ActionError : an argument out of range
    """

    def __init__(self, count: int, size: int, every: float = 1.0, seed: int | None = 0, start: float = 0.0):
        self.count = _whole("the number of examples", count, 1)
        self.size = _whole("the size of a batch", size, 1)
        if self.size > self.count:
            raise ActionError("a batch is larger than the set", expected=f"at most {self.count} examples a batch", given=size)
        if not is_number(every) or not every > 0:
            raise ActionError("a batch must last some time", expected="every > 0, in units of t", given=repr(every))
        if not is_number(start):
            raise ActionError("the start of a batch schedule is not understood", expected="a time t", given=repr(start))
        self.seed = None if seed is None else _whole("the seed", seed, 0)
        self.every, self.start = float(every), float(start)
        self._epoch, self._order = -1, np.arange(self.count)

    @property
    def batches(self) -> int:
        """Batches an epoch."""
        return -(-self.count // self.size)

    def number(self, t: float) -> int:
        """Number of the batch that is shown at t, the later one where two meet."""
        return max(0, math.floor((t - self.start) / self.every + ROUNDING))

    def piece(self, number: int) -> tuple[float, float]:
        """When a batch is shown."""
        begin = -math.inf if number == 0 else self.start + number * self.every
        return begin, self.start + (number + 1) * self.every

    def holds(self, number: int, t: float) -> bool:
        """Whether t lies while a batch is shown, its ends included."""
        begin, end = self.piece(number)
        slack = ROUNDING * self.every
        return begin - slack <= t <= end + slack

    def examples(self, number: int) -> np.ndarray:
        """The examples of a batch, sorted."""
        epoch, place = divmod(number, self.batches)
        if self.seed is not None and epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        self._epoch = epoch
        return np.sort(self._order[place * self.size : (place + 1) * self.size])

    def switches(self, first: float, last: float) -> list[float]:
        """Times inside (first, last) at which a batch ends."""
        slack = ROUNDING * self.every
        found = []
        number = max(1, math.floor((first - self.start) / self.every))
        while (time := self.start + number * self.every) < last - slack:
            if time > first + slack:
                found.append(time)
            number += 1
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchSchedule) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"BatchSchedule({self.count}, {self.size}, every={self.every!r}, seed={self.seed}, start={self.start!r})"


def _whole(what: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ActionError(f"{what} must be a whole number >= {least}", given=repr(value))
    return int(value)


Given = Callable[[np.ndarray], np.ndarray]


class MiniBatches(TimeSource):
    """A source that is the mean (or sum) of the examples at hand,  J(x, t) = mean_{l in batch(t)} J_l(x).

    Parameters
    ----------
    examples : J_l, an array (example, *grid.shape) or ``{"file": path, "dataset": name}``, read batch by batch; or a function
        from the numbers of a batch's examples to an array of the grid's shape, which is then taken as it is
    batch_size, every, seed, start : see `BatchSchedule`
    reduce : "mean" or "sum" over the batch
    schedule : a `BatchSchedule` instead of the four arguments above; sources with equal schedules show the same examples

    Raises
    ------
    ActionError : arguments out of range or not clear
    """

    kind: ClassVar[str] = "a mini-batch schedule"

    def __init__(
        self,
        examples: Any,
        batch_size: int | None = None,
        *,
        every: float = 1.0,
        seed: int | None = 0,
        start: float = 0.0,
        reduce: str = "mean",
        schedule: BatchSchedule | None = None,
    ):
        if reduce not in ("mean", "sum"):
            raise ActionError("this reduction of a batch is not known", expected='reduce="mean" or "sum"', given=repr(reduce))
        if (batch_size is None) == (schedule is None):
            raise ActionError("the batches are not clear", expected="batch_size=, or schedule=sft.BatchSchedule(...)")
        self.reduce = reduce
        self._function: Given | None = examples if callable(examples) else None
        self._frames = None if callable(examples) else Frames("the examples", examples)
        if schedule is None:
            if self._frames is None:
                raise ActionError(
                    "a function of a batch needs a schedule", expected="schedule=sft.BatchSchedule(count, size, ...)"
                )
            assert batch_size is not None
            schedule = BatchSchedule(self._frames.count(), batch_size, every, seed, start)
        if not isinstance(schedule, BatchSchedule):
            raise ActionError("the schedule is not understood", expected="sft.BatchSchedule(...)", given=repr(schedule)[:80])
        self.schedule = schedule

    @classmethod
    def of(cls, examples: Mapping[str, Any], batch_size: int, **options: Any) -> dict[str, MiniBatches]:
        """Several sources of the same examples under one schedule, by name: ``sources={**MiniBatches.of({...}, 20)}``.

        Raises
        ------
        ActionError : sets of unequal size
        """
        found = {name: cls(given, batch_size, **options) for name, given in examples.items()}
        counts = {name: source.schedule.count for name, source in found.items()}
        if len(set(counts.values())) > 1:
            raise ActionError("these sources do not have the same examples", expected="equal numbers", given=counts)
        return found

    def form(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Form:
        symbol = hidden(name, "batch", 0)
        return Form(symbol, (symbol.name,))

    def bind(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> MovingBatches:
        return MovingBatches(self.form(name, grid, parameters), self, self._opened(grid), grid)

    def bytes_on(self, grid: Grid) -> float:
        """Bytes that it holds beside the array of a run."""
        return 0.0 if self._frames is None else self._frames.bytes_on(grid)

    def values_at(self, grid: Grid, parameters: Mapping[str, float], t: float) -> np.ndarray:
        out = np.empty(grid.shape)
        self.reduce_into(self._opened(grid), self.schedule.number(t), grid, out)
        return out

    def reduce_into(self, frames: OpenFrames | None, number: int, grid: Grid, out: np.ndarray) -> None:
        """Write the mean or sum over batch `number` into `out`, which has the grid's shape and is of double precision."""
        chosen = self.schedule.examples(number)
        if frames is None:
            assert self._function is not None
            out[...] = on_grid(grid, "of a batch", self._function(chosen), "the value")
            return
        out.fill(0.0)
        for example in chosen:
            out += frames.read(int(example))
        if self.reduce == "mean":
            out *= 1.0 / len(chosen)

    def _opened(self, grid: Grid) -> OpenFrames | None:
        if self._frames is None:
            return None
        opened = self._frames.open(grid)
        if len(opened) != self.schedule.count:
            raise ActionError("the schedule is for other examples", expected=f"{self.schedule.count} examples", given=len(opened))
        return opened

    def __repr__(self) -> str:
        return f"MiniBatches({self._frames or self._function!r}, reduce={self.reduce!r}, schedule={self.schedule})"


class MovingBatches(Moving):
    """Mini-batches on a grid: the array of the batch at hand."""

    def __init__(self, form: Form, source: MiniBatches, frames: OpenFrames | None, grid: Grid):
        self.form = form
        self.frames = frames
        self._source, self._grid = source, grid
        self._number = -1
        self._scratch: np.ndarray | None = None

    def switches(self, first: float, last: float) -> Sequence[float]:
        return self._source.schedule.switches(first, last)

    def enter(self, t: float) -> Sequence[str]:
        number = self._source.schedule.number(t)
        self.start, self.end = self._source.schedule.piece(number)
        if number == self._number:
            return ()
        self._number = number
        return self.form.arrays

    def write(self, name: str, out: np.ndarray) -> None:
        if out.dtype == np.float64:
            self._source.reduce_into(self.frames, self._number, self._grid, out)
            return
        if self._scratch is None:
            self._scratch = np.empty(self._grid.shape)
        self._source.reduce_into(self.frames, self._number, self._grid, self._scratch)
        out[...] = self._scratch
