"""Solvers of others behind one call: solve(problem, end, rtol) -> w at `end`, for the race in test_time_to_solution.py.

A problem is a gradient flow or a damped field; others get it as y' = f(t, y), y = w or (w, w_t), with our compiled force as its
right side, except where they compile one of their own (py-pde, diffrax). What is not installed is skipped.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import scipy.fft
import scipy.sparse
from scipy.integrate import solve_ivp
from threadpoolctl import threadpool_limits

import sftsolve as sft
from sftsolve.errors import StepError

MASS, DRIVE = 400.0, 50.0


@dataclass(frozen=True)
class Problem:
    """A field on a periodic grid of cells as wide as high, with constant or varying stiffness.

    Parameters
    ----------
    action, shape, length, initial : the theory, the grid and w at the start, from rest
    gamma : None is gradient flow, else the friction of a damped field
    stiffness : the mean of S, for the preconditioner
    """

    action: sft.Action
    shape: tuple[int, ...]
    length: float
    initial: np.ndarray
    gamma: float | None = None
    stiffness: float = 1.0

    @cached_property
    def system(self) -> sft.System:
        dynamics = "gradient-flow" if self.gamma is None else "damped"
        grid = sft.Grid(self.shape, (self.length,) * len(self.shape))
        return sft.discretise(self.action, grid, dynamics=dynamics)

    @cached_property
    def start(self) -> np.ndarray:
        w = self.initial.reshape(-1)
        return w if self.gamma is None else np.concatenate([w, np.zeros_like(w)])

    def rate(self):
        """y' as a function of (t, y) that writes into its third argument; counts its calls."""
        state = self.system.state({"w": self.initial})
        out, size = state.like(), self.initial.size

        def call(t, y, rate):
            call.count += 1
            state.w[0] = y[:size].reshape(self.shape)
            self.system.force_into(state, out)
            if self.gamma is None:
                rate[:] = out.w[0].reshape(-1)
            else:
                rate[:size] = y[size:]
                rate[size:] = out.w[0].reshape(-1) - self.gamma * y[size:]

        call.count = 0
        return call

    @cached_property
    def laplacian(self) -> scipy.sparse.csc_array:
        """The five-point Laplacian (one axis: three points), without stiffness."""
        total = scipy.sparse.csc_array((self.initial.size,) * 2)
        for axis, n in enumerate(self.shape):
            one = scipy.sparse.diags_array([-2.0, 1.0, 1.0, 1.0, 1.0], offsets=[0, 1, -1, n - 1, 1 - n], shape=(n, n))
            before, after = (int(np.prod(part)) for part in (self.shape[:axis], self.shape[axis + 1 :]))
            eyes = scipy.sparse.eye_array(before), scipy.sparse.eye_array(after)
            total = total + scipy.sparse.kron(scipy.sparse.kron(eyes[0], one), eyes[1]) * (n / self.length) ** 2
        return total.tocsc()

    @cached_property
    def symbol(self) -> np.ndarray:
        """Eigenvalues of the Laplacian in the modes of rfftn."""
        axes = [2 * np.pi * np.arange(n) / n for n in self.shape]
        axes[-1] = axes[-1][: self.shape[-1] // 2 + 1]
        parts = [(2 * np.cos(k) - 2) * (n / self.length) ** 2 for k, n in zip(axes, self.shape, strict=True)]
        return sum(np.meshgrid(*parts, indexing="ij"))

    def fields(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(y)[: self.initial.size].reshape(self.shape)


class Stopwatch:
    """Seconds of the wall and of the process on all its cores, of what stands under `with`: the way alone, no compilation."""

    def __enter__(self) -> Stopwatch:
        self.cores, self.wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cores, self.wall = time.process_time() - self.cores, time.perf_counter() - self.wall


@dataclass
class Outcome:
    """The field at the end, the time it took, and the forces (JAX, py-pde: steps) that it took."""

    w: np.ndarray
    watch: Stopwatch
    work: int
    method: str = ""


ATOL = 0.01  # atol over rtol, of everybody


def ours(method: str):
    def solve(problem: Problem, end: float, rtol: float) -> Outcome:
        def run(**limits: int) -> Outcome:
            state = problem.system.state({"w": problem.initial})
            options = {"clock": "t", "rtol": rtol, "atol": rtol * ATOL, "progress": False}
            with Stopwatch() as watch:
                stats = sft.simulate(problem.system, state, method, end=end, **options, **limits).stats
            return Outcome(state.w[0].copy(), watch, stats.force_evaluations, stats.method)

        with contextlib.suppress(StepError):
            run(max_steps=2)  # compiles
        return run()

    return solve


def scipy_plain(method: str):
    """Without a Jacobian: explicit methods, and implicit ones on a few hundred values."""

    def solve(problem: Problem, end: float, rtol: float) -> Outcome:
        rate = problem.rate()

        def right(t, y):
            out = np.empty_like(y)
            rate(t, y, out)
            return out

        right(0.0, problem.start)
        with threadpool_limits(1, "blas"), Stopwatch() as watch:  # BLAS threads that wait hold up the force's
            found = solve_ivp(right, (0.0, end), problem.start, method, t_eval=[end], rtol=rtol, atol=rtol * ATOL)
        return Outcome(problem.fields(found.y[:, -1]), watch, rate.count)

    return solve


def scipy_sparse(method: str, mass: float, quartic: float):
    """With the exact sparse Jacobian of lap(w) - mass w - quartic w^3."""

    def solve(problem: Problem, end: float, rtol: float) -> Outcome:
        rate, size = problem.rate(), problem.initial.size

        def right(t, y):
            out = np.empty_like(y)
            rate(t, y, out)
            return out

        eye = scipy.sparse.eye_array(size)

        def jacobian(t, y):
            force = problem.laplacian - scipy.sparse.diags_array(mass + 3 * quartic * y[:size] ** 2)
            if problem.gamma is None:
                return force.tocsc()
            return scipy.sparse.block_array([[None, eye], [force, -problem.gamma * eye]], format="csc")

        right(0.0, problem.start)
        options = {"t_eval": [end], "jac": jacobian, "rtol": rtol, "atol": rtol * ATOL}
        with threadpool_limits(1, "blas"), Stopwatch() as watch:  # BLAS threads that wait hold up the force's
            found = solve_ivp(right, (0.0, end), problem.start, method, **options)
        return Outcome(problem.fields(found.y[:, -1]), watch, rate.count)

    return solve


def cvode(precondition: bool, krylov: int):
    """CVODE's BDF with GMRES; the preconditioner is 1 - c S lap by FFT, S its mean (gradient flow only)."""

    def solve(problem: Problem, end: float, rtol: float) -> Outcome:
        module = pytest.importorskip("sksundae", reason="scikit-sundae is not installed").cvode
        rate, options = problem.rate(), {}
        if precondition:

            def apply(t, y, yp, right, out, c, delta, side):
                spectrum = scipy.fft.rfftn(right.reshape(problem.shape), workers=2)
                spectrum /= 1.0 - c * problem.stiffness * problem.symbol
                out[:] = scipy.fft.irfftn(spectrum, problem.shape, workers=2, overwrite_x=True).reshape(-1)

            options["precond"] = module.CVODEPrecond(None, apply)
        solver = module.CVODE(
            lambda t, y, yp: rate(t, y, yp),
            method="BDF",
            linsolver="gmres",
            krylov_dim=krylov,
            rtol=rtol,
            atol=rtol * ATOL,
            max_num_steps=10**6,
            **options,
        )
        rate(0.0, problem.start, np.empty_like(problem.start))
        with Stopwatch() as watch:
            found = solver.solve(np.array([0.0, 0.5 * end, end]), problem.start)
        assert found.success, found.message
        return Outcome(problem.fields(found.y[-1]), watch, rate.count)

    return solve


def py_pde(problem: Problem, end: float, rtol: float) -> Outcome:
    """Its adaptive Runge-Kutta method, without the compilation that every solve asks for anew."""
    pde = pytest.importorskip("pde", reason="py-pde is not installed")
    grid = pde.CartesianGrid([(0, problem.length)] * 2, list(problem.shape), periodic=True)
    drive = pde.ScalarField(grid, problem.action.sources_at(problem.system.grid)["J"])
    right = pde.PDE({"w": f"laplace(w) + {MASS}*w - {MASS}*w*w*w + J"}, consts={"J": drive})
    solver = pde.solvers.RungeKuttaSolver(right, adaptive=True, tolerance=rtol, backend="numba")
    field = pde.ScalarField(grid, problem.initial)
    step = solver.make_stepper(field, 1e-7)
    step(field.copy(), 0.0, 1e-7)
    before = solver.info["steps"]
    with Stopwatch() as watch:
        step(field, 0.0, end)
    return Outcome(field.data, watch, solver.info["steps"] - before)


_JAX: dict[str, object] = {}  # compiled once


def diffrax_tsit5(problem: Problem, end: float, rtol: float) -> Outcome:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    diffrax = pytest.importorskip("diffrax", reason="diffrax is not installed")
    jax.config.update("jax_enable_x64", True)
    jnp, inverse = jax.numpy, (problem.shape[0] / problem.length) ** 2
    if not _JAX:

        def rate(t, w, drive):
            lap = sum(jnp.roll(w, shift, axis) for axis in range(2) for shift in (1, -1)) - 4 * w
            return inverse * lap + MASS * (w - w * w * w) + drive

        @jax.jit
        def run(w, drive, end, rtol):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(rate),
                diffrax.Tsit5(),
                0.0,
                end,
                None,
                w,
                drive,
                max_steps=None,
                adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=1),
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol * ATOL),
            )

        _JAX["run"] = run
    drive = jnp.asarray(problem.action.sources_at(problem.system.grid)["J"])

    def call(end: float):
        return _JAX["run"](jnp.asarray(problem.initial), drive, jnp.asarray(end), jnp.asarray(rtol))

    jax.block_until_ready(call(1e-9).ys)
    with Stopwatch() as watch:
        found = call(end)
        w = np.asarray(found.ys[-1])
    return Outcome(w, watch, int(found.stats["num_steps"]))
