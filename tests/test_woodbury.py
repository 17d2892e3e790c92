"""Low-rank kernels in the linear part, against dense matrices, and the steps that they no longer cost."""

import numpy as np
import pytest
from scipy import integrate

import sftsolve as sft
from sftsolve.linear.woodbury import LowRankPart

RANK = 6
COSTS = {
    "alone": "0",
    "constant": "grad2(a)/2 + a**2/2 + grad2(b)/2",
    "varying": "K*grad2(a)/2 + grad2(b)/2",
    "coupled": "K*grad2(a)/2 + grad2(b)/2 + 30*(a - x*b)**2",
}


def system(cost, boundary="periodic", rank=RANK, weights=None, scale=30.0, second=False, shape=(12, 16), dtype="float64"):
    grid = sft.Grid(shape, (1.0, 1.0), boundary=boundary)
    rng = np.random.default_rng(2)
    kernels = [sft.LowRank("a", "a", scale * rng.standard_normal((rank, *shape)), weights=weights)]
    if second:
        kernels.append(sft.LowRank("b", "b", scale * rng.standard_normal((2, *shape))))
    action = sft.Action(
        ["a", "b"], cost, sources={"K": "exp(sin(2*pi*x) + y)"}, kernels=kernels, friction=sft.Friction(gamma=1.0)
    )
    return sft.discretise(action, grid, dynamics="gradient-flow", dtype=dtype)


def dense(whole):
    """L column by column."""
    layout, size = whole.layout, 2 * whole.grid.size
    w, out, columns = layout.zeros(2), layout.zeros(2), []
    for cell in range(size):
        layout.interior(w)[...] = 0.0
        layout.interior(w)[np.unravel_index(cell, (2, *whole.grid.shape))] = 1.0
        whole.linear.apply(w, out)
        columns.append(layout.interior(out).reshape(-1).copy())
    return np.array(columns).T


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("second", [False, True], ids=["one kernel", "two kernels"])
def test_apply_is_the_jacobian_and_solve_its_inverse(cost, second):
    whole = system(cost, {"x": {"value": 0.0}}, second=second)
    linear = whole.linear
    assert isinstance(linear, LowRankPart)
    matrix = dense(whole)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-10 * np.abs(matrix).max())
    w = np.random.default_rng(0).standard_normal((2, *whole.grid.shape))
    expected = whole.jvp(np.zeros_like(w), w).reshape(-1)
    np.testing.assert_allclose(matrix @ w.reshape(-1), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    least = np.linalg.eigvalsh(matrix)[0]
    assert -least <= linear.radius * (1 + 1e-12)
    assert linear.radius < -2 * least
    right, out = whole.layout.pad(w), whole.layout.zeros(2)
    for sigma in (1e-4, 1.0, 1e3):
        exact = np.linalg.solve(np.eye(len(matrix)) - sigma * matrix, w.reshape(-1))
        for _ in range(4):
            count = linear.solve(right, sigma, out, False, 1e-10)
            difference = whole.layout.interior(out).reshape(-1) - exact
            assert np.linalg.norm(difference) <= 1e-7 * np.linalg.norm(exact)
        assert count <= 40


def test_a_sigma_that_is_held_becomes_cheap():
    whole = system(COSTS["constant"])
    linear, right = whole.linear, whole.layout.pad(np.random.default_rng(0).standard_normal((2, 12, 16)))
    out = whole.layout.zeros(2)
    first = linear.solve(right, 1.0, out, False, 1e-10)
    assert RANK <= first <= RANK + 2, "one iteration for every eigenvalue that the kernel moves"
    assert linear.solve(right, 1.0, out, False, 1e-10) == 1
    assert linear.prepared
    assert linear.solve(right, 2.0, out, False, 1e-10) > 1
    assert not linear.prepared


def test_a_kernel_alone_is_exact_at_once():
    whole = system(COSTS["alone"])
    right, out = whole.layout.pad(np.random.default_rng(0).standard_normal((2, 12, 16))), whole.layout.zeros(2)
    for sigma in (1e-3, 1e5):
        assert whole.linear.solve(right, sigma, out, False, 1e-10) == 1


def test_only_what_damps_joins():
    grid, phi = sft.Grid((8, 8), (1.0, 1.0)), np.random.default_rng(0).standard_normal((3, 8, 8))

    def linear(*kernels):
        action = sft.Action(["a", "b"], "0", kernels=kernels, friction=sft.Friction(gamma=1.0))
        return sft.discretise(action, grid, dynamics="gradient-flow").linear

    assert linear(sft.LowRank("a", "b", phi)) is None
    assert linear(sft.LowRank("a", "a", phi, phi[::-1].copy())) is None
    assert linear(sft.LowRank("a", "a", phi, weights=[-1.0, -2.0, 0.0])) is None
    assert linear(sft.LowRank("a", "a", phi, weights=[-1.0, 2.0, 0.0])).rank == 1
    assert not isinstance(system(COSTS["constant"], scale=1e-3).linear, LowRankPart), "too weak to be worth it"


def test_states_in_single_precision():
    whole = system(COSTS["varying"], dtype="float32")
    right = whole.layout.pad(np.random.default_rng(0).standard_normal((2, 12, 16)).astype("float32"))
    out, image = whole.layout.zeros(2), whole.layout.zeros(2)
    whole.linear.solve(right, 1e-2, out, False, 1e-5)
    whole.linear.apply(out, image)
    inside = whole.layout.interior
    assert np.linalg.norm(inside(out) - 1e-2 * inside(image) - inside(right)) < 1e-3 * np.linalg.norm(inside(right))


def test_a_stiff_kernel_of_rank_100_forces_no_small_steps():
    """An explicit method would need radius / 2 steps a unit of time, 10^5 of them; the result is that of SciPy's Radau."""
    shape = (12, 12)
    grid = sft.Grid(shape, (1.0, 1.0))
    phi = 300.0 * np.random.default_rng(5).standard_normal((100, *shape))
    cost, friction = "0.01*grad2(w)/2 + w**4/4 - cos(2*pi*x)*w", sft.Friction(gamma=1.0)
    action = sft.Action(["w"], cost, kernels=[sft.LowRank("w", "w", phi)], friction=friction)
    whole = sft.discretise(action, grid, dynamics="gradient-flow")
    end, start = 0.3, 0.5 + np.sin(2 * np.pi * grid.mesh["y"]) * np.ones(shape)
    assert whole.linear.radius * end / 2 > 5e4
    options = {"end": end, "dynamics": "gradient-flow", "method": "ark436", "rtol": 1e-5, "atol": 1e-7}
    result = sft.solve(action, grid, initial={"w": start}, **options)
    assert result.stats.steps < 250
    reference = integrate.solve_ivp(
        lambda t, w: whole.force(w.reshape(1, *shape)).reshape(-1), (0.0, end), start.reshape(-1), "Radau", rtol=1e-8, atol=1e-10
    )
    np.testing.assert_allclose(result.w[-1].reshape(-1), reference.y[:, -1], rtol=0, atol=1e-4)
