"""The generated force as a fraction of the machine's triad, in one run.

Bytes are counted as each array once: fields and sources read, forces written, 8 bytes each (24 a cell for one field and one
source, as the triad). Nothing is asserted about time.
"""

from __future__ import annotations

import numpy as np
import pytest

import sftsolve as sft

REACTION = "D/2*grad2(w) + lam/4*w**4 - w**2/2 - J*w"


def force(text, fields, sources, shape, order=2, boundary="periodic", dtype="float64"):
    """(call, bytes) of one force evaluation."""
    rng = np.random.default_rng(0)
    grid = sft.Grid(shape, [1.0 + 0.1 * axis for axis in range(len(shape))], boundary=boundary)
    data = {name: rng.random(shape) for name in sources}
    action = sft.Action(fields, text, {"D": 1.3, "lam": 1.0}, data, friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, grid, order=order, dtype=dtype)
    state = system.state({name: rng.standard_normal(shape) for name in fields})
    out = state.like()
    size = (2 * len(fields) + len(sources)) * grid.size * np.dtype(dtype).itemsize
    return (lambda: system.force_into(state, out)), size


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_force_256_cubed(benchmark, machine, report, order):
    call, size = force(REACTION, ["w"], ["J"], (256, 256, 256), order)
    figures = machine.ratio(call, size)
    benchmark.extra_info.update(figures)
    report(f"force, order {order}, 256^3, of triad", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("shape", [(2048, 2048), (2**22,)], ids=["2048^2", "2^22"])
def test_force_fewer_axes(benchmark, machine, report, shape):
    call, size = force(REACTION, ["w"], ["J"], shape)
    figures = machine.ratio(call, size)
    benchmark.extra_info.update(figures)
    report(f"force, order 2, {'x'.join(map(str, shape))}, of triad", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


def test_two_fields_four_sources(benchmark, machine, report):
    text = "S/2*grad2(a) + S/2*grad2(b) + J2*b + J3*b*a + K1*b*d(a, x) + a**4/4"
    call, size = force(text, ["a", "b"], ["S", "J2", "J3", "K1"], (2048, 2048))
    figures = machine.ratio(call, size)
    benchmark.extra_info.update(figures)
    report("two fields, four sources, 2048^2, of triad", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


def test_walls_256_cubed(benchmark, machine, report):
    call, size = force(REACTION, ["w"], ["J"], (256, 256, 256), boundary={"derivative": 0.0})
    figures = machine.ratio(call, size)
    benchmark.extra_info.update(figures)
    report("force, order 2, 256^3, Neumann walls, of triad", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


def test_single_precision(benchmark, machine, report):
    call, size = force(REACTION, ["w"], ["J"], (256, 256, 256), dtype="float32")
    figures = machine.ratio(call, size)
    benchmark.extra_info.update(figures)
    report("force, order 2, 256^3, float32, of triad", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)
