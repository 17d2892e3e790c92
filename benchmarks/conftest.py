"""Benchmarks compare within one run: every figure is a ratio to a probe of the machine's bandwidth taken next to it."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
from numba import njit, prange

CELLS = 256**3


@njit(parallel=True)
def _triad(a, b, c, s):
    for i in prange(a.size):
        a[i] = b[i] + s * c[i]


@njit(parallel=True)
def _update(a, b, s, q):
    for i in prange(a.size):
        a[i] = s * a[i] + q * b[i]


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Machine:
    """Bandwidth probes on arrays far larger than the caches, in seconds a byte."""

    def __init__(self) -> None:
        self._arrays = [np.ones(CELLS) for _ in range(3)]
        self.triad()
        self.update()

    def triad(self) -> float:
        """a = b + s c: 24 bytes an element (the write-allocate traffic is not counted)."""
        a, b, c = self._arrays
        return seconds(lambda: _triad(a, b, c, 2.0)) / (24 * CELLS)

    def update(self) -> float:
        """a = s a + q b: 24 bytes an element, in place."""
        a, b, _ = self._arrays
        return seconds(lambda: _update(a, b, 0.5, 2.0)) / (24 * CELLS)

    def ratio(self, call, size: int, rounds: int = 12, probe: str = "triad") -> dict[str, float]:
        """Bandwidth of `call`, which moves `size` bytes, as a fraction of the probe's: median and best of interleaved pairs."""
        call()
        measure = getattr(self, probe)
        pairs = []
        for _ in range(rounds):
            before, taken, after = measure(), seconds(call), measure()
            pairs.append((0.5 * (before + after) * size / taken, taken))
        return {
            "ratio": statistics.median(ratio for ratio, _ in pairs),
            "best_ratio": max(ratio for ratio, _ in pairs),
            "seconds": statistics.median(taken for _, taken in pairs),
        }


@pytest.fixture(scope="session")
def machine() -> Machine:
    return Machine()


_ROWS: list[tuple[str, dict[str, float]]] = []


@pytest.fixture
def report():
    """Call with a name and figures; the table is printed at the end of the run."""
    return lambda name, figures: _ROWS.append((name, figures))


def pytest_terminal_summary(terminalreporter) -> None:
    if _ROWS:
        terminalreporter.section("ratios taken in this run")
        for name, figures in _ROWS:
            terminalreporter.write_line(f"{name:58s} " + "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))
