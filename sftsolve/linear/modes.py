"""Modes in which a linear force is diagonal: Fourier, cosine and sine modes, with a small unitary mixing of coupled fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sftsolve.kernels.transforms import Transform
from sftsolve.linear.symbols import Bases, Table
from sftsolve.loops import modes as loops
from sftsolve.loops import spectral
from sftsolve.loops.folding import Folded
from sftsolve.parallel import slabs
from sftsolve.state import Layout

_DIVIDED = 1 << 18  # points from which on transforms are divided among threads
_CHUNK = 1 << 14  # modes whose blocks are diagonalised together
_MIXED = 256 * np.finfo(np.float64).eps  # off-diagonal rest, relative to a block, that counts as none


@dataclass(frozen=True)
class _Mixing:
    """The unitary matrices of a group of coupled fields, eigenvectors in columns.

    Attributes
    ----------
    rows : the group's rows in a spectrum
    forward, backward : matrices V^H and V where all modes share them
    each : V of every mode, (rows * rows, modes), where they differ; equal rows along x are held once
    place : the row in `each` of every row of modes
    """

    rows: slice
    forward: np.ndarray
    backward: np.ndarray
    each: np.ndarray | None = None
    place: np.ndarray | None = None


class Modes:
    """A negative semidefinite force that is diagonal in modes, L = V diag(eigenvalues) V^H in every mode.

    Parameters
    ----------
    table : symbols (a, b), a <= b, that broadcast to the modes
    bases : transforms of every field; coupled fields have the same
    layout : of the fields

    Attributes
    ----------
    shape : (field, *modes) of a spectrum, modes on the axes (z, y, x)
    dtype : of a spectrum: complex, or real where all axes are walled
    table : the eigenvalues, real, equal rows held once; growth (> 0) is clipped to zero
    growth : largest eigenvalue before clipping
    """

    def __init__(self, table: Table, bases: Sequence[Bases], layout: Layout):
        self._layout = layout
        points = math.prod(layout.shape)
        self._threads = slabs(points) if points >= _DIVIDED else 1
        kinds = {key: Transform(key, layout.dtype, self._threads) for key in set(bases)}
        self._transforms = [kinds[key] for key in bases]
        first = self._transforms[0]
        self.shape: tuple[int, ...] = (len(bases), *first.modes)
        self.dtype = np.dtype(first.spectrum_dtype)
        groups = _groups(table, len(bases))
        order = [field for group in groups for field in group]
        self._rows = [order.index(field) for field in range(len(bases))]
        eigenvalues = np.empty(self.shape)
        self._mixings: list[_Mixing] = []
        start = 0
        for group in groups:
            rows = slice(start, start + len(group))
            start += len(group)
            self._diagonalise(table, group, eigenvalues[rows], rows)
        self.growth = float(eigenvalues.max())
        np.minimum(eigenvalues, 0.0, out=eigenvalues)
        eigenvalues += 0.0  # one zero of two, for rows to be equal
        self.table = Folded.of(eigenvalues)
        self._work: np.ndarray | None = None
        widest = max(map(len, groups))
        self._scratch = np.empty((self._threads, widest, spectral.PIECE), self.dtype) if self._mixings else None
        self._ones = np.ones(widest * widest, first.dtype)

    @property
    def eigenvalues(self) -> np.ndarray:
        """The eigenvalue of every mode, a new array of `shape`."""
        return self.table.expanded().reshape(self.shape)

    @property
    def radius(self) -> float:
        """Largest -eigenvalue."""
        return -float(self.table.values.min())

    @property
    def threads(self) -> int:
        """How many threads its passes use; results do not depend on it."""
        return self._threads

    def empty(self) -> np.ndarray:
        """A spectrum without values."""
        return np.empty(self.shape, self.dtype)

    def squares(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights with which products of two spectra sum up to those of their cells.

        Returns
        -------
        Those of every row, (field z y,), and along x of every field, (field, x)
        """
        order = sorted(range(len(self._rows)), key=lambda field: self._rows[field])
        axes = [[self._transforms[field].squares(axis) for axis in range(3)] for field in order]
        outer = np.concatenate([np.multiply.outer(z, y).reshape(-1) for z, y, _ in axes])
        return outer, np.array([x for _, _, x in axes])

    def forward(self, storage: np.ndarray, spectrum: np.ndarray) -> None:
        """Fields in padded storage to amplitudes of the modes; ghosts are not read."""
        for field, transform in enumerate(self._transforms):
            cells, row = self._cells(storage, field), spectrum[self._rows[field]]
            if transform.plain:
                transform.forward(cells, row)
            elif transform.spectrum_dtype == transform.dtype:
                row[...] = cells
                transform.forward(row, row)
            else:
                if self._work is None:
                    self._work = np.empty(transform.work_shape, transform.dtype)
                self._work[...] = cells
                transform.forward(self._work, row)
        for mixing in self._mixings:
            self._mix(spectrum, mixing, True)

    def backward(self, spectrum: np.ndarray, storage: np.ndarray) -> None:
        """Amplitudes of the modes to fields in padded storage, whose ghosts stay as they are; the spectrum is lost."""
        for mixing in self._mixings:
            self._mix(spectrum, mixing, False)
        for field, transform in enumerate(self._transforms):
            transform.backward(spectrum[self._rows[field]], self._cells(storage, field))

    def _cells(self, storage: np.ndarray, field: int) -> np.ndarray:
        (oz, oy, ox), (nz, ny, nx) = self._layout.offset, self._layout.shape
        return storage[field, oz : oz + nz, oy : oy + ny, ox : ox + nx]

    def _mix(self, spectrum: np.ndarray, mixing: _Mixing, forward: bool) -> None:
        assert self._scratch is not None
        flat = spectrum.reshape(len(spectrum), -1)[mixing.rows]
        count = len(flat)
        if mixing.each is None:
            loops.blend(flat, mixing.forward if forward else mixing.backward, self._scratch[:, :count])
            return
        mix = spectral.mix_folded if self._threads == 1 else spectral.mix_folded_threads
        terms = mixing.forward if forward else mixing.backward
        mix(flat, mixing.each, mixing.place, terms, self._ones, self._scratch[:, :count])

    def _diagonalise(self, table: Table, group: list[int], eigenvalues: np.ndarray, rows: slice) -> None:
        """Eigenvalues of a group of fields into `eigenvalues`, and the mixing where it has more than one."""
        modes = self.shape[1:]
        if len(group) == 1:
            eigenvalues[...] = table.get((group[0], group[0]), np.zeros(()))
            return
        real = not any(np.iscomplexobj(table[pair]) for pair in _pairs(table, group))
        kind = np.dtype(float if real else complex)
        stored = _precision(kind, self._layout.dtype)
        shared = _shared_vectors(table, group, modes, kind)
        count = len(group)
        if shared is not None:
            for place, blocks in _blocks(table, group, modes, kind):
                turned = shared.conj().T @ blocks @ shared
                diagonal = np.diagonal(turned, axis1=1, axis2=2).real
                target = eigenvalues[(slice(None), *place)]
                target[...] = diagonal.T.reshape(target.shape)
            vectors = shared.astype(stored)
            self._mixings.append(_Mixing(rows, np.ascontiguousarray(vectors.conj().T), np.ascontiguousarray(vectors)))
            return
        each = np.empty((*modes[:2], count, count, modes[2]), stored)
        for place, blocks in _blocks(table, group, modes, kind):
            values, vectors = np.linalg.eigh(blocks)
            target = eigenvalues[(slice(None), *place)]
            target[...] = values.T.reshape(target.shape)
            target = np.moveaxis(each, (2, 3), (3, 4))[place]
            target[...] = vectors.reshape(target.shape)
        forward = np.array([(i, a, a * count + i, 1) for i in range(count) for a in range(count)], np.int64)
        backward = np.array([(a, i, a * count + i, 0) for a in range(count) for i in range(count)], np.int64)
        folded = Folded.of(each.reshape(*modes[:2], -1))
        held = np.moveaxis(folded.values.reshape(-1, count * count, modes[2]), 1, 0).reshape(count * count, -1)
        self._mixings.append(_Mixing(rows, forward, backward, held, folded.place))


def _precision(kind: np.dtype, dtype: str) -> np.dtype:
    """The real or complex type of a system's precision."""
    names = {
        ("f", "float32"): "float32",
        ("f", "float64"): "float64",
        ("c", "float32"): "complex64",
        ("c", "float64"): "complex128",
    }
    return np.dtype(names[kind.kind, dtype])


def _pairs(table: Table, group: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in table if a in group and b in group]


def _groups(table: Table, count: int) -> list[list[int]]:
    """Fields that are coupled with each other, in groups."""
    label = list(range(count))
    for a, b in table:
        if a != b and np.any(table[a, b]):
            label = [label[a] if found == label[b] else found for found in label]
    return [[field for field in range(count) if label[field] == value] for value in dict.fromkeys(label)]


def _blocks(
    table: Table, group: list[int], modes: tuple[int, ...], kind: np.dtype
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Hermitian blocks of all modes in chunks: (place among the modes, blocks (modes there, fields, fields))."""
    axis = int(np.argmax(modes))
    step = max(1, _CHUNK * modes[axis] // math.prod(modes))
    for start in range(0, modes[axis], step):
        place = tuple(slice(start, start + step) if number == axis else slice(None) for number in range(3))
        extents = [min(step, modes[axis] - start) if number == axis else n for number, n in enumerate(modes)]
        blocks = np.zeros((*extents, len(group), len(group)), kind)
        for a, b in _pairs(table, group):
            values = np.broadcast_to(table[a, b], modes)[place]
            i, j = group.index(a), group.index(b)
            blocks[..., i, j] = values
            if i != j:
                blocks[..., j, i] = values.conj()
        yield place, blocks.reshape(-1, len(group), len(group))


def _shared_vectors(table: Table, group: list[int], modes: tuple[int, ...], kind: np.dtype) -> np.ndarray | None:
    """Eigenvectors that all modes share, such as those of a constant matrix beside one Laplacian; None if there are none."""
    # The same combination of modes for every entry.
    picks = np.random.default_rng(1).integers(0, modes, (64, 3))
    weights = np.random.default_rng(2).standard_normal(64)
    generic = np.zeros((len(group), len(group)), kind)
    for a, b in _pairs(table, group):
        values = np.broadcast_to(table[a, b], modes)
        total = np.sum(weights * values[tuple(picks.T)])
        i, j = group.index(a), group.index(b)
        generic[i, j] = total
        if i != j:
            generic[j, i] = np.conj(total)
    _, vectors = np.linalg.eigh(generic)
    for _, blocks in _blocks(table, group, modes, kind):
        turned = vectors.conj().T @ blocks @ vectors
        sizes = np.abs(blocks).max(axis=(1, 2), initial=0.0)
        diagonal = np.arange(len(group))
        turned[:, diagonal, diagonal] = 0.0
        if np.any(np.abs(turned).max(axis=(1, 2)) > _MIXED * sizes):
            return None
    return np.asarray(vectors)
