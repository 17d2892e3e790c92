"""The same right-hand side by others, in one run: F = lap(w) + w - w^3 on a periodic cube at second order in double precision.

Each is asked for what it does best out of the box, checked against the same NumPy reference, and timed in turns with ours; the
table shows how many times longer it takes. What is not installed is skipped (`pip install .[peers]`, and Devito by itself).
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import seconds
from numba import njit, prange

import sftsolve as sft

N = 192
SPACING = 0.5
ROUNDS = 9


@pytest.fixture(scope="module")
def w() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, N, N))


def numpy_force(w: np.ndarray) -> np.ndarray:
    lap = sum(np.roll(w, shift, axis) for axis in range(3) for shift in (1, -1)) - 6 * w
    return lap / SPACING**2 + w - w * w * w


@njit(parallel=True, fastmath={"contract"})
def _padded_force(w, out, inverse):
    for z in prange(1, w.shape[0] - 1):
        for y in range(1, w.shape[1] - 1):
            for x in range(1, w.shape[2] - 1):
                around = w[z - 1, y, x] + w[z + 1, y, x] + w[z, y - 1, x] + w[z, y + 1, x] + w[z, y, x - 1] + w[z, y, x + 1]
                c = w[z, y, x]
                out[z, y, x] = inverse * (around - 6.0 * c) + c - c * c * c


@njit(parallel=True)
def _wrap(w):
    n = w.shape[0] - 1
    for z in prange(1, n):
        w[z, 0], w[z, n] = w[z, n - 1], w[z, 1]
        for y in range(n + 1):
            w[z, y, 0], w[z, y, n] = w[z, y, n - 1], w[z, y, 1]
    w[0], w[n] = w[n - 1], w[1]


def numpy_rolls(w):
    return lambda: numpy_force(w)


def numba_by_hand(w):
    padded, out = np.pad(w, 1), np.zeros((N + 2,) * 3)

    def call():
        _wrap(padded)
        _padded_force(padded, out, 1 / SPACING**2)
        return out[1:-1, 1:-1, 1:-1]

    return call


def jax(w):
    module = pytest.importorskip("jax", reason="JAX is not installed")
    module.config.update("jax_enable_x64", True)
    jnp = module.numpy

    @module.jit
    def force(w):
        lap = sum(jnp.roll(w, shift, axis) for axis in range(3) for shift in (1, -1)) - 6 * w
        return lap / SPACING**2 + w - w * w * w

    there = jnp.asarray(w)
    return lambda: force(there).block_until_ready()


def py_pde(w):
    pde = pytest.importorskip("pde", reason="py-pde is not installed")
    grid = pde.CartesianGrid([(0, N * SPACING)] * 3, [N] * 3, periodic=True)
    state = pde.ScalarField(grid, w)
    rate = pde.PDE({"w": "laplace(w) + w - w*w*w"}).make_pde_rhs(state, backend="numba")
    return lambda: rate(state.data, 0.0)


def devito(w):
    module = pytest.importorskip("devito", reason="Devito is not installed, or not for these versions", exc_type=ImportError)
    module.configuration["language"], module.configuration["log-level"] = "openmp", "ERROR"
    grid = module.Grid((N, N, N), extent=((N - 1) * SPACING,) * 3, dtype=np.float64)
    field, out = (module.Function(name=name, grid=grid, space_order=2) for name in ("w", "out"))
    field.data[:] = w
    operator = module.Operator([module.Eq(out, field.laplace + field - field * field * field)])

    def call():
        operator.apply()
        return np.asarray(out.data)

    return call


PEERS = {
    "NumPy rolls": numpy_rolls,
    "Numba by hand": numba_by_hand,
    "JAX": jax,
    "py-pde": py_pde,
    "Devito (not periodic)": devito,
}


@pytest.mark.parametrize("name", PEERS)
def test_peer(benchmark, report, w, name):
    theirs = PEERS[name](w)
    action = sft.Action(["w"], "grad2(w)/2 - w**2/2 + w**4/4", friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, sft.Grid((N, N, N), N * SPACING))
    state = system.state({"w": w})
    out = state.like()
    inside = (slice(1, -1),) * 3  # Devito has no periodic boundaries
    expected = numpy_force(w)[inside]
    system.force_into(state, out)
    for found in (np.asarray(theirs()), out.w[0]):
        np.testing.assert_allclose(found[inside], expected, atol=1e-11 * np.max(np.abs(expected)))
    times = [(seconds(lambda: system.force_into(state, out)), seconds(theirs)) for _ in range(ROUNDS)]
    ratios = sorted(peer / ours for ours, peer in times)
    own, peer = (min(column) for column in zip(*times, strict=True))
    report(
        f"{name}, time over ours, {N}^3",
        {"median": ratios[ROUNDS // 2], "of_bests": peer / own, "Mcells_per_s": N**3 / peer / 1e6},
    )
    benchmark.pedantic(theirs, rounds=1)
