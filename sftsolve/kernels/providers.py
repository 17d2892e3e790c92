"""Libraries that transform: SciPy's transforms, or those of a ducc0 or a pyFFTW that the user has installed and asks for.

``SFTSOLVE_FFT`` names one of `LIBRARIES`. Neither of the other two is needed, nor brought along: their wheels are under the GPL.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from scipy import fft

try:  # SciPy's own transforms write into a given array only through this module, which is not public
    from scipy.fft._pocketfft import pypocketfft  # type: ignore[import-not-found]
except ImportError:  # pragma: no cover
    pypocketfft = None

from sftsolve.codegen.cache import keep, recall
from sftsolve.errors import ConfigError
from sftsolve.parallel import side_by_side

KINDS = {"cosine": ("dct", 2), "sine": ("dst", 2), "cosine-4": ("dct", 4), "sine-4": ("dst", 4)}


class Provider(Protocol):
    """One-dimensional transforms of whole arrays along one axis into given arrays; inverses are normalised.

    Several threads may call one at a time, with arrays of their own.
    """

    @property
    def threads(self) -> int:
        """How many it uses."""
        ...

    def __hash__(self) -> int: ...

    def forward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        """Real numbers, which stay, to complex ones."""
        ...

    def backward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        """Complex numbers, which are lost, to real ones."""
        ...

    def along(self, a: np.ndarray, axis: int, forward: bool) -> None:
        """Complex numbers in place."""
        ...

    def waves(self, a: np.ndarray, axis: int, kind: str, forward: bool) -> None:
        """Cosines or sines in place; `kind` is one of `KINDS`."""
        ...


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


# FFTW's names of the cosines and sines, and of their inverses.
_PLANS = {
    "cosine": ("FFTW_REDFT10", "FFTW_REDFT01"),
    "sine": ("FFTW_RODFT10", "FFTW_RODFT01"),
    "cosine-4": ("FFTW_REDFT11", "FFTW_REDFT11"),
    "sine-4": ("FFTW_RODFT11", "FFTW_RODFT11"),
}

_PLANNING = threading.Lock()


@dataclass(frozen=True)
class Planned:
    """FFTW: every geometry of arrays has a plan, the quickest of many that are tried (M. Frigo and S. G. Johnson, "The design and
    implementation of FFTW3", Proc. IEEE 93, 216, 2005).

    Trying takes seconds on large arrays, and as much memory as they; FFTW's estimates instead make transforms two to three
    times as long, longer than SciPy's. What the trials found is kept in the user's cache folder, so that one machine transforms a
    geometry the same way, to the same bits, from then on; another number of threads may take another way.

    Attributes
    ----------
    threads : how many to use
    library : module pyfftw
    """

    threads: int
    library: Any
    _own: threading.local = field(default_factory=threading.local, compare=False)

    def forward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        self._run(a, axis, out, "FFTW_FORWARD")

    def backward_real(self, a: np.ndarray, axis: int, out: np.ndarray) -> None:
        self._run(a, axis, out, "FFTW_BACKWARD")
        self._scale(out, 1.0 / out.shape[axis])

    def along(self, a: np.ndarray, axis: int, forward: bool) -> None:
        self._run(a, axis, a, "FFTW_FORWARD" if forward else "FFTW_BACKWARD")
        if not forward:
            self._scale(a, 1.0 / a.shape[axis])

    def waves(self, a: np.ndarray, axis: int, kind: str, forward: bool) -> None:
        self._run(a, axis, a, _PLANS[kind][0 if forward else 1])
        if not forward:
            self._scale(a, 0.5 / a.shape[axis])

    def _scale(self, a: np.ndarray, factor: float) -> None:
        """What FFTW leaves out of an inverse."""
        parts = np.array_split(a, self.threads, int(np.argmax(a.shape)))
        side_by_side(lambda part: np.multiply(parts[part], a.real.dtype.type(factor), out=parts[part]), self.threads)

    def _run(self, a: np.ndarray, axis: int, out: np.ndarray, direction: str) -> None:
        plans: dict[Any, Any] = self._own.__dict__.setdefault("plans", {})  # a plan points at arrays: each thread has its own
        key = direction, axis, self._geometry(a), self._geometry(out), a is out
        plan = plans.get(key)
        if plan is None:
            with _PLANNING:
                plan = plans[key] = self._plan(a, axis, out, direction)
        plan.update_arrays(a, out)
        plan.execute()

    def _geometry(self, a: np.ndarray) -> tuple[Any, ...]:
        return a.dtype, a.shape, a.strides, a.ctypes.data % self.library.simd_alignment

    def _plan(self, a: np.ndarray, axis: int, out: np.ndarray, direction: str) -> Any:
        """A plan for arrays like these, whose values stay; what has been tried before is not tried again."""
        destroys = ("FFTW_DESTROY_INPUT",) if direction == "FFTW_BACKWARD" and a is not out else ()

        def make(a: np.ndarray, out: np.ndarray, *flags: str) -> Any:
            flags = ("FFTW_MEASURE", *destroys, *flags)
            return self.library.FFTW(a, out, axes=(axis,), direction=direction, flags=flags, threads=self.threads)

        _recall_trials(self.library)
        with suppress(RuntimeError):
            return make(a, out, "FFTW_WISDOM_ONLY")
        like = self._like(a)
        plan = make(like, like if out is a else self._like(out))
        _keep_trials(self.library)
        return plan

    def _like(self, a: np.ndarray) -> np.ndarray:
        """An array of zeros with the geometry of another."""
        alignment = self.library.simd_alignment
        extent = sum((n - 1) * stride for n, stride in zip(a.shape, a.strides, strict=True)) + a.itemsize
        buffer = np.zeros(extent + 2 * alignment, np.uint8)
        start = (a.ctypes.data - buffer.ctypes.data) % alignment
        return np.ndarray(a.shape, a.dtype, buffer, start, a.strides)


def _trials(library: Any) -> str:
    return f"trials of pyFFTW {library.__version__}"


@cache
def _recall_trials(library: Any) -> None:
    """Tell FFTW what other processes have tried."""
    kept = recall(_trials(library))
    if kept is not None:
        library.import_wisdom(kept)


def _keep_trials(library: Any) -> None:
    """Keep what has been tried, with what other processes have kept since."""
    _recall_trials.__wrapped__(library)
    keep(_trials(library), library.export_wisdom())


@cache
def works(own: Provider) -> bool:
    """Whether a provider transforms as SciPy does; what is not public, or not ours, may change."""
    values = np.arange(24.0).reshape(4, 6)
    try:
        results: list[list[np.ndarray]] = []
        for provider in (own, Public(1)):
            spectrum, back, waves = np.zeros((4, 4), complex), np.zeros((4, 6)), values.copy()
            provider.forward_real(values, 1, spectrum)
            provider.along(spectrum, 0, True)
            results.append([spectrum.copy(), back, waves])
            provider.along(spectrum, 0, False)
            provider.backward_real(spectrum, 1, back)
            for kind in KINDS:
                provider.waves(waves, 0, kind, True)
                results[-1].append(waves.copy())
                provider.waves(waves, 0, kind, False)
        return all(np.allclose(a, b) for a, b in zip(*results, strict=True)) and np.allclose(results[0][1], values)
    except Exception:  # whatever a changed function raises
        return False


def _scipy(threads: int) -> Provider:
    return Preallocated(threads) if works(Preallocated(1)) else Public(threads)


def _ducc0(threads: int) -> Provider:
    return Preallocated(threads, _installed("ducc0").fft)


def _pyfftw(threads: int) -> Provider:
    return Planned(threads, _installed("pyfftw"))


LIBRARIES: dict[str, Callable[[int], Provider]] = {"scipy": _scipy, "ducc0": _ducc0, "pyfftw": _pyfftw}


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(
            f"SFTSOLVE_FFT asks for {name}, which is not installed",
            remedy=f"pip install {name}, or leave SFTSOLVE_FFT out for SciPy's transforms",
        ) from None


def provider(threads: int) -> Provider:
    """The provider that ``SFTSOLVE_FFT`` names, "scipy" by default.

    Raises
    ------
    ConfigError : no such library, it is not installed, or it does not transform as SciPy does
    """
    name = os.environ.get("SFTSOLVE_FFT", "scipy")
    if name not in LIBRARIES:
        raise ConfigError("SFTSOLVE_FFT is not usable", expected=" or ".join(LIBRARIES), given=name)
    if not works(LIBRARIES[name](1)):
        raise ConfigError(f"this version of {name} does not transform as expected", remedy="take SFTSOLVE_FFT=scipy")
    return LIBRARIES[name](threads)
