"""Benchmarks compare within one run: every figure is a ratio to a probe of the machine's bandwidth taken next to it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
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
        pairs, before = [], measure()
        for _ in range(rounds):
            worked = time.process_time()
            taken = seconds(call)
            worked = time.process_time() - worked
            after = measure()
            pairs.append((0.5 * (before + after) * size / taken, taken, worked / taken))
            before = after
        ratios, times, cores = zip(*pairs, strict=True)
        return {
            "ratio": statistics.median(ratios),
            "best_ratio": max(ratios),
            "seconds": statistics.median(times),
            "cores": statistics.median(cores),
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
    if not _ROWS:
        return
    terminalreporter.section("ratios taken in this run")
    for name, figures in _ROWS:
        terminalreporter.write_line(f"{name:62s} " + "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    if any("intensity" in figures for _, figures in _ROWS):
        terminalreporter.write_line(f"roofline: {roofline()}")


def roofline() -> Path:
    """Draw operations per byte against the rate, in units of the triad's bandwidth, of all kernels that told both."""
    file = Path(".benchmarks") / "roofline.png"
    file.parent.mkdir(exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    points = [(name, figures["intensity"], figures["ratio"]) for name, figures in _ROWS if "intensity" in figures]
    low, high = min(x for _, x, _ in points) / 1.5, max(x for _, x, _ in points) * 1.5
    axes.plot([low, high], [low, high], color="0.6", label="bandwidth of the triad")
    for number, (name, x, ratio) in enumerate(points):
        axes.plot(x, x * ratio, "osD^v<>Pph*X"[number % 12], label=f"{name} ({ratio:.2f})")
    axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="operations per byte-time of the triad")
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(file, dpi=160)
    return file
