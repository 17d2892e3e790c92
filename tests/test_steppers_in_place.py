"""The rules of a step in place, for all but the explicit pairs: nothing changes before `accept`, nothing is allocated."""

import tracemalloc

import numpy as np
import pytest
from reference_problem import FLOW, system

from sftsolve.parallel import SMALL
from sftsolve.stepping import STEPPERS, Tolerance

METHODS = ("leapfrog", "leapfrog4", "rkc2", "discrete-gradient", "descent", "etdrk4", "rk4-friction", "ark436", "sbdf2")
DYNAMICS = {2.0: "damped", FLOW: "gradient-flow"}
CASES = [(method, gamma) for method in METHODS for gamma, name in DYNAMICS.items() if name in STEPPERS[method].dynamics]
EVERY = pytest.mark.parametrize(("method", "gamma"), CASES, ids=[f"{method}-{DYNAMICS[gamma]}" for method, gamma in CASES])
TOLERANCE = Tolerance.of(1e-2, 1e-2, ("w",))


def waves(problem):
    """A smooth state in motion, with what halo and pads hold set to nonsense."""
    x = np.arange(problem.grid.size) * 0.3
    state = problem.state({"w": np.sin(x) + 0.1 * np.cos(3 * x)})
    interior = state.w.copy()
    state.storage[...] = 1e150
    state.w[...] = interior
    if state.u is not None:
        state.u[...] = 0.5 * np.cos(x)
    return state


@EVERY
def test_a_proposal_changes_nothing_until_accepted(method, gamma):
    problem = system(gamma)
    state = waves(problem)
    before, stepper = state.copy(), STEPPERS[method].build(problem)
    stepper.step(state, 0.1, TOLERANCE)
    assert np.array_equal(state.w, before.w) and (state.t, state.step) == (before.t, before.step)
    assert state.u is None or np.array_equal(state.u, before.u)
    # A second proposal, as after a rejection, is what a fresh stepper proposes.
    error = stepper.step(state, 0.02, TOLERANCE)
    other, fresh = before.copy(), STEPPERS[method].build(problem)
    assert fresh.step(other, 0.02, TOLERANCE) == pytest.approx(error, rel=1e-6)
    stepper.accept(state)
    fresh.accept(other)
    np.testing.assert_allclose(state.w, other.w, rtol=0, atol=1e-13)
    assert state.u is None or np.allclose(state.u, other.u, rtol=0, atol=1e-12)
    assert state.step == before.step + 1 and state.t == pytest.approx(problem.clock.t(0.02))
    assert np.abs(state.w - before.w).max() > 1e-4


@EVERY
def test_the_force_at_the_state(method, gamma):
    problem = system(gamma)
    state, stepper = waves(problem), STEPPERS[method].build(problem)
    for _ in range(3):
        stepper.step(state, 0.02, TOLERANCE)
        np.testing.assert_allclose(stepper.force(state).w, problem.force(state.w, t=state.t), rtol=0, atol=1e-12)
        stepper.accept(state)
    np.testing.assert_allclose(stepper.force(state).w, problem.force(state.w, t=state.t), rtol=0, atol=1e-12)


@EVERY
@pytest.mark.parametrize("cells", [30_000, 40_000], ids=["serial", "parallel"])
def test_memory_is_made_once(method, gamma, cells):
    """As many arrays as `registers` says in the constructor (tables of modes in the first steps of a length), none in a step."""
    problem = system(gamma, cells=cells)
    assert (cells < SMALL) == (cells == 30_000)
    state = waves(problem)

    def steps(stepper):
        """As many as a multistep method needs for its history, with rejected ones between."""
        for _ in range(4):
            stepper.step(state, 2e-3, TOLERANCE)
            stepper.step(state, 1e-3, TOLERANCE)
            stepper.accept(state)

    steps(STEPPERS[method].build(problem))
    tracemalloc.start()
    stepper = STEPPERS[method].build(problem)
    steps(stepper)
    tracemalloc.reset_peak()
    held, _ = tracemalloc.get_traced_memory()
    steps(stepper)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    array = state.storage.nbytes
    # Steps of two lengths have five tables (h/2, 3h/4 and h) of four numbers a mode, half as many modes as cells.
    tables = 10 if method == "etdrk4" else 0
    # What is over, and what comes and goes in a step, is Python's: a fraction of an array.
    assert held // array == STEPPERS[method].registers(gamma != FLOW) + STEPPERS[method].watching(gamma != FLOW) + tables
    assert peak - held < 0.25 * array


@EVERY
def test_same_bits_for_every_number_of_threads(method, gamma):
    problem, found = system(gamma, cells=40_000), []
    for threads in (1, 2, 3):
        state, stepper = waves(problem), STEPPERS[method].build(problem)
        for sums in [stepper, *(part for part in (stepper._sums, getattr(stepper, "_passes", None)) if part)]:
            sums._threads = threads
        errors = []
        for _ in range(3):
            errors.append(stepper.step(state, 0.02, TOLERANCE))
            stepper.accept(state)
        found.append((errors, state.w.copy(), None if state.u is None else state.u.copy()))
    for errors, w, u in found[1:]:
        assert errors == found[0][0] and np.array_equal(w, found[0][1])
        assert u is None or np.array_equal(u, found[0][2])


@EVERY
def test_what_is_not_finite_is_seen_and_placed(method, gamma):
    problem = system(gamma)
    force = type(problem).force_into.__get__(problem)

    def broken(state, out, t=None):
        force(state, out, t)
        out.w[0, 5] = np.nan

    state, stepper = waves(problem), STEPPERS[method].build(problem)
    problem.force_into = broken
    vars(problem)["sweeps"] = None  # they take no forces from there
    assert not stepper.step(state, 0.02, TOLERANCE) <= 1.0
    assert stepper.not_finite(state) == (0, (5,))


def test_fixed_steps_see_it_too():
    problem = system(2.0)
    stepper = type(STEPPERS["leapfrog4"].build(problem))(problem, fixed_step=0.1)
    state = waves(problem)
    assert stepper.step(state, 0.05, TOLERANCE) == 0.0
    problem.force_into = lambda state, out, t=None: out.storage.fill(np.nan)
    stepper.reset()
    assert not stepper.step(state, 0.05, TOLERANCE) <= 1.0
