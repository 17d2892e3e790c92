"""Manufactured solutions: sources derived by SymPy so that given fields are a stationary point of a given cost.

SymPy varies the continuum density here, independently of the package's own algebra; the discrete stationary point is found by
Newton's method, with a probed sparse Jacobian or with conjugate gradients.
"""

from __future__ import annotations

import numpy as np
import sympy
from scipy.sparse import coo_array
from scipy.sparse.linalg import LinearOperator, cg, spsolve

import sftsolve as sft

X = sympy.symbols("x y z")
RADIUS = 2  # no stencil of order 2 reaches further

# Theories with walls that several tests share, so that each is compiled once.
PLANE = (
    "S/2*(grad2(a) + grad2(b)) + K*a*d(b, x)/4 + K*a*d(a, x, 2)/4 + a**2 + b**2"
    " + grad2(c)/2 + K*d(c, x)*d(c, y)/4 + K*c*d(c, x, y)/4 + d(c, x, y)**2/50 + c**2"
)
BOX = "S/2*grad2(w) + w**4/4 + w**2"


def variation(text, exact, axes, values):
    """dC/dw_a at the exact fields, one SymPy expression a field: sum over derivatives, (-1)^n D^n (dc/d(D^n w))."""
    coordinates = [symbol for name, symbol in zip("xyz", X, strict=True) if name in axes]
    fields = {name: sympy.Symbol(name) for name in exact}
    jets = {}

    def d(field, first, *more):
        along = [first, *([first] if more == (2,) else more)]
        key = (field.name, *sorted(along, key=str))
        return jets.setdefault(key, sympy.Symbol("_".join(map(str, key))))

    names = {
        **{str(symbol): symbol for symbol in coordinates},
        **{name: sympy.Symbol(name) for name in values},
        **fields,
        "d": d,
        "lap": lambda field: sum(d(field, c, 2) for c in coordinates),
        "grad2": lambda field: sum(d(field, c) ** 2 for c in coordinates),
    }
    density = sympy.sympify(text, locals=names)
    jets |= {(name,): symbol for name, symbol in fields.items()}
    at = {symbol: sympy.diff(exact[name], *along) if along else exact[name] for (name, *along), symbol in jets.items()}
    at |= {sympy.Symbol(name): expression for name, expression in values.items()}
    found = dict.fromkeys(exact, sympy.Integer(0))
    for (name, *along), symbol in jets.items():
        part = sympy.diff(density, symbol).subs(at)
        found[name] += (-1) ** len(along) * (sympy.diff(part, *along) if along else part)
    return list(found.values())


def on(grid, expression):
    """A SymPy expression on a grid's cells."""
    function = sympy.lambdify([X["xyz".index(axis)] for axis in grid.axes], expression, "numpy", cse=True)
    return np.broadcast_to(np.asarray(function(*[grid.mesh[axis] for axis in grid.axes]), float), grid.shape)


def forced(text, fields):
    """The density with a source J_w for every field w."""
    return text + "".join(f" - J_{name}*{name}" for name in fields)


def system_for(text, exact, grid, values, sources):
    """The discretised theory whose stationary point is `exact`, when `sources` are its variations there."""
    given = {f"J_{name}": on(grid, source) for name, source in zip(exact, sources, strict=True)}
    given |= {name: on(grid, expression) for name, expression in values.items()}
    action = sft.Action(list(exact), forced(text, exact), sources=given, friction=sft.Friction(gamma=1.0))
    return sft.discretise(action, grid)


def value(exact, axis, side):
    """The Dirichlet condition that an exact field on the unit box obeys; it must be constant along the face."""
    return {"value": float(exact.subs(axis, 0 if side == "lower" else 1))}


def slope(exact, axis, side):
    """The Neumann condition that it obeys."""
    inward = sympy.diff(exact, axis).subs(axis, 0 if side == "lower" else 1)
    return {"derivative": float(-inward if side == "lower" else inward)}


def walls(exact, kinds):
    """A boundary from (lower, upper) kinds of condition by axis and field."""
    boundary = {}
    for name, by_field in kinds.items():
        axis = X["xyz".index(name)]
        boundary[name] = {
            side: {field: pair[number](exact[field], axis, side) for field, pair in by_field.items()}
            for number, side in enumerate(("lower", "upper"))
        }
    return boundary


def sparse_jacobian(system, w):
    """F' as a sparse matrix; cells further apart than twice the radius are probed together."""
    stride = 2 * RADIUS + 1
    number = np.arange(w.size).reshape(w.shape)
    rows, columns, entries = [], [], []
    for field in range(len(w)):
        for start in np.ndindex((stride,) * (w.ndim - 1)):
            direction = np.zeros(w.shape)
            direction[(field, *(slice(first, None, stride) for first in start))] = 1.0
            probed = np.argwhere(direction[field])
            owner = np.full(w.shape, -1)
            for offset in np.ndindex((stride,) * (w.ndim - 1)):
                cells = probed + np.array(offset) - RADIUS
                inside = np.all((cells >= 0) & (cells < w.shape[1:]), axis=1)
                owner[(slice(None), *cells[inside].T)] = number[field][tuple(probed[inside].T)]
            image = system.jvp(w, direction)
            hit = (owner >= 0) & (image != 0)
            rows.append(number[hit])
            columns.append(owner[hit])
            entries.append(image[hit])
    places = (np.concatenate(rows), np.concatenate(columns))
    return coo_array((np.concatenate(entries), places), (w.size, w.size)).tocsc()


def by_factors(system, w):
    """Newton's step by factors of the sparse Jacobian."""
    return spsolve(sparse_jacobian(system, w), -system.force(w).ravel()).reshape(w.shape)


def by_conjugate_gradients(system, w):
    """Newton's step where the Jacobian is negative definite."""
    product = LinearOperator((w.size, w.size), matvec=lambda d: -system.jvp(w, d.reshape(w.shape)).ravel())
    change, failed = cg(product, system.force(w).ravel(), rtol=1e-10, maxiter=4000)
    assert not failed
    return change.reshape(w.shape)


def stationary(system, w, solve):
    """The stationary point of the discrete cost near `w`."""
    for _ in range(12):
        change = solve(system, w)
        w = w + change
        if np.max(np.abs(change)) < 1e-9:
            return w
    raise AssertionError("Newton's method does not converge")


def orders(text, exact, values, kinds, shapes, solve, norm):
    """By field, the orders of accuracy seen between consecutive grids on the unit box."""
    sources = variation(text, exact, "zyx"[-len(shapes[0]) :], values)
    errors = []
    for shape in shapes:
        grid = sft.Grid(shape, 1.0, boundary=walls(exact, kinds))
        reference = np.stack([on(grid, field) for field in exact.values()])
        error = stationary(system_for(text, exact, grid, values, sources), reference, solve) - reference
        errors.append([norm(part) for part in error])
    steps = np.diff(np.log([shape[-1] for shape in shapes]))
    return dict(zip(exact, (-np.diff(np.log(errors), axis=0) / steps[:, None]).T, strict=True))
