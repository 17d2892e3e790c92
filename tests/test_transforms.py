"""Which library transforms: SciPy's, or the ducc0 of the user."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.fft._pocketfft import pypocketfft

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.kernels import transforms


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


def ducc0(monkeypatch, library):
    monkeypatch.setenv("SFTSOLVE_FFT", "ducc0")
    monkeypatch.setitem(sys.modules, "ducc0", SimpleNamespace(fft=library))


def solve():
    grid = sft.Grid((6, 7, 5), (1.0, 2.0, 1.5), boundary={"y": {"derivative": 0.0}})
    whole = sft.discretise(sft.Action(["w"], "grad2(w)/2"), grid, dynamics="gradient-flow")
    right = whole.layout.pad(np.random.default_rng(0).standard_normal((1, *grid.shape)))
    whole.linear.solve(right, 0.1, right, False, 1e-8)
    return whole.layout.interior(right)


def test_the_library_of_the_user_is_called(monkeypatch):
    wanted, library = solve(), Counting()
    ducc0(monkeypatch, library)
    found = solve()
    assert library.calls > 6
    np.testing.assert_array_equal(found, wanted)


def test_a_library_that_transforms_otherwise_is_refused(monkeypatch):
    ducc0(monkeypatch, Counting(2.0))
    with pytest.raises(ConfigError, match="does not transform as expected"):
        transforms.provider(1)


def test_unknown_or_missing_libraries_are_refused_in_words(monkeypatch):
    monkeypatch.setenv("SFTSOLVE_FFT", "fftpack")
    with pytest.raises(ConfigError, match="scipy or ducc0"):
        transforms.provider(1)
    monkeypatch.setenv("SFTSOLVE_FFT", "ducc0")
    monkeypatch.setitem(sys.modules, "ducc0", None)
    with pytest.raises(ConfigError, match="not installed"):
        transforms.provider(1)
