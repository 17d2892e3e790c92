"""The structures that `Kernel.from_function` chooses from: what each would cost, how it is built, and the entries that it has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import linalg, sparse

from sftsolve.grid import Grid
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.dense import Dense
from sftsolve.kernels.entries import ExpressionEntries, cell_index
from sftsolve.kernels.low_rank import LowRank
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.sampling import Samples, numerical_rank
from sftsolve.kernels.sparse import Sparse

_PANEL = 1 << 21  # entries that are computed at a time
_TRIES = 3  # sets of rows and columns, each twice as large, before low rank is given up


@dataclass(frozen=True)
class Task:
    """What was asked for.

    Attributes
    ----------
    samples : the kernel
    first, second : the fields a and b
    tolerance : accepted error, see `Samples.error`
    about : w_ref
    """

    samples: Samples
    first: str
    second: str
    tolerance: float
    about: Any

    @property
    def grid(self) -> Grid:
        return self.samples.grid

    @property
    def sides(self) -> int:
        """How many forces there are: one where a is b."""
        return 1 if self.first == self.second else 2


class Structure(Protocol):
    """One way to hold a kernel."""

    name: str
    estimate: Estimate

    def build(self) -> Any:
        """The kernel."""
        ...

    def entries(self, kernel: Any, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """What the kernel has between cells."""
        ...


class AsConvolution:
    """k(x - y), tabulated over all displacements on the grid."""

    def __init__(self, task: Task):
        self._task, grid = task, task.grid
        self._lowest = tuple(-(n // 2) if grid.periodic(axis) else 1 - n for axis, n in zip(grid.axes, grid.shape, strict=True))
        self._shape = tuple(n if grid.periodic(axis) else 2 * n - 1 for axis, n in zip(grid.axes, grid.shape, strict=True))
        size = float(math.prod(self._shape))
        self.name = "Convolution"
        self.estimate = Estimate(20.0 * size * math.log2(size + 1), 64.0 * size, 32.0 * size)

    def build(self) -> Convolution:
        grid, rows, columns = self._task.grid, [], []
        for number, (low, n, cells) in enumerate(zip(self._lowest, self._shape, grid.shape, strict=True)):
            shift = np.arange(low, low + n)
            start = np.maximum(0, -shift)
            shape = [-1 if axis == number else 1 for axis in range(grid.dimension)]
            rows.append(((start + shift) % cells).reshape(shape))
            columns.append((start % cells).reshape(shape))
        first, second = (np.ravel_multi_index(np.broadcast_arrays(*index), grid.shape) for index in (rows, columns))
        return Convolution(
            self._task.first,
            self._task.second,
            self._task.samples.values(first, second),
            about=self._task.about,
            centred=True,
        )

    def entries(self, kernel: Convolution, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        grid, place = self._task.grid, []
        index = (cell_index(grid, cells) for cells in (rows, columns))
        for i, j, low, n in zip(*index, self._lowest, self._shape, strict=True):
            place.append((i - j - low) % n)
        return kernel.profile.array[tuple(np.broadcast_arrays(*place))]


class AsSparse:
    """The entries above a threshold."""

    def __init__(self, task: Task):
        self._task = task
        self._reach, entries, self._threshold = task.samples.support(task.tolerance)
        self.share = entries / float(task.grid.size) ** 2
        self.name = f"Sparse, about {entries / task.grid.size:.3g} entries a row"
        held = task.sides * (12.0 * entries + 8.0 * task.grid.size)
        self.estimate = Estimate(2.0 * task.sides * entries, held + 24.0 * task.grid.size, held)

    def build(self) -> Sparse:
        grid = self._task.grid
        data, columns, counts = [], [], []
        for cells, reached, inside in self._panels():
            values = self._task.samples.values(cells[:, None], reached)
            kept = inside & (np.abs(values) > self._threshold)
            data.append(values[kept])
            columns.append(reached[kept])
            counts.append(kept.sum(axis=1))
        starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        matrix = sparse.csr_array((np.concatenate(data), np.concatenate(columns), starts), shape=(grid.size, grid.size))
        return Sparse(self._task.first, self._task.second, matrix, about=self._task.about)

    def entries(self, kernel: Sparse, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = [kernel.matrix[[int(row)], :].toarray()[0] for row in rows[:, 0]]
        return np.stack([values[np.broadcast_to(columns, (len(rows), columns.shape[1]))[n]] for n, values in enumerate(found)])

    def _panels(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(cells, those within reach of each, whether they are inside the walls) in pieces that stay small."""
        grid = self._task.grid
        offsets = []
        for axis, n, r in zip(grid.axes, grid.shape, self._reach, strict=True):
            whole = grid.periodic(axis) and 2 * r + 1 >= n
            offsets.append(np.arange(n) if whole else np.arange(-r, r + 1))
        mesh = [part.reshape(-1) for part in np.meshgrid(*offsets, indexing="ij")]
        step = max(1, _PANEL // len(mesh[0]))
        for start in range(0, grid.size, step):
            cells = np.arange(start, min(start + step, grid.size))
            index, inside = [], np.ones((len(cells), len(mesh[0])), bool)
            for i, shift, axis, n in zip(cell_index(grid, cells), mesh, grid.axes, grid.shape, strict=True):
                moved = i[:, None] + shift
                if not grid.periodic(axis):
                    inside &= (moved >= 0) & (moved < n)
                index.append(moved % n)
            yield cells, np.ravel_multi_index(tuple(index), grid.shape), inside


class AsLowRank:
    """A from some of its rows and columns (a skeleton), compressed to its numerical rank.

    Pivoted QR of a random block chooses rows I and columns J; A is then near A[:, J] A[I, J]^-1 A[I, :] (Halko, Martinsson and
    Tropp, SIAM Review 53, 217 (2011), section 5.2, interpolative decompositions).
    """

    def __init__(self, task: Task, rank: int):
        self._task, self._rank = task, rank
        self._one = task.samples.symmetrised or self._is_symmetric()
        banks = 1 if self._one else 2
        size = 8.0 * rank * task.grid.size
        self.name = f"LowRank, rank about {rank}"
        self.estimate = Estimate(4.0 * task.sides * rank * task.grid.size, 2.0 * banks * size, banks * size)

    def build(self) -> LowRank:
        rng, size = np.random.default_rng(5), self._task.grid.size
        block = min(size, 4 * self._rank + 64)
        for last in [False] * (_TRIES - 1) + [True]:
            left, right = self._skeleton(*(rng.choice(size, block, replace=False) for _ in range(2)))
            if last or block == size or self._task.samples.error(self._between(left, right)) <= self._task.tolerance:
                break
            block = min(size, 2 * block)
        return self._symmetric(left, right) if self._one else self._general(left, right)

    def entries(self, kernel: LowRank, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        psi = kernel.phi if kernel.psi is None else kernel.psi
        phi, psi = (bank.reshape(kernel.rank, -1) for bank in (kernel.phi, psi))
        return _products(phi[:, rows[:, 0]] * kernel.weights[:, None], psi, columns)

    def _between(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        rows, columns = self._task.samples.probes
        return _products(left[rows[:, 0]].T, right, columns)

    def _skeleton(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, k) and (k, N) whose product is near A."""
        values, every = self._task.samples.values, np.arange(self._task.grid.size)
        block = values(rows[:, None], columns[None, :])
        _, upper, order = linalg.qr(block, mode="economic", pivoting=True)
        count = numerical_rank(np.diag(upper), 0.01 * self._task.tolerance) or 1
        columns = columns[order[:count]]
        rows = rows[linalg.qr(block[:, order[:count]].T, mode="economic", pivoting=True)[2][:count]]
        core = values(rows[:, None], columns[None, :])
        left = linalg.lstsq(core.T, values(every[:, None], columns[None, :]).T, lapack_driver="gelsy")[0].T
        return left, values(rows[:, None], every[None, :])

    def _symmetric(self, left: np.ndarray, right: np.ndarray) -> LowRank:
        """Eigenfunctions of the symmetric part, weighted by their eigenvalues."""
        basis = linalg.qr(np.concatenate([left, right.T], axis=1), mode="economic")[0]
        small = (basis.T @ left) @ (right @ basis)
        sizes, vectors = linalg.eigh(0.5 * (small + small.T))
        order = np.argsort(-np.abs(sizes))[: numerical_rank(sizes, 0.5 * self._task.tolerance) or 1]
        phi = (basis @ vectors[:, order]).T.reshape(len(order), *self._task.grid.shape)
        return LowRank(self._task.first, self._task.second, phi, weights=sizes[order], about=self._task.about)

    def _general(self, left: np.ndarray, right: np.ndarray) -> LowRank:
        """Singular functions, weighted by the singular values."""
        (q, r), (p, s) = linalg.qr(left, mode="economic"), linalg.qr(right.T, mode="economic")
        u, sizes, v = linalg.svd(r @ s.T)
        kept = numerical_rank(sizes, 0.5 * self._task.tolerance) or 1
        shape = (kept, *self._task.grid.shape)
        phi, psi = (q @ u[:, :kept]).T.reshape(shape), (p @ v[:kept].T).T.reshape(shape)
        return LowRank(self._task.first, self._task.second, phi, psi, weights=sizes[:kept], about=self._task.about)

    def _is_symmetric(self) -> bool:
        samples, (rows, columns) = self._task.samples, self._task.samples.probes
        turned = samples.values(np.broadcast_to(columns, samples.seen.shape), np.broadcast_to(rows, samples.seen.shape))
        return samples.error(turned) <= 0.1 * self._task.tolerance


class AsDense:
    """All entries: in an array where memory allows, else evaluated in every force."""

    def __init__(self, task: Task, limit: float):
        self._task, self._limit, size = task, limit, task.grid.size
        self._stored = Estimate(4.0 * size**2, 8.0 * size**2, 8.0 * size**2)
        self._computes = self._stored.memory > limit and isinstance(task.samples.entries, ExpressionEntries)
        self.name = "Dense, evaluated in every force and never stored" if self._computes else "Dense, an array of all entries"
        self.estimate = self._expression().estimate(task.grid) if self._computes else self._stored

    def build(self) -> Dense:
        if self._computes:
            return self._expression()
        size = self._task.grid.size
        matrix, every, step = np.empty((size, size)), np.arange(size), max(1, _PANEL // size)
        for start in range(0, size, step):
            rows = every[start : start + step]
            matrix[start : start + step] = self._task.samples.values(rows[:, None], every[None, :])
        return Dense(self._task.first, self._task.second, matrix, about=self._task.about, memory=self._limit)

    def entries(self, kernel: Dense, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if self._computes:
            return self._task.samples.values(rows, columns)
        return kernel.entries.matrix[rows, columns]  # type: ignore[union-attr]

    def _expression(self) -> Dense:
        entries = self._task.samples.entries
        assert isinstance(entries, ExpressionEntries)
        return Dense(self._task.first, self._task.second, entries.text, entries.parameters, self._task.about, self._limit)


def _products(left: np.ndarray, right: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """sum_r left[r, n] right[r, columns[n]] for every row n of the probes."""
    if len(columns) == 1:
        return left.T @ right[:, columns[0]]
    return np.stack([left[:, n] @ right[:, cells] for n, cells in enumerate(columns)])
