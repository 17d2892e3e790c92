"""What a step moves: the time of one step of every method in units of an array that is read or written at the triad's rate.

Beside it the count of the passes of its code (`counts.py`), transforms taken at the time of one, and measured/count. Writes that
are not past the caches read their lines first, in the triad as here. Nothing is asserted about time.
"""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from conftest import seconds
from counts import count, stride

import sftsolve as sft
from sftsolve.stepping import make_stepper
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.registry import STEPPERS
from sftsolve.stepping.symplectic import Leapfrog, Leapfrog4

N, STEPS = 160, 16
DYNAMICS = ("gradient-flow", "damped")
# Multistep methods of order 3 and 4 take steps of their own where friction slows all modes down.
GAMMA = {"sbdf3": 1e4, "sbdf4": 1e4}
FRICTIONS = {
    "descent": sft.Friction(eta=1e-7),
    "heavy-ball": sft.Friction.matching_descent(1e-7, momentum=0.5),
    "nesterov": sft.Friction.matching_descent(1e-7, momentum=0.5, nesterov=True),
}


def bound(method, dynamics):
    """(system, state) of a reaction in three dimensions."""
    friction = FRICTIONS.get(method, sft.Friction(gamma=GAMMA.get(method, 2.0)))
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4", friction=friction)
    system = sft.discretise(action, sft.Grid((N, N, N), 1.0), dynamics=dynamics)
    return system, system.state({"w": np.random.default_rng(0).standard_normal((N, N, N))})


def in_arrays(machine, call, rounds=7):
    """Times of `call` in units of an array moved at the triad's rate: median and least."""
    pairs, before = [], machine.triad()
    for _ in range(rounds):
        taken = seconds(call)
        after = machine.triad()
        pairs.append(taken / (0.5 * (before + after) * 8 * N**3))
        before = after
    return statistics.median(pairs), min(pairs)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("method", STEPPERS)
def test_arrays_moved_in_a_step(benchmark, machine, report, method, dynamics, monkeypatch):
    if dynamics not in STEPPERS[method].dynamics or (method in FRICTIONS and (method == "descent") == (dynamics == "damped")):
        pytest.skip(f"{method} does not step this dynamics")
    system, state = bound(method, dynamics)
    tolerance, stepper = Tolerance.of(1e-3, 1e-3, system.fields), make_stepper(method, system)
    fixed = getattr(stepper, "fixed_step", None)
    h = system.clock.span(0.0, system.clock.theta(fixed)).h if fixed else 1e-7
    products = []
    monkeypatch.setattr(system, "jvp_into", lambda *args, call=system.jvp_into: (products.append(1), call(*args)))

    def step() -> None:
        stepper.step(state, h, tolerance)
        stepper.accept(state)

    for _ in range(6):  # the first steps of a multistep method are another's
        step()
    evaluations = stepper.force_evaluations
    products.clear()
    arrays, best = in_arrays(machine, step)
    forces, krylov = (stepper.force_evaluations - evaluations) / 7, len(products) / 7
    known = count(method, dynamics == "damped", stages=round(forces), newton=forces / 2, krylov=krylov)
    figures = {"arrays": arrays, "best": best, "forces": forces, "count": known.arrays}
    if known.transforms:
        spectrum, modes = system.linear.modes.empty(), system.linear.modes
        there = in_arrays(machine, lambda: modes.forward(state.storage, spectrum))[0]
        back = in_arrays(machine, lambda: modes.backward(spectrum, stepper._proposal.storage))[0]
        figures |= {"transforms": known.transforms, "each": 0.5 * (there + back)}
    figures["measured/count"] = arrays / (known.arrays + known.transforms * figures.get("each", 0.0))
    if known.design:
        figures["design"] = known.design
    report(f"a step of {method}, {dynamics}", figures)
    benchmark.pedantic(step, rounds=1)


@pytest.mark.parametrize("method", ["descent", "heavy-ball", "leapfrog", "leapfrog4"])
def test_arrays_moved_in_a_step_of_many(benchmark, machine, report, method):
    """Sixteen steps of one length at once."""
    system, state = bound(method, "gradient-flow" if method == "descent" else "damped")
    kinds = {"leapfrog": Leapfrog, "leapfrog4": Leapfrog4}
    stepper = kinds[method](system, 1e-7) if method in kinds else make_stepper(method, system)
    times = [number * stepper.fixed_step for number in range(STEPS + 1)]
    lengths = np.diff([system.clock.theta(t) for t in times])
    steps = lambda: stepper.stride(state, times, lengths)  # noqa: E731
    assert steps().finite
    arrays, best = in_arrays(machine, steps)
    known = stride(method, STEPS)
    figures = {"arrays": arrays / STEPS, "best": best / STEPS, "count": known.arrays}
    figures["measured/count"] = figures["arrays"] / known.arrays
    report(f"a step of {method}, {STEPS} at once, {N}^3", figures)
    benchmark.pedantic(steps, rounds=1)
