"""Sums over all pairs of cells for a bilinear term, between padded fields: what surrounds the compiled passes over A."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from sftsolve.loops.projection import dot, gather, geometry, subtract
from sftsolve.parallel import slabs
from sftsolve.state import Layout

# Rows a block has at least, and blocks at most: each holds sums of its own for all columns, a few per cent of its part of A.
_ROWS, _BLOCKS, _BUFFER = 128, 32, 4 * 2048


@njit(cache=True, nogil=True)
def _fold(parts, factor, into):  # type: ignore[no-untyped-def]
    """into = factor * sum of the parts, in order."""
    into[:] = 0.0
    for b in range(parts.shape[0]):
        part = parts[b]
        for k in range(into.size):
            into[k] += part[k]
    for k in range(into.size):
        into[k] *= factor


class PairSums:
    """The forces  -h^d sum_j A_ij b_j  on a and  -h^d sum_i A_ij a_i  on b, from one pass over A.

    Parameters
    ----------
    module, arguments : the compiled pass and its first arguments (`codegen.pairs`)
    volume : h^d
    index : numbers of the fields a and b
    reference : w_ref in padded storage, or None
    """

    def __init__(
        self,
        module: Any,
        arguments: tuple[np.ndarray, ...],
        volume: float,
        index: tuple[int, int],
        reference: np.ndarray | None,
        layout: Layout,
    ):
        self._arguments, self._volume, self._index = arguments, volume, index
        self._place = geometry(layout)
        self._cells = int(np.prod(layout.shape))
        blocks = _block_count(self._cells)
        self._bounds = np.arange(blocks + 1) * self._cells // blocks
        self._fields = np.zeros((2, self._cells))
        self._image = np.zeros(self._cells)
        self._backs = np.zeros((blocks, self._cells))
        self._buffers = np.zeros((blocks, 4, _BUFFER // 4))
        self._apply = module.apply if slabs(self._cells**2) == 1 else module.apply_threads
        self._reference: np.ndarray | None = None
        if reference is not None:
            self._reference = np.zeros((2, self._cells))
            self._pack(reference, self._reference)

    @staticmethod
    def memory(cells: int) -> float:
        """Bytes of the buffers for a grid of this many cells."""
        blocks = _block_count(cells)
        return 8.0 * ((blocks + 3) * cells + blocks * _BUFFER)

    def add(self, storage: np.ndarray, out: np.ndarray, affine: bool) -> None:
        """out += the forces at w - w_ref, or at w where not `affine`."""
        self._pass(storage, affine)
        first, second = self._index
        self._image *= self._volume
        subtract(out[first], self._place, 0, self._cells, self._image)
        _fold(self._backs, self._volume, self._image)
        subtract(out[second], self._place, 0, self._cells, self._image)

    def energy(self, storage: np.ndarray) -> float:
        """h^2d sum_ij A_ij a_i b_j of w - w_ref."""
        self._pass(storage, True)
        return float(dot(self._fields[0], self._image)) * self._volume**2

    def _pass(self, storage: np.ndarray, affine: bool) -> None:
        self._pack(storage, self._fields)
        if affine and self._reference is not None:
            self._fields -= self._reference
        a, b = self._fields
        self._apply(*self._arguments, a, b, self._image, self._backs, self._buffers, self._bounds)

    def _pack(self, storage: np.ndarray, into: np.ndarray) -> None:
        for side, field in enumerate(self._index):
            gather(storage[field], self._place, 0, self._cells, into[side])


def _block_count(cells: int) -> int:
    return min(_BLOCKS, max(1, cells // _ROWS))
