"""What a step moves: the time of one step of every method in units of an array that is read or written at the triad's rate.

The counts beside it are those of fused kernels, fields and velocities only (an array read or written counts one each time):
a gradient flow with rk32 23, dp5 52, tsit5 54; rkc2 5 a stage. Stages of network forces and transforms are not counted.
"""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from conftest import seconds

import sftsolve as sft
from sftsolve.stepping import make_stepper
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.registry import STEPPERS

N = 160
COUNTS = {("rk32", "gradient-flow"): 23, ("dp5", "gradient-flow"): 52, ("tsit5", "gradient-flow"): 54}
DYNAMICS = ("gradient-flow", "damped")


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("method", STEPPERS)
def test_arrays_moved_in_a_step(benchmark, machine, report, method, dynamics):
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4", friction=sft.Friction(gamma=2.0))
    system = sft.discretise(action, sft.Grid((N, N, N), 1.0), dynamics=dynamics)
    state = system.state({"w": np.random.default_rng(0).standard_normal((N, N, N))})
    tolerance = Tolerance.of(1e-3, 1e-3, system.fields)
    try:
        stepper = make_stepper(method, system)
        fixed = getattr(stepper, "fixed_step", None)
        h = system.clock.span(0.0, fixed).h if fixed else 1e-7
        stepper.step(state, h, tolerance)
    except sft.SftError as error:
        pytest.skip(f"{method} does not take this: {error}")

    def step() -> None:
        stepper.step(state, h, tolerance)
        stepper.accept(state)

    step()
    evaluations, pairs, before = stepper.force_evaluations, [], machine.triad()
    for _ in range(7):
        taken = seconds(step)
        after = machine.triad()
        pairs.append(taken / (0.5 * (before + after) * 8 * N**3))
        before = after
    figures = {"arrays": statistics.median(pairs), "best": min(pairs), "forces": (stepper.force_evaluations - evaluations) / 7}
    if (method, dynamics) in COUNTS:
        figures["count"] = COUNTS[method, dynamics]
    report(f"a step of {method}, {dynamics}, {N}^3", figures)
    benchmark.pedantic(step, rounds=1)
