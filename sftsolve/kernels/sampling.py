"""A kernel A(x, y) seen through samples: is it translation invariant, how far does it reach, what is its numerical rank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from sftsolve.errors import ActionError
from sftsolve.grid import Grid
from sftsolve.kernels.entries import PointEntries, between, cell_index

_PAIRS = 1 << 12  # pairs of cells in one question
_ROWS, _COLUMNS = 24, 1 << 14  # what a measurement of an error looks at; all columns where there are no more
_LARGEST_BLOCK = 1024  # of rows and columns whose rank is looked at
_ENTRIES = 8  # that matter, in a row of such a block
_MARGIN = 1.25  # by which a support is widened beyond what was seen


@dataclass(frozen=True, eq=False)
class Samples:
    """Questions to a kernel on a grid, asked at random cells; the random numbers are fixed, so answers are reproducible.

    Attributes
    ----------
    entries, grid : the kernel and where it is looked at
    images : periodic axes along which the second point is taken at its image nearest to the first
    symmetrised : whether only the mean of A(x, y) and A(y, x) matters
    """

    entries: PointEntries
    grid: Grid
    images: tuple[str, ...] = ()
    symmetrised: bool = False

    def values(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """A_ij of cells numbered in C order, broadcast against each other.

        Raises
        ------
        ActionError : a value that is not finite
        """
        found = between(self.entries, self.grid, rows, columns, self.images)
        if self.symmetrised:
            found = 0.5 * (found + between(self.entries, self.grid, columns, rows, self.images))
        if not np.isfinite(found).all():
            where = np.unravel_index(int(np.argmax(~np.isfinite(found))), found.shape)
            pair = [int(np.broadcast_to(part, found.shape)[where]) for part in (rows, columns)]
            raise ActionError(
                "the kernel is not finite",
                expected="finite values between all cells",
                given=f"{found[where]} between cells {pair[0]} and {pair[1]}",
                remedy="soften a singularity, as in 1/sqrt((x-x2)**2 + e**2)",
            )
        return found

    def invariance(self) -> float:
        """Root mean square of A(x + s, y + s) - A(x, y) over random pairs and shifts, as a share of that of A."""
        rng = np.random.default_rng(1)
        first, second, moved, too = ([] for _ in range(4))  # type: ignore[var-annotated]
        for axis, n in zip(self.grid.axes, self.grid.shape, strict=True):
            one, other = rng.integers(n, size=(2, _PAIRS))
            near = one + np.round(rng.standard_normal(_PAIRS) * max(1.0, n / 32)).astype(int)
            other = np.where(rng.random(_PAIRS) < 0.5, other, near)
            if self.grid.periodic(axis):
                shift = rng.integers(n, size=_PAIRS)
            else:
                other = np.clip(other, 0, n - 1)
                shift = rng.integers(-np.minimum(one, other), n - np.maximum(one, other))
            for cells, index in ((first, one), (second, other), (moved, one + shift), (too, other + shift)):
                cells.append(index % n)
        flat = [np.ravel_multi_index(tuple(cells), self.grid.shape) for cells in (first, second, moved, too)]
        values = self.values(flat[0], flat[1])
        return _share(values - self.values(flat[2], flat[3]), values)

    @cached_property
    def probes(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells (rows, 1) and (rows or 1, columns) at which errors are measured: whole rows, or near and far columns of them."""
        rng, size = np.random.default_rng(2), self.grid.size
        rows = rng.choice(size, min(_ROWS, size), replace=False)[:, None]
        if size <= 2 * _COLUMNS:
            return rows, np.arange(size)[None, :]
        index, columns = cell_index(self.grid, rows), []
        for i, axis, n in zip(index, self.grid.axes, self.grid.shape, strict=True):
            reach = np.floor(np.exp(rng.uniform(0.0, np.log(max(2, n)), (len(rows), _COLUMNS)))) - 1
            near = i + (rng.choice([-1, 1], reach.shape) * reach).astype(int)
            columns.append(near % n if self.grid.periodic(axis) else np.clip(near, 0, n - 1))
        near = np.ravel_multi_index(tuple(columns), self.grid.shape)
        return rows, np.concatenate([near, rng.integers(size, size=near.shape)], axis=1)

    @cached_property
    def seen(self) -> np.ndarray:
        """A at the probes."""
        return self.values(*self.probes)

    def error(self, approximation: np.ndarray) -> float:
        """Root mean square of an approximation's error at the probes, as a share of that of A."""
        return _share(approximation - self.seen, self.seen)

    def support(self, tolerance: float) -> tuple[tuple[int, ...], float, float]:
        """(reach, entries, threshold): how far, in cells along each axis, and how many, entries above the threshold lie.

        Entries below the threshold together are less than `tolerance` of the kernel in root mean square.
        """
        rng, size = np.random.default_rng(3), self.grid.size
        reach = self._reach(0.01 * tolerance * float(np.abs(self.seen).max()))
        values = self._within(reach, rng)
        share = float(np.prod([2.0 * r + 1.0 for r in reach])) / size
        threshold = 0.5 * tolerance * float(np.sqrt(np.mean(values**2) * min(1.0, share)))
        reach = self._reach(threshold)
        values = self._within(reach, rng)
        box = float(np.prod([min(2 * r + 1, n) for r, n in zip(reach, self.grid.shape, strict=True)]))
        return reach, float(np.mean(np.abs(values) > threshold)) * box * size, threshold

    def rank(self, tolerance: float, share: float) -> int | None:
        """Numerical rank of blocks of random rows and columns, of growing size; None where it never settles below half of one.

        Parameters
        ----------
        share : of entries that matter; a block whose rows hold few of them says nothing
        """
        rng, size = np.random.default_rng(4), self.grid.size
        most = min(size, _LARGEST_BLOCK)
        if share * most < _ENTRIES < share * size:
            return None
        block = max(64, int(_ENTRIES / max(share, 1e-9)))
        while True:
            block = min(block, most)
            rows, columns = (rng.choice(size, block, replace=False) for _ in range(2))
            upper, _ = linalg.qr(self.values(rows[:, None], columns[None, :]), mode="r", pivoting=True)
            found = numerical_rank(np.diag(upper), tolerance)
            if 2 * found <= block:
                return max(1, found)
            if block == most:
                return None
            block *= 2

    def _reach(self, threshold: float) -> tuple[int, ...]:
        """Largest displacements on each axis of entries above a threshold at the probes, with a margin."""
        rows, columns = (np.broadcast_to(part, self.seen.shape)[np.abs(self.seen) > threshold] for part in self.probes)
        found = []
        for axis, n, i, j in zip(
            self.grid.axes, self.grid.shape, *(cell_index(self.grid, cells) for cells in (rows, columns)), strict=True
        ):
            distance = np.abs(i - j)
            if self.grid.periodic(axis):
                distance = np.minimum(distance, n - distance)
            found.append(min(n - 1, int(_MARGIN * distance.max(initial=0)) + 1))
        return tuple(found)

    def _within(self, reach: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """A between random cells and others at random displacements within a reach; pairs beyond walls count as zero."""
        first, second, inside = [], [], np.ones(_PAIRS, bool)
        for axis, n, r in zip(self.grid.axes, self.grid.shape, reach, strict=True):
            one = rng.integers(n, size=_PAIRS)
            other = rng.integers(n, size=_PAIRS) if 2 * r + 1 >= n else one + rng.integers(-r, r + 1, size=_PAIRS)
            if not self.grid.periodic(axis):
                inside &= (other >= 0) & (other < n)
            first.append(one)
            second.append(other % n)
        rows, columns = (np.ravel_multi_index(tuple(cells), self.grid.shape) for cells in (first, second))
        return np.where(inside, self.values(rows, columns), 0.0)


def numerical_rank(sizes: np.ndarray, tolerance: float) -> int:
    """How many of these singular values to keep, so that the others are below `tolerance` of all in root mean square.

    Absolute eigenvalues and the diagonal of a pivoted QR serve as well.
    """
    squares = np.sort(np.abs(sizes))[::-1] ** 2
    rest = np.cumsum(squares[::-1])[::-1]
    return int(np.count_nonzero(rest > tolerance**2 * rest[0])) if len(rest) and rest[0] > 0 else 0


def _share(difference: np.ndarray, values: np.ndarray) -> float:
    scale = float(np.sqrt(np.mean(values**2)))
    return float(np.sqrt(np.mean(difference**2))) / scale if scale > 0 else 0.0
