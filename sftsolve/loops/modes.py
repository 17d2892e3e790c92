"""Passes over spectra: division by 1 - sigma lambda, multiplication by lambda, and one small matrix between rows."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.parallel import SMALL

_FASTMATH = {"contract"}
_BLOCK = 1 << 14


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _divide_span(values, eigenvalues, sigma, start, stop):  # type: ignore[no-untyped-def]
    for k in range(np.uint64(start), np.uint64(stop)):
        factor = values.dtype.type(1.0 / (1.0 - sigma * eigenvalues[k]))
        for part in range(np.uint64(values.shape[1])):
            values[k, part] *= factor


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _multiply_span(values, eigenvalues, start, stop):  # type: ignore[no-untyped-def]
    for k in range(np.uint64(start), np.uint64(stop)):
        factor = values.dtype.type(eigenvalues[k])
        for part in range(np.uint64(values.shape[1])):
            values[k, part] *= factor


@njit(cache=True, nogil=True)
def _divide_serial(values, eigenvalues, sigma):  # type: ignore[no-untyped-def]
    _divide_span(values, eigenvalues, sigma, 0, eigenvalues.size)


@njit(cache=True, nogil=True, parallel=True)
def _divide_parallel(values, eigenvalues, sigma, threads):  # type: ignore[no-untyped-def]
    size = eigenvalues.size
    blocks = (size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _divide_span(values, eigenvalues, sigma, block * _BLOCK, min(size, (block + 1) * _BLOCK))


@njit(cache=True, nogil=True)
def _multiply_serial(values, eigenvalues):  # type: ignore[no-untyped-def]
    _multiply_span(values, eigenvalues, 0, eigenvalues.size)


@njit(cache=True, nogil=True, parallel=True)
def _multiply_parallel(values, eigenvalues, threads):  # type: ignore[no-untyped-def]
    size = eigenvalues.size
    blocks = (size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _multiply_span(values, eigenvalues, block * _BLOCK, min(size, (block + 1) * _BLOCK))


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


def divide(spectrum: np.ndarray, eigenvalues: np.ndarray, sigma: float, threads: int) -> None:
    """spectrum /= 1 - sigma lambda, both contiguous and of one shape, lambda <= 0."""
    values, table = _parts(spectrum), eigenvalues.reshape(-1)
    if table.size < SMALL or threads == 1:
        _divide_serial(values, table, sigma)
    else:
        _divide_parallel(values, table, sigma, threads)


def multiply(spectrum: np.ndarray, eigenvalues: np.ndarray, threads: int) -> None:
    """spectrum *= lambda, both contiguous and of one shape."""
    values, table = _parts(spectrum), eigenvalues.reshape(-1)
    if table.size < SMALL or threads == 1:
        _multiply_serial(values, table)
    else:
        _multiply_parallel(values, table, threads)


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
