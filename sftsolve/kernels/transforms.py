"""Real transforms of a grid that write into arrays made once: Fourier on periodic and padded axes, cosines and sines at walls.

One axis at a time, so that rows that hold nothing but padding are never transformed. Cosine and sine axes come first, on real
numbers; the last Fourier axis turns real into complex; the others follow in place.

    basis       padded to        modes              diagonalises
    fourier     p >= n           exp(2 pi i q j/p)  periodic (p = n), or zero beyond the ends (p >= n + reach)
    cosine      n                DCT-II             even images at both walls
    sine        n                DST-II             odd images at both walls
    cosine-4    n                DCT-IV             even at the lower, odd at the upper wall
    sine-4      n                DST-IV             odd at the lower, even at the upper wall

The work is done by the library that ``SFTSOLVE_FFT`` names (`kernels.providers`), SciPy by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from sftsolve.kernels.providers import provider


@dataclass(frozen=True)
class Basis:
    """The modes of one axis.

    Attributes
    ----------
    kind : a row of the table above
    cells : number of cells n
    length : number of points p of a Fourier axis, n otherwise
    """

    kind: str
    cells: int
    length: int

    @classmethod
    def periodic(cls, n: int) -> Basis:
        """Fourier modes of a circle of n cells."""
        return cls("fourier", n, n)

    @classmethod
    def padded(cls, n: int, reach: int) -> Basis:
        """Fourier modes of n cells followed by at least `reach` cells of nothing, as many as transform quickly."""
        return cls("fourier", n, int(fft.next_fast_len(n + reach, real=True)))

    def joined(self, other: Basis) -> Basis | None:
        """The basis of the same axis that serves both, None where there is none."""
        if (self.kind, self.cells) != (other.kind, other.cells):
            return None
        return self if self.length >= other.length else other


class Transform:
    """Transforms of arrays of cells (nz, ny, nx) to modes, in given bases.

    Parameters
    ----------
    bases : one an axis, three of them (axes that the grid lacks are a circle of one cell)
    dtype : of the cells
    threads : how many to use; results do not depend on it

    Attributes
    ----------
    work_shape : cells, padded along the axis on which real numbers become complex
    modes : shape of a spectrum
    spectrum_dtype : complex, or real where no axis is Fourier
    """

    def __init__(self, bases: tuple[Basis, Basis, Basis], dtype: Any, threads: int):
        self.bases = bases
        self.dtype = np.dtype(dtype)
        self._provider = provider(threads)
        self._waves = [axis for axis, basis in enumerate(bases) if basis.kind != "fourier"]
        fourier = [axis for axis, basis in enumerate(bases) if basis.kind == "fourier" and basis.length > 1]
        self._real = fourier[-1] if fourier else None
        self._others = fourier[-2::-1] if len(fourier) > 1 else []
        work, modes = [basis.cells for basis in bases], [basis.length for basis in bases]
        if self._real is not None:
            work[self._real] = bases[self._real].length
            modes[self._real] = bases[self._real].length // 2 + 1
        self.work_shape, self.modes = tuple(work), tuple(modes)
        self.spectrum_dtype = self.dtype if self._real is None else np.result_type(self.dtype, np.complex64)

    @property
    def plain(self) -> bool:
        """Whether `forward` may read cells where they lie, without a copy in `work`."""
        return not self._waves and self._real is not None and self.work_shape == tuple(basis.cells for basis in self.bases)

    @property
    def bytes(self) -> float:
        """Bytes of one spectrum and one work array."""
        spectrum = float(np.prod(self.modes)) * np.dtype(self.spectrum_dtype).itemsize
        return spectrum + float(np.prod(self.work_shape)) * self.dtype.itemsize

    def forward(self, work: np.ndarray, spectrum: np.ndarray) -> None:
        """Cells, padded with zeros to `work_shape`, to modes. Cosine and sine axes are transformed inside `work`.

        Where no axis is Fourier, `work` may be `spectrum` itself.
        """
        inner = work[tuple(slice(basis.cells) for basis in self.bases)]
        for axis in self._waves:
            self._provider.waves(inner, axis, self.bases[axis].kind, True)
        if self._real is None:
            if spectrum is not work:
                spectrum[...] = work
            return
        filled = [basis.cells for basis in self.bases]
        filled[self._real] = self.modes[self._real]
        self._provider.forward_real(work, self._real, _corner(spectrum, filled))
        for axis in self._others:
            beyond = [slice(n) for n in filled]
            beyond[axis] = slice(filled[axis], None)
            spectrum[tuple(beyond)] = 0.0
            filled[axis] = self.modes[axis]
            self._provider.along(_corner(spectrum, filled), axis, True)

    def backward(self, spectrum: np.ndarray, work: np.ndarray) -> None:
        """Modes to cells; the spectrum is lost, and what `work` holds beyond the cells means nothing."""
        if self._real is None:
            work[...] = spectrum
        else:
            filled = list(self.modes)
            for axis in self._others[::-1]:
                self._provider.along(_corner(spectrum, filled), axis, False)
                filled[axis] = self.bases[axis].cells
            self._provider.backward_real(_corner(spectrum, filled), self._real, work)
        inner = work[tuple(slice(basis.cells) for basis in self.bases)]
        for axis in self._waves:
            self._provider.waves(inner, axis, self.bases[axis].kind, False)

    def squares(self, axis: int) -> np.ndarray:
        """Weights along an axis with which products of two spectra sum up to those of their cells, not padded (Parseval)."""
        basis = self.bases[axis]
        weights = np.full(self.modes[axis], 1.0 / basis.length)
        if axis == self._real:
            # Modes that stand for their complex conjugates, too.
            weights[1 : (basis.length + 1) // 2] *= 2.0
        elif axis in self._waves:
            weights *= 0.5
            if basis.kind in ("cosine", "sine"):
                weights[0 if basis.kind == "cosine" else -1] *= 0.5
        return weights

    def frequencies(self, axis: int) -> np.ndarray:
        """Angle theta of each mode along an axis, per cell: the mode varies as exp(i theta j), or its cosine or sine."""
        basis = self.bases[axis]
        n = basis.length
        modes = np.arange(self.modes[axis], dtype=float)
        if basis.kind == "fourier":
            return 2 * np.pi * (modes if axis == self._real else np.where(modes > n // 2, modes - n, modes)) / n
        return np.pi * {"cosine": modes, "sine": modes + 1}.get(basis.kind, modes + 0.5) / n

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Axes whose modes come in pairs of opposite waves."""
        return tuple(axis for axis in self._others if self.bases[axis].length > 2)

    @property
    def alike(self) -> bool:
        """Whether the first two axes have the same modes."""
        return self.modes[0] == self.modes[1] > 1 and self.bases[0] == self.bases[1]

    def share(self, symbol: np.ndarray, even: Sequence[bool], alike: bool) -> None:
        """Give modes that a symmetry makes equal the same value to the last bit, in place.

        Parameters
        ----------
        even : for each axis, whether opposite waves are equal
        alike : whether the first two axes may be exchanged
        """
        if alike and self.alike:
            for n in range(len(symbol) - 1):
                symbol[n + 1 :, n] = symbol[n, n + 1 :]
        for axis in self.mirrored:
            if even[axis]:
                modes = np.moveaxis(symbol, axis, 0)
                half = (len(modes) - 1) // 2
                modes[len(modes) - half :] = modes[half:0:-1]

    def symbol(self, weights: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Factor by which a convolution multiplies each mode; complex, or real where no axis is Fourier.

        Parameters
        ----------
        weights : the convolution's weights on circles of given lengths, displacement zero first; along cosine axes, whose
            circle is the doubled box, they are even
        """
        lengths = tuple(basis.length if basis.kind == "fourier" else 2 * basis.cells for basis in self.bases)
        values: np.ndarray = weights(lengths)
        for axis in self._waves:
            assert self.bases[axis].kind == "cosine"
            values = fft.rfft(values, axis=axis).real.take(range(self.bases[axis].cells), axis)
        if self._real is None:
            return values
        values = fft.rfft(values, axis=self._real, workers=self._threads)
        return fft.fftn(values, axes=self._others, workers=self._threads, overwrite_x=True)

    @property
    def _threads(self) -> int:
        return self._provider.threads


def _corner(array: np.ndarray, extents: list[int]) -> np.ndarray:
    return array[tuple(slice(n) for n in extents)]
