"""Tables over modes that hold equal rows once.

The symbol of a real, even stencil depends on |k_z| and |k_y| alone, and where the two axes are alike not even on their order:
of the rows along x of a three-dimensional table an eighth is different. Rows are compared by their bits, so that whatever made
them (stencils, kernels, blocks of coupled fields) folds as far as it really is symmetric, and nothing is lost where it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

_BLOCK = 1 << 20  # numbers that are compared at a time


@njit(cache=True)
def piece(row, width, place, start, stop):  # type: ignore[no-untyped-def]
    """(first, last, shift) of the modes of `row` within start ... stop: mode i has the values at i - shift."""
    first, last = max(start, row * width), min(stop, (row + 1) * width)
    return np.uint64(first), np.uint64(last), np.uint64((row - place[row]) * width)


@dataclass(frozen=True)
class Folded:
    """A table over modes.

    Attributes
    ----------
    values : the rows that differ, (row, modes along x), or what there is of several tables in a row
    place : for every row of a spectrum, in its order, the row of `values` that is it
    """

    values: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray) -> Folded:
        """Fold a contiguous table, rows on its last axis."""
        rows = table.reshape(-1, table.shape[-1])
        marks = _marks(rows)
        _, first, place = np.unique(marks, return_index=True, return_inverse=True)
        # In the order of their first appearance: neighbours in the spectrum are neighbours here.
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        place = rank[place]
        kept = rows[first[order]]
        if not all(np.array_equal(rows[block], kept[place[block]]) for block in _blocks(rows)):
            return cls(rows.copy(), np.arange(len(rows)))
        return cls(kept, place)

    @property
    def size(self) -> int:
        """How many modes there are."""
        return len(self.place) * self.values.shape[1]

    def expanded(self) -> np.ndarray:
        """All rows, (row, modes along x)."""
        return self.values[self.place]


def _blocks(rows: np.ndarray) -> Iterator[slice]:
    step = max(1, _BLOCK // rows.shape[1])
    return (slice(start, start + step) for start in range(0, len(rows), step))


def _marks(rows: np.ndarray) -> np.ndarray:
    """A number for every row, of its bits: equal rows have equal ones, others hardly ever."""
    factors = np.random.default_rng(0).integers(1 << 63, size=rows[:0].view(np.uint32).shape[1], dtype=np.uint64) | np.uint64(1)
    return np.concatenate([(rows[block].view(np.uint32) * factors).sum(axis=1, dtype=np.uint64) for block in _blocks(rows)])
