"""Order 2 in space: manufactured solutions for every kind of wall and dimension, and the force itself on periodic grids."""

import numpy as np
import pytest
from manufactured import BOX, PLANE, X, by_conjugate_gradients, by_factors, on, orders, slope, system_for, value, variation
from reference_rule import uncompiled
from sympy import Integer, cos, pi, sin

import sftsolve as sft

x, y, z = X


def largest(error):
    return np.max(np.abs(error))


def rms(error):
    return np.sqrt(np.mean(error**2))


def check(found):
    for field, seen in found.items():
        assert np.all(np.abs(seen - 2.0) < 0.1), f"{field}: {seen}"


S = Integer(3) / 2 + sin(3 * x + 1) / 2
K = Integer(7) / 10 + 3 * cos(2 * x) / 10


def test_walls_of_a_line(monkeypatch):
    """All four traps of the discretisation, and every pair of conditions."""
    uncompiled(monkeypatch)
    one, two = cos(2.3 * x + 0.4) + x**2, sin(1.7 * x + 0.3) + x / 2
    exact = dict.fromkeys("abcfpruwm", one) | dict.fromkeys("qgv", two)
    text = "S/2*(grad2(a) + grad2(b) + grad2(c) + grad2(f))"  # traps 1 and 2
    text += " + grad2(p) + grad2(q) + K*p*d(q, x)"  # trap 3: value and slope
    text += " + grad2(r) + grad2(g) + K/2*r*d(g, x, 2)"  # trap 4
    text += " + (1 + u**2)/2*grad2(u) + grad2(w)/2 + d(w, x)**4/4 + grad2(v)/2 + K*d(v, x) + K*d(v, x, 2)/3"
    text += " + 2*grad2(m) + K*m*d(m, x, 2)"
    text += "".join(f" + {name}**2" for name in exact)
    pairs = {"a": (value, value), "b": (slope, slope), "c": (value, slope), "f": (slope, value)}
    pairs |= {"p": (value, value), "q": (slope, slope), "r": (value, value), "g": (value, value)}
    pairs |= {"u": (slope, slope), "w": (slope, value), "v": (slope, slope), "m": (slope, value)}
    check(orders(text, exact, {"S": S, "K": K}, {"x": pairs}, [(40,), (80,)], by_factors, largest))


def test_walls_of_a_plane():
    """Every condition, per face and per field; a coupling of each kind; mixed derivatives where values are given."""
    exact = {
        "a": 0.3 + 0.4 * x + sin(pi * x) * cos(pi * y),
        "b": x + x**2 / 2 - y**2 / 2 + cos(pi * x) * cos(pi * y),
        "c": 0.3 + sin(pi * x) * sin(pi * y),
    }
    stiffness = Integer(3) / 2 + sin(2 * x + 1) * cos(y) / 2
    kinds = {
        "x": {"a": (value, value), "b": (slope, slope), "c": (value, value)},
        "y": {"a": (slope, slope), "b": (slope, slope), "c": (value, value)},
    }
    shapes = [(24, 24), (48, 48)]
    check(orders(PLANE, exact, {"S": stiffness, "K": K}, kinds, shapes, by_factors, rms))


def test_walls_of_a_box():
    """Three axes: value and slope, two slopes, periodic."""
    wave = 1 + sin(2 * pi * z) / 2
    exact = {"w": 0.2 + 0.6 * x + sin(pi * x / 2) * (1 + cos(pi * y) / 2) * wave}
    kinds = {"x": {"w": (value, slope)}, "y": {"w": (slope, slope)}}
    stiffness = Integer(3) / 2 + sin(2 * x + 1) * cos(y) * sin(2 * pi * z) / 2
    shapes = [(10, 10, 10), (20, 20, 20)]
    check(orders(BOX, exact, {"S": stiffness}, kinds, shapes, by_conjugate_gradients, rms))


PERIODIC = {
    1: (
        "S/2*grad2(w) + K*w*d(v, x) + d(w, x)**4/400 + sqrt(1 + grad2(v)/40) + K*v*d(w, x, 2) + exp(w/2)*d(v, x, 2)**2/99",
        (32, 64),
    ),
    2: (
        "S/2*grad2(w) + d(w, x)*d(v, y)*K + d(w, x, y)**2/40 + sqrt(1 + grad2(v)/40) "
        "+ (d(w, x)*d(v, y) - d(w, y)*d(v, x))**2/999",
        (20, 40),
    ),
    3: ("S/2*grad2(w) + d(w, x)*d(v, y)*d(w, z)/9 + K*v*d(w, x, z) + lap(v)**2/400", (12, 24)),
}


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_force_on_periodic_grids(dimension, monkeypatch):
    """Without walls the force itself is of order 2; the continuum's comes from SymPy."""
    uncompiled(monkeypatch)
    text, counts = PERIODIC[dimension]
    phase = [2 * pi * c for c in (x, y, z)[:dimension]]
    total = sum(phase)
    exact = {"w": sum(sin(p + 0.3) for p in phase) / 2, "v": cos(total) / 2 + sin(phase[0]) / 3}
    values = {"S": 2 + sin(phase[-1]), "K": cos(phase[0] + 1)}
    forces = [-force for force in variation(text, exact, "zyx"[-dimension:], values)]
    errors = []
    for count in counts:
        grid = sft.Grid((count,) * dimension, 1.0)
        system = system_for(text, exact, grid, values, [Integer(0)] * 2)
        w = np.stack([on(grid, field) for field in exact.values()])
        errors.append([rms(part - on(grid, force)) for part, force in zip(system.force(w), forces, strict=True)])
    seen = np.log2(np.array(errors[0]) / errors[1])
    assert np.all(np.abs(seen - 2.0) < 0.1), seen
