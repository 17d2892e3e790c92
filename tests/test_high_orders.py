"""Orders 2, 4, 6 and 8 on periodic grids: the order of the force for every kind of density, exact symbols, exact gradients,
and positive stiffness however rough S is."""

from __future__ import annotations

import numpy as np
import pytest
from manufactured import X, on, variation
from reference_rule import uncompiled
from sympy import Rational, cos, sin

import sftsolve as sft
from sftsolve.codegen.scheme import Scheme, scheme

x, y, z = X
ORDERS = (2, 4, 6, 8)
ONE = {"w": sin(x), "v": cos(x) + sin(2 * x) / 5}
TWO = {"w": sin(x) * cos(y), "v": cos(x) + sin(y) / 3}
THREE = {"w": sin(x) * cos(y), "v": cos(x) * sin(z)}  # with S below no wave is shorter than a side: few cells show the order
S = {"S": Rational(3, 2) + sin(x) / 2}
LAYERS = {"S": Rational(3, 2) + sin(z) / 2}
THEORIES = {
    "T0": ("S*d(w, x, 2)**2/2 + w*v*d(w, x, 2)", ONE, {2: (64, 128), 4: (64, 96), 6: (64, 96), 8: (48, 64)}),
    "T1": ("S*v*d(w, x) + v**2*w*d(v, x) + w**3", ONE, {2: (64, 128), 4: (64, 96), 6: (64, 96), 8: (64, 80)}),
    "T2": (
        "S/2*d(w, x)**2 + (1 + w**2)*d(v, x)**2/2 + v*d(w, x)*d(v, x)",
        ONE,
        {2: (64, 128), 4: (64, 96), 6: (64, 96), 8: (64, 80)},
    ),
    "T3": ("d(w, x)**3/3 + S*d(v, x)**4/4", ONE, {2: (64, 128), 4: (96, 128), 6: (96, 128), 8: (96, 112)}),
    "2D": (
        "S/2*grad2(w) + d(w, x)*d(v, y) + S*d(w, x, y)**2/2 + v*d(w, x, y)",
        TWO,
        {2: (48, 64), 4: (36, 44), 6: (36, 42), 8: (40, 48)},
    ),
    "3D": ("S/2*grad2(w) + grad2(v)/2 + v*d(w, y) + w**2*v", THREE, {2: (24, 30), 4: (18, 22), 6: (18, 22), 8: (18, 22)}),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", THEORIES)
def test_order_of_the_force(name, order, monkeypatch):
    uncompiled(monkeypatch)
    text, exact, sizes = THEORIES[name]
    axes = {"2D": "yx", "3D": "zyx"}.get(name, "x")
    sources = LAYERS if name == "3D" else S
    forces = [-part for part in variation(text, exact, axes, sources)]
    errors = []
    for n in sizes[order]:
        grid = sft.Grid((n,) * len(axes), 2 * np.pi)
        action = sft.Action(list(exact), text, sources={"S": on(grid, sources["S"])})
        system = sft.discretise(action, grid, order=order, dynamics="gradient-flow")
        fields = np.stack([on(grid, field) for field in exact.values()])
        errors.append(np.max(np.abs(system.force(fields) - np.stack([on(grid, force) for force in forces]))))
    coarse, fine = sizes[order]
    assert abs(np.log(errors[0] / errors[1]) / np.log(fine / coarse) - order) < 0.15, errors


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["T0", "T2", "T3", "2D"])
def test_the_force_is_the_gradient_of_the_cost(name, order, monkeypatch):
    uncompiled(monkeypatch)
    text, exact, _ = THEORIES[name]
    grid = sft.Grid((12, 14) if name == "2D" else (20,), 2.0)
    rng = np.random.default_rng(order)
    action = sft.Action(list(exact), text, sources={"S": 1 + rng.random(grid.shape)})
    system = sft.discretise(action, grid, order=order, dynamics="gradient-flow")
    w, d, e = (rng.standard_normal((2, *grid.shape)) for _ in range(3))
    h = 1e-3

    def rise(step):
        return system.cost(w + step * d) - system.cost(w - step * d)

    slope = (8 * rise(h) - rise(2 * h)) / (12 * h)  # exact for costs of the fourth degree
    force = system.force(w)
    assert slope == pytest.approx(-grid.cell_volume * np.sum(force * d), rel=1e-9)
    left, right = np.sum(e * system.jvp(w, d)), np.sum(d * system.jvp(w, e))
    assert abs(left - right) <= 1e-12 * np.sum(np.abs(e * system.jvp(w, d)))


@pytest.mark.parametrize("order", ORDERS)
def test_stencils_are_their_symbols(order, monkeypatch):
    """On plane waves: grad2/2 is sum_m c_m 2 (cos m theta - 1)/h^2, the coupling v w' is D0 = i sum_m d_m 2 sin(m theta)/h."""
    uncompiled(monkeypatch)
    weights = scheme(order)
    grid = sft.Grid((24,), 3.0)
    (h,), (points,) = grid.spacing, grid.coordinates
    action = sft.Action(["w", "v"], "grad2(w)/2 + v*d(w, x)")
    system = sft.discretise(action, grid, order=order, dynamics="gradient-flow")
    for wave in range(13):
        theta = 2 * np.pi * wave / 24
        k = theta / h
        second = sum(float(c) * np.cos(m * theta) for m, c in weights.second.items()) / h**2
        first = sum(float(c) * np.sin(m * theta) for m, c in weights.central.items()) / h
        force = system.force(np.stack([np.cos(k * points), np.zeros(24)]))
        assert np.allclose(force[0], second * np.cos(k * points), rtol=0, atol=1e-12 / h**2)
        assert np.allclose(force[1], first * np.sin(k * points), rtol=0, atol=1e-12 / h)


@pytest.mark.parametrize("order", ORDERS)
def test_stiffness_is_positive_however_rough(order, monkeypatch):
    """S/2 |grad w|^2 with S >= 0 of contrast 1e4, new in every cell: no negative eigenvalue, only constants at zero."""
    uncompiled(monkeypatch)
    grid = sft.Grid((40,), 1.0)
    rough = 10 ** (4 * np.random.default_rng(3).random(40))
    system = sft.discretise(sft.Action(["w"], "S/2*grad2(w)", sources={"S": rough}), grid, order=order, dynamics="gradient-flow")
    matrix = -np.stack([system.force(unit[None])[0] for unit in np.eye(40)])
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    assert np.array_equal(np.abs(matrix - matrix.T) <= 1e-12 * np.abs(matrix).max(), np.ones_like(matrix, bool))
    assert values[0] >= -1e-12 * values[-1]
    assert values[1] > 1e-7 * values[-1]
    assert np.ptp(vectors[:, 0]) < 1e-6


def test_weights_check_themselves():
    good = scheme(4)
    with pytest.raises(ValueError, match="central"):
        Scheme(4, good.second, {**good.central, 2: good.central[1]}, good.upwind, good.pairs)
    with pytest.raises(ValueError, match="pairs"):
        Scheme(4, good.second, good.central, good.upwind, {1: good.pairs[1], 2: good.pairs[1]})


@pytest.mark.parametrize("order", [0, 3, 10, True, "2"])
def test_other_orders_are_refused(order):
    with pytest.raises(sft.SftError, match="order in space"):
        sft.discretise(sft.Action(["w"], "w**2"), sft.Grid((8,), 1.0), order=order, dynamics="gradient-flow")


def test_walls_are_of_order_2_and_4():
    grid = sft.Grid((8,), 1.0, boundary={"value": 0})
    with pytest.raises(sft.SftError, match="walls of order 6 do not exist"):
        sft.discretise(sft.Action(["w"], "grad2(w)"), grid, order=6, dynamics="gradient-flow")
