"""Real transforms of a grid that write into arrays made once: Fourier on periodic and padded axes, cosines and sines at walls.

One axis at a time, so that rows that hold nothing but padding are never transformed. Cosine and sine axes come first, on real
numbers; the last Fourier axis turns real into complex; the others follow in place.

    basis       padded to        modes              diagonalises
    fourier     p >= n           exp(2 pi i q j/p)  periodic (p = n), or zero beyond the ends (p >= n + reach)
    cosine      n                DCT-II             even images at both walls
    sine        n                DST-II             odd images at both walls
    cosine-4    n                DCT-IV             even at the lower, odd at the upper wall
    sine-4      n                DST-IV             odd at the lower, even at the upper wall

SciPy does the work. A ducc0 that the user has installed does it, faster, where ``SFTSOLVE_FFT`` is "ducc0".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from scipy import fft

try:  # SciPy's own transforms write into a given array only through this module, which is not public
    from scipy.fft._pocketfft import pypocketfft  # type: ignore[import-not-found]
except ImportError:  # pragma: no cover
    pypocketfft = None

from sftsolve.errors import ConfigError

LIBRARIES = ("scipy", "ducc0")
KINDS = {"cosine": ("dct", 2), "sine": ("dst", 2), "cosine-4": ("dct", 4), "sine-4": ("dst", 4)}


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


class Provider(Protocol):
    """One-dimensional transforms of whole arrays along one axis into given arrays; inverses are normalised."""

    def forward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None: ...

    def backward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None: ...

    def along(self, a: np.ndarray, axis: int, forward: bool) -> None: ...

    def waves(self, a: np.ndarray, axis: int, kind: str, forward: bool) -> None: ...


@dataclass(frozen=True)
class Preallocated:
    """Compiled transforms, called with `out=`: no array is made.

    Attributes
    ----------
    threads : how many to use
    library : module of ducc0, which has the same functions as SciPy's; None for the latter
    """

    threads: int
    library: Any = None

    @property
    def _functions(self) -> Any:
        return pypocketfft if self.library is None else self.library

    def forward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        self._functions.r2c(a, (axis,), True, 0, out, self.threads)

    def backward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        self._functions.c2r(a, (axis,), out.shape[axis], False, 2, out, self.threads)

    def along(self, a: np.ndarray, axis: int, forward: bool) -> None:
        self._functions.c2c(a, (axis,), forward, 0 if forward else 2, a, self.threads)

    def waves(self, a: np.ndarray, axis: int, kind: str, forward: bool) -> None:
        name, type_ = KINDS[kind]
        inverse = {2: 3, 4: 4}[type_]
        getattr(self._functions, name)(a, type_ if forward else inverse, (axis,), 0 if forward else 2, a, self.threads)


@dataclass(frozen=True)
class Public:
    """SciPy's public functions: each call makes an array as large as its result, which is copied."""

    threads: int

    def forward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        out[...] = fft.rfft(a, axis=axis, workers=self.threads)

    def backward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        out[...] = fft.irfft(a, out.shape[axis], axis, workers=self.threads)

    def along(self, a: np.ndarray, axis: int, forward: bool) -> None:
        transform = fft.fft if forward else fft.ifft
        a[...] = transform(a, axis=axis, workers=self.threads)

    def waves(self, a: np.ndarray, axis: int, kind: str, forward: bool) -> None:
        name, type_ = KINDS[kind]
        transform = getattr(fft, name if forward else f"i{name}")
        a[...] = transform(a, type_, axis=axis, workers=self.threads)


@cache
def preallocated_works(library: Any = None) -> bool:
    """Whether a library, SciPy's by default, transforms into given arrays; what is not public may change."""
    values = np.arange(24.0).reshape(4, 6)
    try:
        own, public = Preallocated(1, library), Public(1)
        results: list[list[np.ndarray]] = []
        for provider in (own, public):
            spectrum, back, waves = np.zeros((4, 4), complex), np.zeros((4, 6)), values.copy()
            provider.forward_real(values, 1, spectrum)
            provider.along(spectrum, 0, True)
            results.append([spectrum.copy(), back, waves])
            provider.along(spectrum, 0, False)
            provider.backward_real(spectrum, 1, back)
            for kind in KINDS:
                provider.waves(waves, 0, kind, True)
        agree = all(np.allclose(a, b) for a, b in zip(*results, strict=True)) and np.allclose(results[0][1], values)
    except Exception:  # whatever a changed private function raises
        return False
    return agree


def provider(threads: int) -> Provider:
    """The provider that ``SFTSOLVE_FFT`` names, "scipy" by default.

    Raises
    ------
    ConfigError : no such library, or it is not installed
    """
    name = os.environ.get("SFTSOLVE_FFT", "scipy")
    if name not in LIBRARIES:
        raise ConfigError("SFTSOLVE_FFT is not usable", expected=" or ".join(LIBRARIES), given=name)
    if name == "scipy":
        return Preallocated(threads) if preallocated_works() else Public(threads)
    try:
        library = import_module(name).fft
    except ImportError:
        raise ConfigError(f"SFTSOLVE_FFT asks for {name}, which is not installed", remedy=f"pip install {name}") from None
    if not preallocated_works(library):
        raise ConfigError(f"this version of {name} does not transform as expected", remedy="take SFTSOLVE_FFT=scipy")
    return Preallocated(threads, library)


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

    def frequencies(self, axis: int) -> np.ndarray:
        """Angle theta of each mode along an axis, per cell: the mode varies as exp(i theta j), or its cosine or sine."""
        basis = self.bases[axis]
        n = basis.length
        modes = np.arange(self.modes[axis], dtype=float)
        if basis.kind == "fourier":
            return 2 * np.pi * (modes if axis == self._real else np.where(modes > n // 2, modes - n, modes)) / n
        return np.pi * {"cosine": modes, "sine": modes + 1}.get(basis.kind, modes + 0.5) / n

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
        return self._provider.threads  # type: ignore[attr-defined]


def _corner(array: np.ndarray, extents: list[int]) -> np.ndarray:
    return array[tuple(slice(n) for n in extents)]
