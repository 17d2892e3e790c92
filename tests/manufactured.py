"""Manufactured solutions: sources derived by SymPy so that given fields are a stationary point of a given cost.

SymPy varies the continuum density here, independently of the package's own algebra; the discrete stationary point is found by
Newton steps with a dense Jacobian (small grids) or conjugate gradients.
"""

from __future__ import annotations

import numpy as np
import sympy
from scipy.sparse.linalg import LinearOperator, cg

import sftsolve as sft

X = sympy.symbols("x y z")


def density(text, fields, axes, values):
    """The typed cost as a SymPy expression with fields replaced by SymPy functions of the coordinates."""
    coordinates = {name: symbol for name, symbol in zip("xyz", X, strict=True) if name in axes}

    def d(w, *args):
        axis, *more = args
        return sympy.diff(w, axis, *more)

    names = {
        **coordinates,
        **values,
        **fields,
        "d": d,
        "lap": lambda w: sum(sympy.diff(w, c, 2) for c in coordinates.values()),
        "grad2": lambda w: sum(sympy.diff(w, c) ** 2 for c in coordinates.values()),
    }
    return sympy.sympify(text, locals=names)


def stationary_sources(text, exact, axes, values):
    """J_a = dC/dw_a at the exact fields, so that the cost minus sum_a J_a w_a is stationary there; one SymPy expression a field."""
    coordinates = [symbol for name, symbol in zip("xyz", X, strict=True) if name in axes]
    functions = {name: sympy.Function(name)(*coordinates) for name in exact}
    c = density(text, functions, axes, values)
    equations = sympy.calculus.euler.euler_equations(c, list(functions.values()), coordinates)
    sources = []
    for function, equation in zip(functions.values(), equations, strict=True):
        variation = (equation.lhs - equation.rhs) if isinstance(equation, sympy.Eq) else sympy.Integer(0)
        assert function is not None
        sources.append(sympy.simplify(variation.subs({functions[n]: exact[n] for n in exact}).doit()))
    return sources


def on(grid, expression):
    """A SymPy expression on a grid's cells."""
    function = sympy.lambdify([X["xyz".index(axis)] for axis in grid.axes], expression, "numpy")
    return np.broadcast_to(np.asarray(function(*[grid.mesh[axis] for axis in grid.axes]), float), grid.shape)


def system_for(text, exact, grid, values, sources):
    """The discretised theory whose stationary point is `exact`."""
    coupling = "".join(f" - J_{name}*{name}" for name in exact)
    given = {f"J_{name}": on(grid, source) for name, source in zip(exact, sources, strict=True)}
    given |= {name: on(grid, value) for name, value in values.items()}
    action = sft.Action(list(exact), text + coupling, sources=given, friction=sft.Friction(gamma=1.0))
    return sft.discretise(action, grid)


def newton(system, start, steps=8):
    """The stationary point of the discrete cost near `start`, by Newton steps with a dense Jacobian."""
    w = start.copy()
    count = w.size
    for _ in range(steps):
        force = system.force(w)
        jacobian = np.empty((count, count))
        for column in range(count):
            direction = np.zeros(count)
            direction[column] = 1.0
            jacobian[:, column] = system.jvp(w, direction.reshape(w.shape)).ravel()
        change, *_ = np.linalg.lstsq(jacobian, -force.ravel(), rcond=None)
        w = w + change.reshape(w.shape)
        if np.max(np.abs(change)) < 1e-12:
            break
    return w


def conjugate_gradients(system, start, steps=3):
    """The same for larger grids with a negative definite Jacobian."""
    w = start.copy()
    for _ in range(steps):
        operator = LinearOperator((w.size, w.size), matvec=lambda d, w=w: -system.jvp(w, d.reshape(w.shape)).ravel())
        change, code = cg(operator, system.force(w).ravel(), rtol=1e-12, maxiter=5000)
        assert code == 0
        w = w + change.reshape(w.shape)
    return w


def errors(text, exact, values, boundary, shapes, length, solve=newton, norm=np.inf):
    """Error of the discrete stationary point on each grid."""
    found = []
    sources = stationary_sources(text, exact, "zyx"[-len(shapes[0]) :], values)
    for shape in shapes:
        grid = sft.Grid(shape, length, boundary=boundary)
        system = system_for(text, exact, grid, values, sources)
        reference = np.stack([on(grid, value) for value in exact.values()])
        error = solve(system, reference) - reference
        found.append(np.max(np.abs(error)) if norm == np.inf else np.sqrt(np.mean(error**2)))
    return np.array(found)


def slopes(values, shapes):
    """Orders seen between consecutive grids."""
    sizes = np.array([shape[-1] for shape in shapes], float)
    return np.log(values[:-1] / values[1:]) / np.log(sizes[1:] / sizes[:-1])
