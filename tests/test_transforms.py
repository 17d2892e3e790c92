"""Which library transforms: SciPy's, or the ducc0 or pyFFTW of the user."""

import itertools
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import fft
from scipy.fft._pocketfft import pypocketfft

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.kernels import providers
from sftsolve.kernels.transforms import Basis, Transform
from sftsolve.parallel import side_by_side

INSTALLED = [name for name in providers.LIBRARIES if find_spec(name)]  # SciPy at least


class Counting:
    """A stand-in for ducc0.fft with its functions, which counts calls."""

    def __init__(self, factor=1.0):
        self.calls, self.factor = 0, factor

    def __getattr__(self, name):
        def function(a, *arguments):
            self.calls += 1
            result = getattr(pypocketfft, name)(a, *arguments)
            result *= self.factor
            return result

        return function


class Plans:
    """A stand-in for the module pyfftw: plans of transforms without norm, which write into the arrays that they are tried on."""

    simd_alignment, __version__ = 64, "of the tests"

    def __init__(self, factor=1.0):
        self.calls, self.trials, self.factor, self.tried = 0, 0, factor, set()

    def FFTW(self, a, out, axes, direction, flags, threads):  # noqa: N802
        key = repr((direction, axes, a.shape, a.strides, a.dtype, out.shape, out.strides, a is out, threads))
        if "FFTW_WISDOM_ONLY" not in flags:
            self.trials += 1
            self.tried.add(key)
            a[...], out[...] = np.nan, np.nan
        elif key not in self.tried:
            raise RuntimeError("nothing is known of such a plan")
        return Plan(self, a, out, axes[0], direction)

    def export_wisdom(self):
        return sorted(self.tried)

    def import_wisdom(self, wisdom):
        self.tried |= set(wisdom)


class Plan:
    WAVES = {"FFTW_REDFT10": ("dct", 2), "FFTW_REDFT01": ("dct", 3), "FFTW_REDFT11": ("dct", 4)}
    WAVES |= {"FFTW_RODFT10": ("dst", 2), "FFTW_RODFT01": ("dst", 3), "FFTW_RODFT11": ("dst", 4)}

    def __init__(self, library, a, out, axis, direction):
        self.library, self.axis, self.direction = library, axis, direction
        self.arrays = (a, out)

    def update_arrays(self, a, out):
        assert [(b.shape, b.strides, b.dtype) for b in (a, out)] == [(b.shape, b.strides, b.dtype) for b in self.arrays]
        self.arrays = (a, out)

    def execute(self):
        (a, out), axis, ahead = self.arrays, self.axis, self.direction == "FFTW_FORWARD"
        self.library.calls += 1
        if self.direction in self.WAVES:
            name, kind = self.WAVES[self.direction]
            out[...] = getattr(fft, name)(a, kind, axis=axis)
        elif a.dtype.kind == "c" and out.dtype.kind == "c":
            out[...] = fft.fft(a, axis=axis) if ahead else fft.ifft(a, axis=axis, norm="forward")
        else:
            out[...] = fft.rfft(a, axis=axis) if ahead else fft.irfft(a, out.shape[axis], axis, norm="forward")
        out *= out.real.dtype.type(self.library.factor)


MODULES = {"ducc0": lambda *factor: SimpleNamespace(fft=Counting(*factor)), "pyfftw": Plans}
OTHERS = pytest.mark.parametrize("name", MODULES)


@pytest.fixture
def take(monkeypatch, tmp_path):
    """Let a stand-in be installed and asked for."""
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))

    def taken(name, *factor):
        library = MODULES[name](*factor)
        monkeypatch.setenv("SFTSOLVE_FFT", name)
        monkeypatch.setitem(sys.modules, name, library)
        return library

    return taken


def solve():
    grid = sft.Grid((6, 7, 5), (1.0, 2.0, 1.5), boundary={"y": {"derivative": 0.0}})
    whole = sft.discretise(sft.Action(["w"], "grad2(w)/2"), grid, dynamics="gradient-flow")
    right = whole.layout.pad(np.random.default_rng(0).standard_normal((1, *grid.shape)))
    whole.linear.solve(right, 0.1, right, False, 1e-8)
    return whole.layout.interior(right)


@OTHERS
def test_the_library_of_the_user_is_called(name, take):
    wanted, library = solve(), take(name)
    found = solve()
    assert getattr(library, "fft", library).calls > 6
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)


@OTHERS
def test_a_library_that_transforms_otherwise_is_refused(name, take):
    take(name, 2.0)
    with pytest.raises(ConfigError, match=f"this version of {name} does not transform as expected"):
        providers.provider(1)


def test_unknown_libraries_are_refused_in_words(monkeypatch):
    monkeypatch.setenv("SFTSOLVE_FFT", "fftpack")
    with pytest.raises(ConfigError, match="scipy or ducc0 or pyfftw"):
        providers.provider(1)


@OTHERS
def test_missing_libraries_are_refused_in_words(name, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_FFT", name)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"asks for {name}, which is not installed.*\n.*pip install {name}"):
        providers.provider(1)


def test_a_changed_private_interface_is_noticed(monkeypatch):
    providers.works.cache_clear()
    monkeypatch.setattr(providers, "pypocketfft", None)
    try:
        assert isinstance(providers.provider(1), providers.Public)
    finally:
        providers.works.cache_clear()


def round_trip(transform, cells):
    """The spectrum of some cells, and the cells again."""
    inner = tuple(slice(basis.cells) for basis in transform.bases)
    work, spectrum = np.zeros(transform.work_shape, transform.dtype), np.empty(transform.modes, transform.spectrum_dtype)
    work[inner] = cells
    transform.forward(work, spectrum)
    kept, back = spectrum.copy(), np.zeros_like(work)
    transform.backward(spectrum, back)
    return kept, back[inner]


def bases_of(n):
    return [Basis.periodic(n), Basis.padded(n, 3), *(Basis(kind, n, n) for kind in providers.KINDS)]


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_installed_transforms_as_scipys_public_functions_do(name, dtype, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_FFT", name)
    lines = [(Basis.periodic(1), Basis.periodic(1), x) for x in bases_of(10)]
    planes = [(Basis.periodic(1), y, x) for y, x in itertools.product(bases_of(7), bases_of(10))]
    boxes = list(zip(bases_of(6), bases_of(7)[::-1], bases_of(10), strict=True))
    for bases in lines + planes + boxes:
        cells = np.random.default_rng(0).standard_normal([basis.cells for basis in bases]).astype(dtype)
        transform, public = Transform(bases, dtype, 2), Transform(bases, dtype, 1)
        public._provider = providers.Public(1)
        (found, back), (wanted, _) = round_trip(transform, cells), round_trip(public, cells)
        rounding = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(back, cells, atol=rounding * np.abs(cells).max(), rtol=0)
        np.testing.assert_allclose(found, wanted, atol=rounding * np.abs(wanted).max(), rtol=0)


def test_plans_are_tried_once_a_machine_and_never_on_the_users_arrays(take):
    def transform(cells):
        return round_trip(Transform((Basis("sine", 6, 6), Basis.padded(7, 3), Basis.periodic(10)), "float64", 1), cells)

    cells = np.random.default_rng(0).standard_normal((6, 7, 10))
    first = take("pyfftw")
    np.testing.assert_allclose(transform(cells)[1], cells, atol=1e-14)
    assert first.trials > 0
    tried = first.trials
    transform(cells)
    assert first.trials == tried
    providers.works.cache_clear()
    second = take("pyfftw")  # as another process would have it, with the same folder
    np.testing.assert_allclose(transform(cells)[1], cells, atol=1e-14)
    assert (second.trials, second.tried) == (0, first.tried)


def test_threads_that_share_a_provider_have_plans_of_their_own(take):
    take("pyfftw")
    shared, plans = providers.provider(1), [{}, {}]

    def work(part):
        spectrum = np.ones((4, 4), complex)
        shared.along(spectrum, 0, True)
        plans[part] = dict(shared._own.plans)

    side_by_side(work, 2)
    (one,), (other,) = (found.values() for found in plans)
    assert one is not other
