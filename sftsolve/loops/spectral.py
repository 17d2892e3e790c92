"""Passes round a transform: cells into its work array, modes times symbols, and cells back to the fields.

The tuples `source`, `target` and `place` are those of `loops.convolution`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.convolution import add_row, load, sum_row

# Modes in one piece of a product: inputs and results of a piece stay in cache.
PIECE = 1024


@njit(cache=True, nogil=True)
def _fill_box(work, source, place, box):  # type: ignore[no-untyped-def]
    # Only the last box of a row clears what the row has beyond the cells.
    stop = work.shape[2] if box[5] == place[1][2] else box[5]
    load(work[box[0] : box[1], box[2] : box[3], box[4] : stop], source, place, box)


@njit(cache=True, nogil=True)
def fill(work, source, place, boxes):  # type: ignore[no-untyped-def]
    """work = (w - reference) * mask on the cells and zero beyond them; boxes cover `work` but for its columns beyond x."""
    for b in range(boxes.shape[0]):
        _fill_box(work, source, place, boxes[b])


@njit(cache=True, nogil=True, parallel=True)
def fill_threads(work, source, place, boxes):  # type: ignore[no-untyped-def]
    for b in prange(boxes.shape[0]):
        _fill_box(work, source, place, boxes[b])


@njit(cache=True, nogil=True)
def _add_box(work, target, offset, box, scale):  # type: ignore[no-untyped-def]
    for z in range(box[0], box[1]):
        for y in range(box[2], box[3]):
            add_row(work[z, y, box[4] : box[5]], target, offset, z, y, box[4], scale)


@njit(cache=True, nogil=True)
def add(work, target, offset, boxes, scale):  # type: ignore[no-untyped-def]
    """out += scale * mask * work."""
    for b in range(boxes.shape[0]):
        _add_box(work, target, offset, boxes[b], scale)


@njit(cache=True, nogil=True, parallel=True)
def add_threads(work, target, offset, boxes, scale):  # type: ignore[no-untyped-def]
    for b in prange(boxes.shape[0]):
        _add_box(work, target, offset, boxes[b], scale)


@njit(cache=True, nogil=True)
def _dot_box(work, target, offset, box):  # type: ignore[no-untyped-def]
    total = 0.0
    for z in range(box[0], box[1]):
        for y in range(box[2], box[3]):
            total += sum_row(work[z, y, box[4] : box[5]], target, offset, z, y, box[4])
    return total


@njit(cache=True, nogil=True)
def dot(work, target, offset, boxes, sums):  # type: ignore[no-untyped-def]
    """sums = sum of (w - reference) * mask * work, one a box."""
    for b in range(boxes.shape[0]):
        sums[b] = _dot_box(work, target, offset, boxes[b])


@njit(cache=True, nogil=True, parallel=True)
def dot_threads(work, target, offset, boxes, sums):  # type: ignore[no-untyped-def]
    for b in prange(boxes.shape[0]):
        sums[b] = _dot_box(work, target, offset, boxes[b])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _product(out, values, symbol, factor, conjugate):  # type: ignore[no-untyped-def]
    n = np.uint64(out.size)
    if conjugate:
        for k in range(n):
            out[k] += (factor * np.conj(symbol[k])) * values[k]
    else:
        for k in range(n):
            out[k] += (factor * symbol[k]) * values[k]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _multiply(values, symbol, factor, conjugate):  # type: ignore[no-untyped-def]
    n = np.uint64(values.size)
    if conjugate:
        for k in range(n):
            values[k] *= factor * np.conj(symbol[k])
    else:
        for k in range(n):
            values[k] *= factor * symbol[k]


@njit(cache=True, nogil=True)
def mix_piece(spectra, symbols, terms, factors, results, start, stop, at):  # type: ignore[no-untyped-def]
    """`mix` from one mode to another, at most PIECE of them; `results` (n, PIECE) is scratch, symbols count from `at`."""
    n = stop - start
    if terms.shape[0] == 1 and spectra.shape[0] == 1:
        _multiply(spectra[0, start:stop], symbols[terms[0, 2], at : at + n], factors[0], terms[0, 3] != 0)
        return
    for o in range(results.shape[0]):
        results[o, :n] = 0.0
    for t in range(terms.shape[0]):
        _product(
            results[terms[t, 0], :n],
            spectra[terms[t, 1], start:stop],
            symbols[terms[t, 2], at : at + n],
            factors[t],
            terms[t, 3] != 0,
        )
    for o in range(results.shape[0]):
        for k in range(n):
            spectra[o, start + k] = results[o, k]


@njit(cache=True, nogil=True)
def mix(spectra, symbols, terms, factors, results):  # type: ignore[no-untyped-def]
    """spectra[o] = sum over terms (o, i, s, conjugate) of factor * symbols[s] * spectra[i], in place and in one pass."""
    modes = spectra.shape[1]
    for start in range(0, modes, PIECE):
        mix_piece(spectra, symbols, terms, factors, results[0], start, min(modes, start + PIECE), start)


@njit(cache=True, nogil=True, parallel=True)
def mix_threads(spectra, symbols, terms, factors, results):  # type: ignore[no-untyped-def]
    """`mix` with one set of results a thread."""
    parts, modes = results.shape[0], spectra.shape[1]
    pieces = (modes + PIECE - 1) // PIECE
    for part in prange(parts):
        for piece in range(part * pieces // parts, (part + 1) * pieces // parts):
            start = piece * PIECE
            mix_piece(spectra, symbols, terms, factors, results[part], start, min(modes, start + PIECE), start)


@njit(cache=True, nogil=True)
def _mix_folded(spectra, symbols, place, terms, factors, results, part, parts):  # type: ignore[no-untyped-def]
    width = spectra.shape[1] // place.size
    cuts = (width + PIECE - 1) // PIECE
    pieces = place.size * cuts
    for piece in range(part * pieces // parts, (part + 1) * pieces // parts):
        row, first = piece // cuts, piece % cuts * PIECE
        start, stop, at = row * width + first, row * width + min(width, first + PIECE), place[row] * width + first
        mix_piece(spectra, symbols, terms, factors, results[part], start, stop, at)


@njit(cache=True, nogil=True)
def mix_folded(spectra, symbols, place, terms, factors, results):  # type: ignore[no-untyped-def]
    """`mix` with symbols of which equal rows are held once: row i of the modes has row place[i] (`loops.folding`)."""
    _mix_folded(spectra, symbols, place, terms, factors, results, 0, 1)


@njit(cache=True, nogil=True, parallel=True)
def mix_folded_threads(spectra, symbols, place, terms, factors, results):  # type: ignore[no-untyped-def]
    """`mix_folded` with one set of results a thread."""
    parts = results.shape[0]
    for part in prange(parts):
        _mix_folded(spectra, symbols, place, terms, factors, results, part, parts)
