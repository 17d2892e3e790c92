"""Passes round the transforms of blocks of a grid: cells into blocks, modes times symbols, and the blocks' own cells back.

The tuples `source`, `target` and `place` are those of `loops.convolution`; `work` has one block a first index, (n, Z, Y, X), and
`spectra` (n, fields, modes). All let go of the interpreter: each thread works off blocks of its own.
"""

from __future__ import annotations

from numba import njit

from sftsolve.loops.boxes import COLUMNS
from sftsolve.loops.convolution import add_row, load, sum_row
from sftsolve.loops.spectral import PIECE, mix_piece


@njit(cache=True, nogil=True)
def fill(work, source, place, boxes):  # type: ignore[no-untyped-def]
    """work = (w - reference) * mask, a box with its surroundings a block; boxes may lie beyond the grid's ends."""
    for b in range(boxes.shape[0]):
        load(work[b], source, place, boxes[b])


@njit(cache=True, nogil=True)
def mix(spectra, symbols, terms, factors, results):  # type: ignore[no-untyped-def]
    """`loops.spectral.mix` in every block."""
    modes = spectra.shape[2]
    for b in range(spectra.shape[0]):
        for start in range(0, modes, PIECE):
            mix_piece(spectra[b], symbols, terms, factors, results, start, min(modes, start + PIECE), start)


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
