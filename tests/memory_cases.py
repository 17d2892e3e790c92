"""Runs whose peak memory is compared with what `sft.check` says of it: every method, every kind of kernel and of solver.

As a program, ``python memory_cases.py NAME CELLS FILE`` runs one of them on a grid of about so many cells, and prints what was
promised by part, and the peak of the process.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sftsolve as sft
from sftsolve.analysis import refuse_ill_posed
from sftsolve.output import HDF5Writer, MemoryWriter
from sftsolve.stepping import make_stepper
from sftsolve.stepping.registry import STEPPERS

STEPS = 8
FRICTIONS = {
    "descent": sft.Friction(eta=1e-7),
    "heavy-ball": sft.Friction.matching_descent(1e-7, momentum=0.5),
    "nesterov": sft.Friction.matching_descent(1e-7, momentum=0.5, nesterov=True),
}
VARYING = {"S": "1.5 + sin(2*pi*x)*cos(2*pi*y)"}
SMOOTH = "exp(-r**2/2/s**2)"


def cube(cells: int) -> sft.Grid:
    """Three axes that multigrid can coarsen."""
    n = 16 * max(1, round(cells ** (1 / 3) / 16))
    return sft.Grid((n, n, n), (1.0, 1.0, 1.0))


def square(cells: int) -> sft.Grid:
    n = 64 * max(1, round(cells ** (1 / 2) / 64))
    return sft.Grid((n, n), (1.0, 1.0))


def walled(cells: int) -> sft.Grid:
    grid = cube(cells)
    return sft.Grid(grid.shape, grid.length, boundary={axis: {"value": 0} for axis in grid.axes})


def line(cells: int) -> sft.Grid:
    return sft.Grid((cells,), (1.0,))


def reaction(grid: sft.Grid, friction: sft.Friction, kernels: Any = (), cost: str = "grad2(w)/2 + w**4/4 - J*w") -> sft.Action:
    return sft.Action(["w"], cost, sources={"J": "cos(2*pi*x)"}, kernels=kernels, friction=friction)


def varying(grid: sft.Grid, friction: sft.Friction) -> sft.Action:
    return sft.Action(["w"], "S/2*grad2(w) + w**4/4", sources=VARYING, friction=friction)


def two(grid: sft.Grid, friction: sft.Friction) -> sft.Action:
    return sft.Action(["a", "b"], "grad2(a)/2 + grad2(b)/4 + a**2*b**2/4 + a*b/3 - J*a", sources={"J": "x"}, friction=friction)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


Make = Callable[[sft.Grid, sft.Friction], sft.Action]
CASES: dict[str, tuple[Callable[[int], sft.Grid], Make, dict[str, Any]]] = {}


def add(
    name: str, grid: Callable[[int], sft.Grid], make: Make, method: str = "rk32", dynamics: str = "gradient-flow", **more: Any
) -> None:
    CASES[name] = (grid, make, {"method": method, "dynamics": dynamics, **more})


for _method, _known in STEPPERS.items():
    for _dynamics in _known.dynamics[:2]:
        if _method in FRICTIONS and (_method == "descent") == (_dynamics == "damped"):
            continue
        _short = {"damped": "d", "gradient-flow": "g", "slow-manifold": "s"}[_dynamics]
        add(f"{_method} {_short} 3d", cube, reaction, _method, _dynamics)
for _method in ("etdrk4", "sbdf2", "sbdf4", "ark436", "discrete-gradient"):
    add(f"{_method} d varying 3d", cube, varying, _method, "damped")
    add(f"{_method} d varying 2d", square, varying, _method, "damped")
    add(f"{_method} d two 2d", square, two, _method, "damped")
    add(f"{_method} g walls 3d", walled, reaction, _method)
add("tsit5 d 2d", square, two, "tsit5", "damped")
add("tsit5 d 2d memory", square, two, "tsit5", "damped", file=False)
add("rk32 g float32 3d", cube, reaction, dtype="float32")
add("etdrk4 d float32 3d", cube, reaction, "etdrk4", "damped", dtype="float32")
add("rk32 g order 8 3d", cube, reaction, order=8)
add("tsit5 d walls 3d", walled, reaction, "tsit5", "damped")
add("rk32 slow 3d", cube, reaction, "rk32", "slow-manifold")
add("tsit5 d dense 3d", cube, reaction, "tsit5", "damped", dense=True)


def kernel(name: str, grid: Callable[[int], sft.Grid], make: Callable[[sft.Grid], Any], **more: Any) -> None:
    add(f"kernel {name}", grid, lambda grid, friction: reaction(grid, friction, make(grid), "w**4/4"), **more)


def convolution(method: str, width: float, **more: Any) -> Callable[[sft.Grid], Any]:
    return lambda grid: sft.Convolution("w", "w", SMOOTH, {"s": width * max(grid.spacing)}, method=method, **more)


kernel("convolution direct", cube, convolution("direct", 0.4))
kernel("convolution separable", cube, convolution("separable", 1.0))
kernel("convolution fft", cube, convolution("fft", 4.0))
kernel("convolution fft wide", cube, lambda grid: sft.Convolution("w", "w", SMOOTH, {"s": 0.05}, method="fft"))
kernel("convolution fft 2d", square, convolution("fft", 4.0))
kernel("convolution overlap 2d", square, convolution("overlap", 2.0))
kernel("convolution overlap 1d", line, convolution("overlap", 8.0))
kernel("convolution fft walls", walled, convolution("fft", 2.0))
kernel(
    "convolution odd", square, lambda grid: sft.Convolution("w", "w", "x*exp(-r**2/2/s**2)+" + SMOOTH, {"s": 0.01}, method="fft")
)
kernel("convolution fft etdrk4", square, convolution("fft", 4.0), method="etdrk4")
kernel("convolution fft etdrk4 3d", cube, convolution("fft", 4.0), method="etdrk4")
kernel("modulated", square, lambda grid: sft.Modulated("w", "w", random(4, *grid.shape), SMOOTH, parameters={"s": 0.01}))
kernel(
    "modulated direct",
    square,
    lambda grid: sft.Modulated("w", "w", random(4, *grid.shape), SMOOTH, parameters={"s": 0.4 / grid.shape[0]}),
)
kernel("fractional", cube, lambda grid: sft.Fractional("w", 0.75))
kernel("fractional walls", walled, lambda grid: sft.Fractional("w", 0.75))
kernel("fractional etdrk4", cube, lambda grid: sft.Fractional("w", 0.75), method="etdrk4")
kernel("low rank", square, lambda grid: sft.LowRank("w", "w", random(12, *grid.shape)))
kernel("low rank sbdf2", square, lambda grid: sft.LowRank("w", "w", random(12, *grid.shape)), method="sbdf2")
kernel("low rank about", square, lambda grid: sft.LowRank("w", "w", random(6, *grid.shape), about=random(*grid.shape)))
kernel("separable", square, lambda grid: sft.Separable("w", random(12, *grid.shape), "s**4/4"))
kernel("shift", cube, lambda grid: sft.Shift("w", "w", [(0, 0, 1), (0, 1, 0), (3, 0, 0)]))
kernel("shift table", cube, lambda grid: sft.Shift("w", "w", [(0, 0, 1), (0, 1, 0)], [random(*grid.shape), "x*y*z"]))
kernel("pointwise", square, lambda grid: sft.PointwiseMatrix(["w"], random(1, 1, *grid.shape) ** 2))
kernel("dense", lambda cells: line(int(cells**0.5 * 3)), lambda grid: sft.Dense("w", "w", random(grid.size, grid.size)))


def sparse(grid: sft.Grid) -> Any:
    from scipy.sparse import diags_array

    bands = [random(grid.size - abs(offset)) for offset in (-3, -1, 0, 1, 3)]
    return sft.Sparse("w", "w", diags_array(bands, offsets=[-3, -1, 0, 1, 3], shape=(grid.size, grid.size)))


kernel("sparse", square, sparse)


def run(name: str, cells: int, file: str) -> dict[str, Any]:
    """One run: what is promised by part, the peak of the process, and how much more that is than it held before."""
    make_grid, make, options = CASES[name]
    known = {"file": True, "dense": False, "dtype": "float64", "order": 2} | options
    method, dynamics, order, dtype = (known[key] for key in ("method", "dynamics", "order", "dtype"))
    grid = make_grid(cells)
    strong = method in ("sbdf3", "sbdf4") or dynamics == "slow-manifold"
    friction = FRICTIONS.get(method, sft.Friction(gamma=1e4 if strong else 1.0))
    action = make(grid, friction)
    snapshots = 0 if known["file"] else 2
    promised = sft.check(
        action, grid, method=method, dynamics=dynamics, order=order, dtype=dtype, snapshots=snapshots, between=known["dense"]
    ).memory
    end = 8.0 if method == "descent" else STEPS * 1e-6
    saves = {"save_every": end / 20} if known["dense"] else {}
    if method not in FRICTIONS:
        # Steps of one length: methods of several steps come to use all that they hold.
        saves |= {"first_step": end / STEPS, "max_step": end / STEPS}
    held = forget_peak()
    system = sft.discretise(action, grid, order=order, dynamics=dynamics, dtype=dtype)
    state = system.state(dict.fromkeys(action.fields, "sin(2*pi*x)"))
    if not action.kernels:
        refuse_ill_posed(action, grid, state.w, order)
    if method in ("heavy-ball", "nesterov"):
        end = STEPS * make_stepper(method, system).fixed_step  # type: ignore[attr-defined]
    with HDF5Writer(file) if known["file"] else MemoryWriter() as writer:
        sft.simulate(system, state, method, end=end, clock="t", rtol=1e-3, writer=writer, progress=False, **saves)
    return {"promised": promised, "peak": memory("VmHWM"), "more": memory("VmHWM") - held}


def forget_peak() -> int:
    """Let the peak of this process begin with what it holds now: that much."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(key: str) -> int:
    """Bytes that this process holds ("VmRSS"), or has held at most ("VmHWM")."""
    (line,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith(key)]
    return 1024 * int(line)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
