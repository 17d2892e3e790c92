"""The generated force as a fraction of the machine's triad, steps in place as one of its in-place limit, in one run.

Bytes are counted as each array once: fields and sources read, forces written, 8 bytes each (24 a cell for one field and one
source, as the triad). Nothing is asserted about time.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import seconds

import sftsolve as sft
from sftsolve.config import load
from sftsolve.stepping.symplectic import Leapfrog

REACTION = "D/2*grad2(w) + lam/4*w**4 - w**2/2 - J*w"
FREE = "D/2*grad2(w) + lam/4*w**4 - w**2/2"
COUPLED = "S/2*grad2(a) + S/2*grad2(b) + J2*b + J3*b*a + K1*b*d(a, x) + a**4/4"
FRONT = Path(__file__).parents[1] / "data" / "front-3d.toml"


def bound(text, fields, sources, shape, order=2, boundary="periodic", dtype="float64"):
    """(system, state) of random fields and sources."""
    rng = np.random.default_rng(0)
    grid = sft.Grid(shape, [1.0 + 0.1 * axis for axis in range(len(shape))], boundary=boundary)
    data = {name: rng.random(shape) for name in sources}
    action = sft.Action(fields, text, {"D": 1.3, "lam": 1.0}, data, friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, grid, order=order, dtype=dtype)
    return system, system.state({name: rng.standard_normal(shape) for name in fields})


def operations(system) -> int:
    """Additions, multiplications and divisions of a cell's force, as the generated text has them."""
    body = re.findall(r"def force_box.*?(?=\n@njit)", system.local.plan.text, re.DOTALL)[0].rsplit("for k in range(n):", 1)[1]
    return len(re.findall(r" [-+*/] |= -", body))


def measured(benchmark, machine, report, name, call, size, probe="triad", cells=None, work=None):
    """Take the figures of a call and put them into the table."""
    figures = machine.ratio(call, size, probe=probe)
    if work:
        figures["intensity"] = work * cells / size
    benchmark.extra_info.update(figures)
    report(f"{name}, of {probe}", figures)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


def force(benchmark, machine, report, name, system, state):
    out = state.like()
    arrays = 2 * len(system.fields) + len(system.local.plan.names.arrays)
    size = arrays * system.grid.size * state.storage.itemsize
    call = lambda: system.force_into(state, out)  # noqa: E731
    measured(benchmark, machine, report, f"force, {name}", call, size, "triad", system.grid.size, operations(system))


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_force_256_cubed(benchmark, machine, report, order):
    force(benchmark, machine, report, f"order {order}, 256^3", *bound(REACTION, ["w"], ["J"], (256, 256, 256), order))


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_force_4096_squared(benchmark, machine, report, order):
    force(benchmark, machine, report, f"order {order}, 4096^2", *bound(REACTION, ["w"], ["J"], (4096, 4096), order))


@pytest.mark.parametrize("order", [2, 8])
@pytest.mark.skipif(
    os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 12 * 2**30, reason="needs 12 GiB of memory: five arrays of 512^3"
)
def test_force_512_cubed(benchmark, machine, report, order):
    force(benchmark, machine, report, f"order {order}, 512^3", *bound(REACTION, ["w"], ["J"], (512, 512, 512), order))


@pytest.mark.parametrize("shape", [(2048, 2048), (2**22,)], ids=["2048^2", "2^22"])
def test_force_fewer_axes(benchmark, machine, report, shape):
    force(benchmark, machine, report, f"order 2, {'x'.join(map(str, shape))}", *bound(REACTION, ["w"], ["J"], shape))


def test_two_fields_four_sources(benchmark, machine, report):
    theory = bound(COUPLED, ["a", "b"], ["S", "J2", "J3", "K1"], (2048, 2048))
    force(benchmark, machine, report, "two fields, four sources, 2048^2", *theory)


def test_front(benchmark, machine, report):
    config, _ = load(FRONT, ["grid.shape=[256,256,256]"])
    job = config.build("front-3d")
    system = sft.discretise(job.action, job.grid, order=4)
    force(benchmark, machine, report, "front-3d, order 4, 256^3", system, system.state({"phi": "x", "chi": "y"}))


def test_walls_256_cubed(benchmark, machine, report):
    theory = bound(REACTION, ["w"], ["J"], (256, 256, 256), boundary={"derivative": 0.0})
    force(benchmark, machine, report, "order 2, 256^3, Neumann walls", *theory)


@pytest.mark.parametrize("order", [2, 8])
@pytest.mark.parametrize("shape", [(4096, 4096), (256, 256, 256), (384, 384, 384)], ids=["4096^2", "256^3", "384^3"])
def test_single_precision(benchmark, report, shape, order):
    """Time of a force in double precision over that in single: median and best of pairs, one right after the other."""
    pairs = [bound(REACTION, ["w"], ["J"], shape, order, dtype=dtype) for dtype in ("float64", "float32")]
    outs = [state.like() for _, state in pairs]

    def taken(number: int) -> float:
        (system, state), out = pairs[number], outs[number]
        return seconds(lambda: system.force_into(state, out))

    taken(0), taken(1)
    gains = [taken(0) / taken(1) for _ in range(12)]
    figures = {"gain": statistics.median(gains), "best": max(gains)}
    benchmark.extra_info.update(figures)
    report(f"force, order {order}, {'x'.join(map(str, shape))}, float32 over float64, in cells", figures)
    benchmark.pedantic(lambda: taken(1), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize(("shape", "order"), [((256, 256, 256), 2), ((256, 256, 256), 4), ((4096, 4096), 2)])
def test_kick_and_drift(benchmark, machine, report, shape, order):
    system, state = bound(FREE, ["w"], [], shape, order)
    name = f"kick and drift, order {order}, {'x'.join(map(str, shape))}"
    call = lambda: system.kick_drift(state, 0.9, 1e-9, 1e-9)  # noqa: E731
    measured(benchmark, machine, report, name, call, 32 * system.grid.size, "update")


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_steps_of_descent_at_once(benchmark, machine, report, order):
    """As `descent` takes them between two events, counted as 24 bytes a cell and step: a field, a source, the field again."""
    system, state = bound(REACTION, ["w"], ["J"], (4096, 4096), order)
    state.momentum = None
    end, spare, steps = state.like(), state.like(), 16
    call = lambda: system.strides.flow(state, end, spare, [1e-9] * steps)  # noqa: E731
    name = f"steps of descent, {steps} at once, order {order}, 4096^2"
    measured(benchmark, machine, report, name, call, 24 * system.grid.size * steps)


@pytest.mark.parametrize(("shape", "order"), [((256, 256, 256), 2), ((256, 256, 256), 4), ((4096, 4096), 2)])
def test_steps_of_leapfrog_at_once(benchmark, machine, report, shape, order):
    """As `leapfrog` takes fixed steps between two events, counted as 32 bytes a cell and step."""
    system, state = bound(FREE, ["w"], [], shape, order)
    stepper, steps = Leapfrog(system, 1e-9), 16
    times = [1e-9 * number for number in range(steps + 1)]
    call = lambda: stepper.stride(state, times, [1e-9] * steps)  # noqa: E731
    name = f"steps of leapfrog, {steps} at once, order {order}, {'x'.join(map(str, shape))}"
    measured(benchmark, machine, report, name, call, 32 * system.grid.size * steps, "update")


COMPILE = """
import sys, time
start = time.perf_counter()
import numpy as np, sftsolve as sft
imported = time.perf_counter()
fields, sides = ["w1", "w2"], {"lower": {"w1": {"value": 0.3}, "w2": {"derivative": 0.1}}, "upper": {"value": 0.2}}
text = "S/2*grad2(w1) + S/2*grad2(w2) + J3*w2*w1 + J2*w2 + K1*w2*d(w1, x) + w1**4/4 + w2**4/4"
walls = "periodic" if sys.argv[1] == "periodic" else {"x": sides, "y": {"value": 0.0}, "z": {"derivative": 0.0}}
action = sft.Action(fields, text, {}, {name: "1 + x/9" for name in ("S", "J2", "J3", "K1")}, friction=sft.Friction(gamma=1.0))
system = sft.discretise(action, sft.Grid((20, 20, 20), 1.0, boundary=walls), order=int(sys.argv[2]))
w = np.ones((2, 20, 20, 20))
system.force(w), system.cost(w)
print(time.perf_counter() - imported)
"""


@pytest.mark.parametrize(("walls", "order"), [("periodic", 8), ("walls", 2)])
def test_compilation(benchmark, report, walls, order, tmp_path):
    """Seconds to the first force and cost of the two-field theory in three dimensions, with an empty and with a full cache."""

    def first() -> float:
        environment = os.environ | {"SFTSOLVE_CACHE": str(tmp_path)}
        command = [sys.executable, "-c", COMPILE, walls, str(order)]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    cold = first()
    report(f"compilation, {walls}, order {order}", {"cold_seconds": cold, "warm_seconds": min(first() for _ in range(3))})
    benchmark.pedantic(first, rounds=1)
