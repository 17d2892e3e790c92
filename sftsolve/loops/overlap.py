"""Passes round the transforms of blocks of a grid: cells into blocks, modes times a symbol, and the blocks' own cells back.

The tuples `source`, `target` and `place` are those of `loops.convolution`; `work` has one block a first index, (n, Z, Y, X), and
`spectra` the same with all modes in one, (n, modes). All let go of the interpreter: each thread works off blocks of its own.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sftsolve.loops.boxes import COLUMNS
from sftsolve.loops.convolution import add_row, load, sum_row


@njit(cache=True, nogil=True)
def fill(work, source, place, boxes):  # type: ignore[no-untyped-def]
    """work = (w - reference) * mask, a box with its surroundings a block; boxes may lie beyond the grid's ends."""
    for b in range(boxes.shape[0]):
        load(work[b], source, place, boxes[b])


@njit(cache=True, nogil=True, fastmath={"contract"})
def multiply(spectra, symbol, conjugate):  # type: ignore[no-untyped-def]
    """spectra *= symbol, or its conjugate, in every block."""
    n = np.uint64(symbol.size)
    for b in range(spectra.shape[0]):
        modes = spectra[b]
        if conjugate:
            for k in range(n):
                modes[k] *= np.conj(symbol[k])
        else:
            for k in range(n):
                modes[k] *= symbol[k]


@njit(cache=True, nogil=True)
def add(work, target, place, boxes, scale):  # type: ignore[no-untyped-def]
    """out += scale * mask * work on the boxes."""
    offset, margin = place[0], place[3]
    for b in range(boxes.shape[0]):
        box = boxes[b]
        n = box[5] - box[4]
        for z in range(box[0], box[1]):
            for y in range(box[2], box[3]):
                row = work[b, z - box[0] + margin[0], y - box[2] + margin[1], margin[2] : margin[2] + n]
                add_row(row, target, offset, z, y, box[4], scale)


@njit(cache=True, nogil=True)
def dot(work, target, place, boxes, sums):  # type: ignore[no-untyped-def]
    """sums = sum of (w - reference) * mask * work on the boxes, one a box."""
    offset, margin = place[0], place[3]
    for b in range(boxes.shape[0]):
        box = boxes[b]
        sums[b] = 0.0
        for z in range(box[0], box[1]):
            for y in range(box[2], box[3]):
                row = work[b, z - box[0] + margin[0], y - box[2] + margin[1]]
                for x in range(box[4], box[5], COLUMNS):
                    start, n = margin[2] + x - box[4], min(COLUMNS, box[5] - x)
                    sums[b] += sum_row(row[start : start + n], target, offset, z, y, x)
