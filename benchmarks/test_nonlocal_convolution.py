"""Convolutions beside SciPy's bare transforms, SciPy's convolutions, the machine's triad and its peak, each pair in one run.

Calls that are compared take turns, and the figures are ratios of medians. Nothing is asserted about time.
"""

from __future__ import annotations

import statistics
from functools import reduce

import numba
import numpy as np
import pytest
from conftest import seconds
from numba import njit, prange
from scipy import fft, signal

import sftsolve as sft
from sftsolve.kernels import trial
from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.methods import make_engine
from sftsolve.kernels.stencil import Stencil
from sftsolve.parallel import thread_count
from sftsolve.state import Layout


def in_turns(calls, rounds, of=statistics.median, again=False):
    """Median seconds of each call (or another figure `of` them), by name, in rounds of one call each.

    `again` times the second of two calls: small arrays are in the caches then, whichever call came before.
    """
    for call in calls.values():
        call()
    taken = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if again:
                call()
            taken[name].append(seconds(call))
    return {name: of(times) for name, times in taken.items()}


def force(kernel, grid, fields=("a",)):
    """One force of a kernel alone, and its state."""
    system = sft.discretise(sft.Action(fields, kernels=[kernel]), grid, dynamics="gradient-flow")
    rng = np.random.default_rng(1)
    state = system.state({name: rng.standard_normal(grid.shape) for name in fields})
    out = state.like()
    return (lambda: system.kernels[0].add_force(state, out, 0.0)), state


def finish(benchmark, report, name, figures, call):
    benchmark.extra_info.update(figures)
    report(name, figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize(
    "shape", [(2048, 2048), (256, 256, 256), (512, 512), (64, 64, 64)], ids=["2048^2", "256^3", "512^2", "64^3"]
)
def test_fft_beside_bare_transforms(benchmark, report, shape):
    grid = sft.Grid(shape, [1.0] * len(shape))
    call, state = force(sft.Convolution("a", "a", "exp(-r**2/s)", {"s": 2e-3}, method="fft"), grid)
    w, threads = state.w[0].copy(), thread_count()

    def bare():
        fft.irfftn(fft.rfftn(w, workers=threads), s=shape, workers=threads, overwrite_x=True)

    times = in_turns({"force": call, "bare": bare}, 15)
    figures = {"ratio": times["force"] / times["bare"], **times}
    finish(benchmark, report, f"FFT force, {'x'.join(map(str, shape))}, of bare rfftn + irfftn", figures, call)


def test_two_convolutions_share_a_transform(benchmark, report):
    grid = sft.Grid((1024, 1024), (1.0, 1.0))
    one = sft.Convolution("a", "a", "exp(-r**2/s)", {"s": 2e-3}, method="fft")
    two = sft.Convolution("a", "a", "exp(-r**2/s)", {"s": 1e-3}, amplitude="cos(t)", method="fft")
    alone, _ = force(one, grid)
    system = sft.discretise(sft.Action(["a"], kernels=[one, two]), grid, dynamics="gradient-flow")
    state = system.state({"a": "sin(6*x)"})
    out = state.like()

    def call():
        for operator in system.kernels:
            operator.add_force(state, out, 0.0)

    times = in_turns({"both": call, "one": alone}, 15)
    finish(
        benchmark, report, "two FFT kernels of a field, 1024^2, of one", {"ratio": times["both"] / times["one"], **times}, call
    )


@njit(parallel=True, fastmath=True)
def _peak(values, x, y, rounds):
    for part in prange(values.shape[0]):
        row = values[part]
        for _ in range(rounds):
            for k in range(row.size):
                v = row[k]
                for _ in range(8):
                    v = v * x + y
                    v = v * x + y
                    v = v * x + y
                    v = v * x + y
                row[k] = v


def peak_call():
    """(call, flops): multiply-adds on numbers that stay in registers, by every thread."""
    values = np.ones((thread_count(), 512))
    return (lambda: _peak(values, 0.999, 0.001, 2000)), values.size * 32 * 2 * 2000


@pytest.mark.parametrize("radius", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(2048, 2048), (256, 256, 256)], ids=["2048^2", "256^3"])
def test_short_support(benchmark, machine, report, shape, radius):
    if len(shape) == 3 and radius > 2:
        pytest.skip("a transform is quicker")
    stencil = np.random.default_rng(0).standard_normal((2 * radius + 1,) * len(shape))
    grid = sft.Grid(shape, [1.0] * len(shape))
    call, _ = force(sft.Convolution("a", "b", stencil, method="direct"), grid, ("a", "b"))
    peak, flops = peak_call()
    times = in_turns({"force": call, "peak": peak, "triad": machine.triad}, 15)
    own = 2 * 2 * stencil.size * grid.size  # two fields
    figures = {
        "of_peak": own / times["force"] / (flops / times["peak"]),
        "of_triad": 2 * 24 * grid.size / times["force"] * times["triad"] / (24 * 256**3),
        "GFlops": own / times["force"] / 1e9,
        "seconds": times["force"],
    }
    finish(benchmark, report, f"direct, radius {radius}, {'x'.join(map(str, shape))}", figures, call)


SCIPY = {
    "2^16, 513 taps": ((1 << 16,), (513,)),
    "2^16, 4097 taps": ((1 << 16,), (4097,)),
    "2^20, 9 taps": ((1 << 20,), (9,)),
    "2^20, 129 taps": ((1 << 20,), (129,)),
    "2^20, 4001 taps": ((1 << 20,), (4001,)),
    "2^20, 30001 taps": ((1 << 20,), (30001,)),
    "2^22, 301 taps": ((1 << 22,), (301,)),
    "2048^2, 7x7": ((2048, 2048), (7, 7)),
    "2048^2, 33x33": ((2048, 2048), (33, 33)),
    "2048^2, 65x65": ((2048, 2048), (65, 65)),
    "2048^2, 129x129": ((2048, 2048), (129, 129)),
    "2048^2, 1x301": ((2048, 2048), (1, 301)),
    "2048^2, 301x1": ((2048, 2048), (301, 1)),
    "4096^2, 33x33": ((4096, 4096), (33, 33)),
    "65536x8, 1001x1": ((1 << 16, 8), (1001, 1)),
    "16384x64, 201x3": ((1 << 14, 64), (201, 3)),
    "512^2, 3x3": ((512, 512), (3, 3)),
    "512^2, 33x33": ((512, 512), (33, 33)),
    "512^2, 301x301": ((512, 512), (301, 301)),
    "256^3, 9^3": ((256, 256, 256), (9, 9, 9)),
    "128^3, 3^3": ((128, 128, 128), (3, 3, 3)),
    "128^3, 17^3": ((128, 128, 128), (17, 17, 17)),
    "96^3, 95^3": ((96, 96, 96), (95, 95, 95)),
}


@pytest.mark.parametrize("shape, extents", SCIPY.values(), ids=SCIPY)
def test_beside_scipy(benchmark, report, request, shape, extents):
    """Zero walls, where SciPy computes the same; a stencil that does not factor."""
    rng = np.random.default_rng(0)
    stencil = rng.standard_normal(extents)
    grid = sft.Grid(shape, [1.0] * len(shape), boundary={"derivative": 0.0})
    # On one field both forces are one convolution, with the even part of the stencil.
    call, state = force(sft.Convolution("a", "a", stencil), grid)
    w, even = state.w[0].copy(), stencil + np.flip(stencil)

    def set_workers(convolve):
        def run():
            with fft.set_workers(thread_count()):
                return convolve(w, even, mode="same")

        return run

    peers = {name: set_workers(getattr(signal, name)) for name in ("fftconvolve", "oaconvolve")}
    expected = -grid.cell_volume * peers["fftconvolve"]()
    np.testing.assert_allclose(applied(grid, stencil, w), expected, atol=1e-11 * np.abs(expected).max())
    times = in_turns({"force": call, **peers}, 5)
    figures = {f"of_{name}": times["force"] / times[name] for name in peers} | {"seconds": times["force"]}
    finish(benchmark, report, f"force, {request.node.callspec.id}, beside SciPy", figures, call)


def applied(grid, stencil, w):
    system = sft.discretise(sft.Action(["a"], kernels=[sft.Convolution("a", "a", stencil)]), grid, dynamics="gradient-flow")
    return system.force(w[None])[0]


CHOICES = {
    "2^16": ((1 << 16,), (2, 16, 64, 256, 1024, 4096)),
    "2^20": ((1 << 20,), (2, 16, 64, 256, 4096)),
    "128^2": ((128, 128), (1, 2, 4, 8, 16, 32)),
    "512^2": ((512, 512), (1, 2, 4, 6, 8, 16, 32)),
    "2048^2": ((2048, 2048), (1, 3, 5, 8, 16, 32)),
    "32^3": ((32, 32, 32), (1, 2, 3, 5)),
    "96^3": ((96, 96, 96), (1, 2, 3, 5)),
    "192^3": ((192, 192, 192), (1, 2, 3, 5)),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("factors", [False, True], ids=["general", "product"])
@pytest.mark.parametrize("shape, radii", CHOICES.values(), ids=CHOICES)
def test_the_choice_beside_the_best(benchmark, report, request, monkeypatch, tmp_path, shape, radii, factors, threads):
    """Time of the method that "auto" takes, of the best one's, and the same of the model's choice: the worst over the radii.

    Each choice is made anew, by a trial where the model's predictions are close. Times are the least of several in turns: other
    work on the machine makes a median of it.
    """
    limit = numba.get_num_threads()
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one processor")
    monkeypatch.setenv("SFTSOLVE_THREADS", str(threads))
    layout = Layout.of(sft.Grid(shape, [1.0] * len(shape)), 0)
    space = Space(layout, (0, 0, 0))
    fields, none = layout.zeros(2), (space.none(4), space.none(3))
    source, target = Side(fields[:1], 0, *none), Side(fields[1:], 0, *none)
    layout.interior(fields)[...] = 1.0
    monkeypatch.setattr(trial, "choices_file", lambda: tmp_path / "choices.json")
    trial._known.cache_clear()
    worst, call = {"ratio": 0.0}, None
    for radius in radii:
        stencil = a_stencil(len(shape), radius, factors)
        methods = ["direct", "fft"] + ["overlap"] * (len(shape) < 3) + ["separable"] * (factors and len(shape) > 1)
        engines = {method: make_engine(method, stencil, space) for method in methods}
        calls = {method: (lambda engine=engine: engine.add(source, target, 1e-9)) for method, engine in engines.items()}
        if float(np.prod(stencil.values.shape)) * space.size > 3e9:
            del calls["direct"]  # far from the best, and slow to show
        chosen, predicted = trial.choose("auto", stencil, space), trial.contenders(stencil, space)[0]
        times = in_turns(calls, 7, min, again=space.size < 1 << 18)
        ratio, of_model = (times[method] / min(times.values()) for method in (chosen, predicted))
        report(f"  {request.node.callspec.id}, radius {radius}: {chosen}", {"ratio": ratio, "model's": of_model, **times})
        if ratio > worst["ratio"]:
            worst, call = {"ratio": ratio, "radius": radius}, calls[chosen]
    finish(benchmark, report, f"choice beside the best, {request.node.callspec.id}", worst, call)
    trial._known.cache_clear()
    numba.set_num_threads(limit)


def a_stencil(dimension, radius, factors):
    rng = np.random.default_rng(0)
    values = reduce(np.multiply.outer, rng.random((dimension, 2 * radius + 1)) + 0.5)
    return Stencil(values if factors else values + rng.random(values.shape), (-radius,) * dimension)
