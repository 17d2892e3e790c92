"""Passes over spectra: division by 1 - sigma lambda, multiplication by lambda, and one small matrix between rows."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.folding import Folded, piece
from sftsolve.parallel import SMALL

_FASTMATH = {"contract"}


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _divide_span(values, table, place, sigma, start, stop):  # type: ignore[no-untyped-def]
    width = len(values) // len(place)
    for row in range(start // width, (stop + width - 1) // width):
        first, last, shift = piece(row, width, place, start, stop)
        for k in range(first, last):
            factor = values.dtype.type(1.0 / (1.0 - sigma * table[k - shift]))
            for part in range(np.uint64(values.shape[1])):
                values[k, part] *= factor


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _multiply_span(values, table, place, start, stop):  # type: ignore[no-untyped-def]
    width = len(values) // len(place)
    for row in range(start // width, (stop + width - 1) // width):
        first, last, shift = piece(row, width, place, start, stop)
        for k in range(first, last):
            factor = values.dtype.type(table[k - shift])
            for part in range(np.uint64(values.shape[1])):
                values[k, part] *= factor


@njit(cache=True, nogil=True, parallel=True)
def _divide_parallel(values, table, place, sigma, threads):  # type: ignore[no-untyped-def]
    size = len(values)
    for thread in prange(threads):
        _divide_span(values, table, place, sigma, thread * size // threads, (thread + 1) * size // threads)


@njit(cache=True, nogil=True, parallel=True)
def _multiply_parallel(values, table, place, threads):  # type: ignore[no-untyped-def]
    size = len(values)
    for thread in prange(threads):
        _multiply_span(values, table, place, thread * size // threads, (thread + 1) * size // threads)


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _blend_span(spectra, matrix, scratch, start, stop):  # type: ignore[no-untyped-def]
    rows = matrix.shape[0]
    n = stop - start
    for o in range(rows):
        target = scratch[o, :n]
        target[:] = 0.0
        for i in range(rows):
            source = spectra[i, start:stop]
            weight = matrix[o, i]
            for k in range(n):
                target[k] += weight * source[k]
    for o in range(rows):
        spectra[o, start:stop] = scratch[o, :n]


@njit(cache=True, nogil=True)
def _blend_serial(spectra, matrix, scratch):  # type: ignore[no-untyped-def]
    piece = scratch.shape[2]
    for start in range(0, spectra.shape[1], piece):
        _blend_span(spectra, matrix, scratch[0], start, min(spectra.shape[1], start + piece))


@njit(cache=True, nogil=True, parallel=True)
def _blend_parallel(spectra, matrix, scratch):  # type: ignore[no-untyped-def]
    threads, size, piece = scratch.shape[0], spectra.shape[1], scratch.shape[2]
    pieces = (size + piece - 1) // piece
    for thread in prange(threads):
        for number in range(thread * pieces // threads, (thread + 1) * pieces // threads):
            start = number * piece
            _blend_span(spectra, matrix, scratch[thread], start, min(size, start + piece))


def _parts(spectrum: np.ndarray) -> np.ndarray:
    """A contiguous spectrum as real numbers, (modes, 1) or (modes, 2)."""
    flat = spectrum.reshape(-1)
    parts = 2 if np.iscomplexobj(flat) else 1
    return flat.view(flat.real.dtype).reshape(-1, parts)


def divide(spectrum: np.ndarray, table: Folded, sigma: float, threads: int) -> None:
    """spectrum /= 1 - sigma lambda, contiguous, with lambda <= 0 in a table over its modes."""
    values, held = _parts(spectrum), table.values.reshape(-1)
    if len(values) < SMALL or threads == 1:
        _divide_span(values, held, table.place, sigma, 0, len(values))
    else:
        _divide_parallel(values, held, table.place, sigma, threads)


def multiply(spectrum: np.ndarray, table: Folded, threads: int) -> None:
    """spectrum *= lambda, contiguous, with lambda in a table over its modes."""
    values, held = _parts(spectrum), table.values.reshape(-1)
    if len(values) < SMALL or threads == 1:
        _multiply_span(values, held, table.place, 0, len(values))
    else:
        _multiply_parallel(values, held, table.place, threads)


def blend(spectra: np.ndarray, matrix: np.ndarray, scratch: np.ndarray) -> None:
    """spectra_o = sum_i matrix_oi spectra_i in every mode, in place.

    Parameters
    ----------
    spectra : (rows, modes)
    matrix : (rows, rows), of the spectra's type or real
    scratch : (threads, rows, piece), of the spectra's type
    """
    if len(scratch) == 1:
        _blend_serial(spectra, matrix, scratch)
    else:
        _blend_parallel(spectra, matrix, scratch)
