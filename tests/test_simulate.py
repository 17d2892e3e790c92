"""The time loop against closed forms, SciPy and NumPy; and how runs end that do not go well."""

import io
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
import tracemalloc

import h5py
import numpy as np
import pytest
from linear_systems import PointwiseSystem, damped_mode, springs
from rich.console import Console
from scipy.integrate import solve_ivp

import sftsolve as sft
from sftsolve.errors import ConfigError, FileError, GridError, StepError
from sftsolve.output import HDF5Writer
from sftsolve.simulation import simulate, solve
from sftsolve.stepping import ProgressBar, Tolerance, make_stepper
from sftsolve.stepping.tableaus import explicit_methods

METHODS = explicit_methods()
QUIET = {"progress": False}


# --- accuracy


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 6.0, 200.0], ids=["free", "under", "critical", "over", "strong"])
def test_damped_modes(method, gamma):
    stiffness = np.array([1.0, 0.3, 2.0])
    system = PointwiseSystem((3,), springs(stiffness), gamma=gamma)
    result = simulate(system, system.state(1.0, -0.4), method, end=4.0, clock="t", rtol=1e-8, atol=1e-8, save_every=0.5, **QUIET)
    for t, w, v in zip(result.t, result.w, result.v, strict=True):
        exact_w, exact_v = damped_mode(t, stiffness, gamma, 1.0, -0.4)
        assert np.abs(w[0] - exact_w).max() < 2e-7
        # Friction of rate gamma holds v by the error of w alone.
        assert np.abs(v[0] - exact_v).max() < 2e-7 * max(10.0, gamma)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 2.0), ("damped", 0.3), ("damped", 3.0)])
def test_error_follows_the_tolerance(method, rtol, dynamics, gamma):
    """A driven anharmonic oscillator a cell, against DOP853 at 1e-13."""
    x = np.linspace(-1.0, 1.0, 5)

    def force(w, t, out):
        out[...] = w - w**3 + np.cos(2 * t + x)

    def equation(t, y):
        w, v = y[:5], y[5:]
        push = w - w**3 + np.cos(2 * t + x)
        return push / gamma if dynamics == "gradient-flow" else np.concatenate([v, push - gamma * v])

    start = np.concatenate([x, 0.2 + 0 * x]) if dynamics == "damped" else x
    exact = solve_ivp(equation, (0, 6.0), start, method="DOP853", rtol=1e-13, atol=1e-14).y[:5, -1]
    system = PointwiseSystem((5,), force, gamma=gamma, dynamics=dynamics)
    result = simulate(system, system.state(x, 0.2), method, end=6.0, clock="t", rtol=rtol, atol=rtol, **QUIET)
    error = np.abs(result.w[-1, 0] - exact).max()
    assert error < 30 * rtol
    assert result.stats.rejected <= 0.2 * result.stats.steps + 2


def test_work_of_an_adaptive_run_is_that_of_scipy():
    """Within a factor of two of RK45, the same pair with another controller, at the same tolerance and error norm."""

    def force(w, t, out):
        out[...] = -np.sinh(3 * w) + 5 * np.cos(t)

    system = PointwiseSystem((1,), force, dynamics="gradient-flow")
    result = simulate(system, system.state(1.0), "dp5", end=20.0, rtol=1e-6, atol=1e-6, **QUIET)
    theirs = solve_ivp(lambda t, y: -np.sinh(3 * y) + 5 * np.cos(t), (0, 20.0), [1.0], rtol=1e-6, atol=1e-6)
    assert 0.5 < result.stats.force_evaluations / theirs.nfev < 2.0


@pytest.mark.parametrize("clock", ["tau", "t"])
@pytest.mark.parametrize("gamma", [0.5, 8.0])
def test_a_field_on_a_grid(gamma, clock):
    """Plane waves of the discrete Laplacian: w = cos(kx) f(t), omega^2 = m^2 + D (2/h sin(kh/2))^2; velocity is w_t."""
    n, m2, stiffness = 32, 2.0, 0.3
    grid = sft.Grid(shape=(n,), length=(1.0,))
    action = sft.Action(
        fields=["w"], cost="D/2*grad2(w) + m2/2*w**2", parameters={"D": stiffness, "m2": m2}, friction=sft.Friction(gamma=gamma)
    )
    result = solve(
        action,
        grid,
        {"w": "cos(4*pi*x)"},
        {"w": "0.5*cos(4*pi*x)"},
        end=1.5 if clock == "t" else 1.5 / gamma,
        clock=clock,
        rtol=1e-8,
        atol=1e-9,
        save_every=0.25 if clock == "t" else 0.25 / gamma,
        method="tsit5",
        **QUIET,
    )
    omega2 = m2 + stiffness * (2 * n * math.sin(math.pi * 2 / n)) ** 2
    wave = np.cos(4 * np.pi * grid.coordinates[0])
    assert len(result.t) == 7 and result.stats.method == "tsit5"
    for t, tau, w, v in zip(result.t, result.tau, result.w, result.v, strict=True):
        assert tau == pytest.approx(t / gamma, rel=1e-15)
        exact_w, exact_v = damped_mode(t, omega2, gamma, 1.0, 0.5)
        assert np.abs(w[0] - exact_w * wave).max() < 1e-6
        assert np.abs(v[0] - exact_v * wave).max() < 1e-5


# --- what is saved, and when


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("clock", "gamma"), [("tau", 7.3), ("t", 7.3), ("t", 0.3), ("tau", 0.3)])
def test_snapshots_fall_on_exact_times(method, clock, gamma):
    system = PointwiseSystem((3,), springs(1.0), gamma=gamma)
    result = simulate(system, system.state(1.0), method, end=1.0, clock=clock, save_every=0.1, rtol=1e-4, **QUIET)
    shown = result.tau if clock == "tau" else result.t
    assert shown.tolist() == [k * 0.1 for k in range(10)] + [1.0]
    listed = simulate(system, system.state(1.0), method, end=2.0, clock=clock, save_at=[0.7, 1 / 3], rtol=1e-4, **QUIET)
    shown = listed.tau if clock == "tau" else listed.t
    assert shown.tolist() == [0.0, 1 / 3, 0.7, 2.0]
    assert listed.w[1, 0] == pytest.approx(damped_mode(listed.t[1], 1.0, gamma, 1.0, 0.0)[0], rel=1e-3)


def test_first_and_last_by_default_and_a_run_goes_on_where_it_stands():
    system = PointwiseSystem((3,), springs(1.0), gamma=1.0)
    state = system.state(1.0)
    first = simulate(system, state, "tsit5", end=1.0, **QUIET)
    assert first.t.tolist() == [0.0, 1.0] and state.t == 1.0 and np.array_equal(state.w, first.w[-1])
    second = simulate(system, state, "tsit5", end=2.5, save_every=1.0, scalars_every=0.5, **QUIET)
    assert second.t.tolist() == [1.0, 2.0, 2.5] and second.scalars["t"].tolist() == [1.0, 1.5, 2.0, 2.5]
    assert np.abs(second.w[-1] - damped_mode(2.5, 1.0, 1.0, 1.0, 0.0)[0]).max() < 1e-5
    assert second.stats.steps == state.step - first.stats.steps


@pytest.mark.parametrize(("gamma", "clock"), [(0.3, "tau"), (1.7, "t")])
def test_the_state_stands_at_the_time_that_is_written(gamma, clock):
    """To the last bit; snapshots take no steps."""
    system = PointwiseSystem((3,), springs(1.0), gamma=gamma)
    seen = []
    system.corrected = True  # no audit: the cost is asked for by what is written alone
    system.cost_of = lambda state: seen.append(state.t) or 0.0
    loose = {"rtol": 0.5, "atol": 10.0} | QUIET
    times = np.geomspace(1e-9, 1e-2, 30)[::2].tolist() + [k * 0.013 for k in range(1, 150)]
    result = simulate(
        system, system.state(1.0), "rk32", end=2.0, clock=clock, save_at=times, first_step=1.0, max_step=1.0, **loose
    )
    shown = result.t if clock == "t" else result.tau
    assert seen == result.t.tolist() and shown[1:-1].tolist() == times and result.stats.steps == 2


def test_the_way_to_a_target_is_halved():
    times = []
    system = PointwiseSystem((3,), lambda w, t, out: times.append(t) or np.negative(w, out=out), dynamics="gradient-flow")
    loose = {"rtol": 0.5, "atol": 10.0} | QUIET
    simulate(system, system.state(1.0), "rk32", end=1.0, first_step=0.3, max_step=0.3, **loose)
    # The last of the three evaluations of a step is at its end.
    assert times[3::3] == pytest.approx([0.3, 0.6, 0.8, 1.0], rel=1e-14)


def test_first_step():
    system = PointwiseSystem((3,), springs(1.0), gamma=1.0)
    result = simulate(system, system.state(1.0), "tsit5", end=5.0, **QUIET)
    # A hundredth of the time in which w changes by itself, or of the run.
    assert result.scalars["step"][0] == pytest.approx(0.01, rel=2e-3)
    short = simulate(system, system.state(1.0), "tsit5", end=0.05, **QUIET)
    assert short.scalars["step"][0] == pytest.approx(0.0005, rel=1e-12)


def test_snapshots_cost_few_steps():
    """None, and no evaluation either: they are interpolated within the steps that the controller takes."""
    system = PointwiseSystem((3,), springs(1.0), gamma=0.2)
    free = simulate(system, system.state(1.0), "tsit5", end=50.0, clock="t", rtol=1e-6, **QUIET)
    saved = simulate(system, system.state(1.0), "tsit5", end=50.0, clock="t", rtol=1e-6, save_every=0.1, **QUIET)
    assert (saved.stats.steps, saved.stats.force_evaluations) == (free.stats.steps, free.stats.force_evaluations)
    assert np.array_equal(saved.w[-1], free.w[-1])
    exact = np.array([damped_mode(t, 1.0, 0.2, 1.0, 0.0)[0] for t in saved.t])
    assert np.abs(saved.w[:, 0, 0] - exact).max() < 1e-4


class Switched(PointwiseSystem):
    """A force that jumps at t = 1: w' = 1 before and -2 after (gradient flow, gamma = 1)."""

    def switches(self, first, last):
        return [1.0] if first < 1.0 < last else []

    def enter(self, t):
        self.after = t >= 1.0

    def cross(self, state, t):
        self.enter(t)


@pytest.mark.parametrize("save_at", [None, [0.5, 1.0, 1.5]])
def test_a_switch_is_hit_and_crossed(save_at):
    system = Switched((3,), lambda w, t, out: out.fill(-2.0 if system.after else 1.0), dynamics="gradient-flow")
    result = simulate(system, system.state(0.0), "tsit5", end=2.0, save_at=save_at, **QUIET)
    expected = [0.0, -1.0] if save_at is None else [0.0, 0.5, 1.0, 0.0, -1.0]
    assert result.w[:, 0, 0] == pytest.approx(expected, abs=1e-13)
    assert result.stats.rejected == 0


def test_gradient_flow_saves_its_velocity_and_never_raises_the_cost():
    grid = sft.Grid(shape=(24, 16), length=(1.0, 1.0), boundary={"y": {"lower": {"value": 0}, "upper": {"derivative": 1}}})
    action = sft.Action(fields=["w"], cost="grad2(w)/50 + w**4/4 - w**2/2", friction=sft.Friction(gamma=3.0))
    result = solve(
        action, grid, {"w": "sin(2*pi*x)*y"}, end=2.0, dynamics="gradient-flow", save_every=0.1, method="rk32", **QUIET
    )
    system = sft.discretise(action, grid, dynamics="gradient-flow")
    for w, v in zip(result.w, result.v, strict=True):
        np.testing.assert_allclose(v, system.force(w) / 3.0, rtol=1e-10, atol=1e-12)
    assert (np.diff(result.scalars["cost"]) <= 0).all()
    # Snapshots cost the steps no evaluation.
    assert result.stats.force_evaluations == 1 + 3 * (result.stats.steps + result.stats.rejected)


def test_time_series():
    """Kinetic energy, cost and their balance dE/dt = -gamma int v^2."""
    grid = sft.Grid(shape=(20, 30), length=(2.0, 3.0))
    gamma = 1.7
    action = sft.Action(fields=["a", "b"], cost="grad2(a)/2 + b**2 + a*b/3 + a**4/4", friction=sft.Friction(gamma=gamma))
    initial, velocity = {"a": "sin(pi*x)", "b": "cos(2*pi*x/3)"}, {"b": 1.0}
    options = {"end": 0.5, "clock": "t", "rtol": 1e-9, "atol": 1e-10} | QUIET
    result = solve(action, grid, initial, velocity, save_every=0.1, scalars_every=0.005, **options)
    series, system = result.scalars, sft.discretise(action, grid)
    assert set(series) == {"t", "tau", "cost", "kinetic", "energy", "force_rms", "step"}
    assert len(series["t"]) == 101 and np.allclose(series["t"], np.arange(101) * 0.005, rtol=1e-14)
    assert (series["step"] > 0).all()
    for row, w, v in zip(range(0, 101, 20), result.w, result.v, strict=True):
        assert series["cost"][row] == pytest.approx(system.cost(w), rel=1e-12)
        assert series["kinetic"][row] == pytest.approx((v**2).sum() / 2 * grid.cell_volume, rel=1e-12)
        assert series["force_rms"][row] == pytest.approx(np.sqrt(np.mean(system.force(w) ** 2)), rel=1e-10)
    assert np.allclose(series["energy"], series["cost"] + series["kinetic"])
    lost = gamma * 2 * np.trapezoid(series["kinetic"], series["t"])
    assert series["energy"][0] - series["energy"][-1] == pytest.approx(lost, rel=1e-4)


def test_scalars_where_there_is_no_friction():
    system = PointwiseSystem((3,), springs(4.0), gamma=0.0)
    result = simulate(system, system.state(1.0), "tsit5", end=1.0, clock="t", **QUIET)
    assert np.isnan(result.tau).all() and np.isnan(result.scalars["tau"]).all() and result.t.tolist() == [0.0, 1.0]


def test_stats_count_what_was_done():
    calls = []

    def force(w, t, out):
        calls.append(t)
        out[...] = -w if t < 0.5 else -1e4 * w

    system = PointwiseSystem((3,), force, dynamics="gradient-flow")
    result = simulate(system, system.state(1.0), "rk32", end=1.0, rtol=1e-5, **QUIET)
    stats = result.stats
    assert stats.rejected > 0 and stats.method == "rk32" and stats.status == "complete" and stats.linear_solves == 0
    assert stats.force_evaluations == len(calls) == 1 + 3 * (stats.steps + stats.rejected)
    assert 0 < stats.wall_time < 60


def test_steps_given_by_the_user():
    system = PointwiseSystem((3,), springs(1.0), gamma=4.0)
    fixed = simulate(system, system.state(1.0), "rk32", end=2.0, first_step=0.125, max_step=0.125, rtol=0.5, atol=10.0, **QUIET)
    assert fixed.stats.steps == 16 and fixed.stats.rejected == 0
    assert (fixed.scalars["step"] == 0.125).all()


def test_a_step_of_a_real_system_allocates_nothing():
    grid = sft.Grid(shape=(200, 200), length=(1.0, 1.0))
    action = sft.Action(fields=["w"], cost="grad2(w)/2 + w**4/4", friction=sft.Friction(gamma=2.0))
    system = sft.discretise(action, grid)
    state, stepper, tolerance = system.state({"w": "sin(2*pi*x)"}), make_stepper("rk32", system), Tolerance.of(1e-4, 1e-4, ("w",))
    stepper.step(state, 1e-5, tolerance)
    stepper.accept(state)
    tracemalloc.start()
    stepper.step(state, 1e-5, tolerance)
    stepper.accept(state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * state.w.nbytes


def test_solve_writes_a_file(tmp_path):
    grid = sft.Grid(shape=(16,), length=(1.0,))
    action = sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=2.0))
    path = tmp_path / "run.h5"
    options = {"end": 1.0, "save_every": 0.25, "output": path, "config": "[grid]\n", "metadata": {"purpose": "test"}} | QUIET
    result = solve(action, grid, {"w": 1.0}, **options)
    assert result.path == path and result.complete and result.w.shape == (5, 1, 16)
    with h5py.File(path) as file:
        assert file["w"].shape == (5, 16) and file.attrs["complete"] == 1
        assert file["tau"][:].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0] and file["t"][:].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    again = sft.open(path)
    settings = again.meta["settings"]
    assert settings["purpose"] == "test" and settings["method"].startswith("tsit5") and settings["gamma"] == 2.0
    assert again.meta["config"] == "[grid]\n"
    with pytest.raises(FileError):
        solve(action, grid, {"w": 1.0}, **(options | {"overwrite": False}))


# --- runs that cannot go on


def spoiled(bad_after, place=(1, 2, 3), bad=np.nan):
    """F = -w, spoilt in one cell from a time on."""

    def force(w, t, out):
        np.negative(w, out=out)
        if t > bad_after:
            out[place] = bad

    return PointwiseSystem((4, 5), force, fields=("p", "q"), gamma=4.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_ends_the_run_with_the_last_good_state_saved(method, bad, tmp_path):
    system, path = spoiled(1.0, bad=bad), tmp_path / "run.h5"
    state = system.state(1.0)
    with pytest.raises(StepError) as caught:
        simulate(system, state, method, end=10.0, clock="t", save_every=4.0, writer=HDF5Writer(path), **QUIET)
    message = str(caught.value)
    assert "not finite" in message and "'q'" in message and str(path) in message
    # Cell (2, 3) of (4, 5) on the unit square; both clocks.
    assert "y = 0.625" in message and "x = 0.7" in message
    tau, t = (float(number) for number in re.search(r"tau = (\S+) \(t = (\S+)\)", message).groups())
    assert t == pytest.approx(1.0, abs=1e-9) and tau == pytest.approx(0.25, abs=1e-9)
    result = sft.open(path)
    assert result.stats.status == "failed" and not result.complete and "'q'" in result.stats.message
    assert result.t.tolist() == [0.0, state.t] and state.t == pytest.approx(1.0, abs=1e-9)
    assert np.abs(result.w[-1] - damped_mode(state.t, 1.0, 4.0, 1.0, 0.0)[0]).max() < 1e-3
    assert os.listdir(tmp_path) == ["run.h5"]
    assert caught.value.result.stats == result.stats


def test_nothing_is_left_of_a_run_that_cannot_begin(tmp_path):
    system = spoiled(-1.0)
    with pytest.raises(StepError, match="not finite") as caught:
        simulate(system, system.state(1.0), "rk32", end=1.0, writer=HDF5Writer(tmp_path / "run.h5"), **QUIET)
    assert os.listdir(tmp_path) == [] and caught.value.result is None and str(tmp_path) not in str(caught.value)


def test_a_blow_up_names_its_place_and_time():
    """w_t = w^2 is 1/(1/w0 - t): infinite at t = 1/w0, first where w0 is largest."""

    def force(w, t, out):
        np.square(w, out=out)

    system = PointwiseSystem((5,), force, dynamics="gradient-flow")
    w0 = np.array([0.1, 0.2, 0.5, 0.3, 0.2])
    with pytest.raises(StepError) as caught, np.errstate(over="ignore"):
        simulate(system, system.state(w0), "tsit5", end=3.0, rtol=1e-6, **QUIET)
    message = str(caught.value)
    assert "too short" in message and "x = 0.5" in message and re.search(r"t = (2\.0000\d|1\.9999\d|2)\b", message)
    result = caught.value.result
    assert len(result.t) == 2 and result.w[-1].max() > 1e4


def test_max_steps():
    system = PointwiseSystem((3,), springs(100.0), gamma=0.1)
    with pytest.raises(StepError, match="max_steps = 20") as caught:
        simulate(system, system.state(1.0), "rk32", end=1e3, clock="t", max_steps=20, **QUIET)
    assert caught.value.result.stats.steps == 20 and len(caught.value.result.t) == 2
    done = simulate(system, system.state(0.0), "rk32", end=1e-3, clock="t", max_steps=30, **QUIET)
    assert done.complete


def test_an_error_in_the_loop_leaves_nothing(tmp_path):
    def force(w, t, out):
        if t > 0.5:
            raise RuntimeError("boom")
        out[...] = -w

    system = PointwiseSystem((3,), force)
    with pytest.raises(RuntimeError, match="boom"):
        simulate(system, system.state(1.0), "rk32", end=1.0, writer=HDF5Writer(tmp_path / "run.h5"), **QUIET)
    assert os.listdir(tmp_path) == []


# --- stopping


def interrupting(number, at, times=1):
    """F = -w, with signals on the way: `times` of them once t > at."""
    sent = []

    def force(w, t, out):
        np.negative(w, out=out)
        if t > at and len(sent) < times:
            sent.append(t)
            signal.raise_signal(number)

    return PointwiseSystem((4,), force, gamma=2.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_valid_file(number, tmp_path, caplog):
    system, path = interrupting(number, 2.0), tmp_path / "run.h5"
    state, handler = system.state(1.0), signal.getsignal(number)
    result = simulate(system, state, "tsit5", end=8.0, clock="t", save_every=1.5, writer=HDF5Writer(path), **QUIET)
    assert signal.getsignal(number) is handler
    assert result.stats.status == "interrupted" and not result.complete
    assert 2.0 <= state.t < 8.0 and result.t.tolist() == [0.0, 1.5, state.t]
    by = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"stopped by {by} at t = {state.t:.6g} of 8 ({state.t / 8:.0%}), step {state.step}" in result.stats.message
    assert result.stats.message in caplog.text
    with h5py.File(path) as file:
        assert file.attrs["complete"] == 0 and file["w"].shape == (3, 4)
        assert np.array_equal(file["w"][-1], state.w[0])
    assert os.listdir(tmp_path) == ["run.h5"]


def test_a_second_interrupt_stops_at_once(tmp_path):
    system, handler = interrupting(signal.SIGINT, 2.0, times=2), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        simulate(system, system.state(1.0), "tsit5", end=8.0, writer=HDF5Writer(tmp_path / "run.h5"), **QUIET)
    assert signal.getsignal(signal.SIGINT) is handler and os.listdir(tmp_path) == []


def test_a_run_in_another_thread():
    system, found = PointwiseSystem((3,), springs(1.0)), []
    thread = threading.Thread(target=lambda: found.append(simulate(system, system.state(1.0), "rk32", end=1.0, **QUIET)))
    thread.start()
    thread.join()
    assert found[0].complete


SCRIPT = """
import sys
import sftsolve as sft
action = sft.Action(fields=["w"], cost="grad2(w)/2 + w**4/4", friction=sft.Friction(gamma=0.1))
grid = sft.Grid(shape=(64,), length=(1.0,))
sft.solve(action, grid, {"w": "sin(2*pi*x)"}, end=0.01, clock="t")  # compiles
print("ready", flush=True)
result = sft.solve(action, grid, {"w": "sin(2*pi*x)"}, end=1e6, clock="t", save_every=1.0, output=sys.argv[1])
print(result.stats.status)
"""


def test_ctrl_c_from_outside(tmp_path):
    """A whole process, interrupted once its temporary file shows that it is under way."""
    path = tmp_path / "run.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert process.stdout.readline() == "ready\n"
        under_way = threading.Event()
        while process.poll() is None and not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]:
            under_way.wait(0.02)
        under_way.wait(0.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert output == "interrupted\n" and "Ctrl-C" in errors and "Traceback" not in errors
    result = sft.open(path)
    assert not result.complete and len(result.t) >= 2 and os.listdir(tmp_path) == ["run.h5"]


# --- telling the user


def test_a_stiff_run_is_announced(caplog):
    grid = sft.Grid(shape=(256,), length=(1.0,))
    action = sft.Action(fields=["w"], cost="50*grad2(w)/2 - cos(2*pi*x)*w", friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, grid, dynamics="gradient-flow")
    with caplog.at_level(logging.WARNING, logger="sftsolve"), pytest.raises(StepError, match="max_steps"):
        simulate(system, system.state({"w": 0.0}), "rk32", end=1.0, rtol=1e-3, atol=1e-4, max_steps=300, **QUIET)
    (message,) = [record.getMessage() for record in caplog.records if "stability" in record.getMessage()]
    # The largest eigenvalue of 50 lap is 50 * 4 / h^2; rk32 reaches to -2.51.
    steps = int(message.split("about ")[1].split(" steps")[0].replace(",", ""))
    assert steps == pytest.approx(50 * 4 * 256**2 / 2.51, rel=0.1)


def test_auto_says_what_it_takes(caplog):
    grid = sft.Grid(shape=(8,), length=(1.0,))
    action = sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=1.0))
    with caplog.at_level(logging.INFO, logger="sftsolve"):
        result = solve(action, grid, {"w": 1.0}, end=0.1, rtol=1e-3, **QUIET)
    assert result.stats.method.startswith("rk32 (auto: ") and '"auto" takes rk32' in caplog.text


def test_progress_on_a_terminal():
    screen = io.StringIO()
    with ProgressBar(True, "tsit5", Console(file=screen, force_terminal=True, width=100)) as bar:
        bar.show(0.25, 10, last=True)
        bar.show(0.26, 11)  # too soon after the last to be drawn
        bar.show(1.0, 40, last=True)
    shown = screen.getvalue()
    assert "25.0%" in shown and "10 steps" in shown and "steps/s" in shown and "100.0%" in shown and "26.0%" not in shown


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_is_silent_elsewhere(wanted):
    screen = io.StringIO()
    with ProgressBar(wanted, "tsit5", Console(file=screen, force_terminal=not wanted)) as bar:
        bar.show(0.5, 10, last=True)
    assert screen.getvalue() == ""


def test_a_run_prints_nothing_where_there_is_no_terminal(capfd):
    system = PointwiseSystem((3,), springs(1.0))
    simulate(system, system.state(1.0), "rk32", end=1.0)
    assert capfd.readouterr() == ("", "")


# --- bad arguments


GRID = sft.Grid(shape=(8,), length=(1.0,))
ACTION = sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=1.0))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"end": 0.0}, "end"),
        ({"end": -1.0}, "end"),
        ({"end": math.nan}, "end"),
        ({"end": math.inf}, "end"),
        ({"end": "long"}, "end"),
        ({"rtol": 0.0}, "rtol"),
        ({"rtol": 1.0}, "rtol"),
        ({"atol": 0.0}, "atol"),
        ({"atol": {"v": 1.0}}, "atol"),
        ({"clock": "theta"}, "clock"),
        ({"method": "rk4"}, "method"),
        ({"save_every": 0.0}, "save_every"),
        ({"save_at": [2.0]}, "save_at"),
        ({"scalars_every": -1}, "scalars_every"),
        ({"first_step": 0.0}, "first_step"),
        ({"max_step": -1.0}, "max_step"),
        ({"max_steps": 2.5}, "max_steps is no number of steps"),
        ({"dynamics": "heavy"}, "dynamics"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_made(given, named, tmp_path, monkeypatch):
    monkeypatch.setattr("sftsolve.simulation.solving.discretise", lambda *_, **__: pytest.fail("discretised"))
    with pytest.raises(ConfigError, match=named):
        solve(ACTION, GRID, {"w": 1.0}, **({"end": 1.0, "output": tmp_path / "run.h5"} | QUIET | given))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["first_step", "max_step", "max_steps"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, "x", True])
def test_bad_limits_of_a_step(name, value):
    system = PointwiseSystem((3,), springs(1.0))
    with pytest.raises(ConfigError, match=name):
        simulate(system, system.state(1.0), "rk32", end=1.0, **{name: value}, **QUIET)


def test_training_time_needs_friction():
    action = sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=0.0))
    with pytest.raises(ConfigError, match="training time"):
        solve(action, GRID, {"w": 1.0}, end=1.0, **QUIET)
    assert solve(action, GRID, {"w": 1.0}, end=1.0, clock="t", **QUIET).complete


def test_a_grid_larger_than_memory_is_refused_before_it_is_made():
    with pytest.raises(GridError, match="memory") as caught:
        solve(ACTION, sft.Grid(shape=(2**13, 2**13, 2**13), length=(1.0, 1.0, 1.0)), {"w": 1.0}, end=1.0, method="rk32", **QUIET)
    # 4 forces, w and u of state and proposal, u of the stages between: 10 arrays of 4 TiB and a little halo.
    assert "stages of rk32" in str(caught.value) and float(
        re.search(r"given: +([\d.e+]+) GiB", str(caught.value))[1]
    ) == pytest.approx(40960, rel=0.01)


def test_a_tolerance_at_the_rounding_of_single_precision_is_said(caplog):
    for dtype, rtol, said in (("float32", 1e-6, True), ("float32", 1e-4, False), ("float64", 1e-6, False)):
        caplog.clear()
        system = PointwiseSystem((3,), springs(1.0), dtype=dtype)
        simulate(system, system.state(1.0), "tsit5", end=0.01, rtol=rtol, progress=False)
        assert ("rounding of float32" in caplog.text) == said
