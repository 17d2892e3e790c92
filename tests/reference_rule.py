"""The discrete rule of order 2, a second time: slow NumPy on the typed text, without any code or algebra of the package.

    C_h = h^d sum_i mean over all signs s of c(w, D^s w, ...)_i + areas * boundary energies,     F = -h^-d dC_h/dw

Every first derivative is a forward or backward difference of padded arrays, second ones compact; ghosts as written in
`boundary.py`'s docstrings; the gradient comes from complex steps, exact to rounding.
"""

from __future__ import annotations

import ast
import itertools
from types import ModuleType

import numba
import numpy as np

from sftsolve.codegen import cache, vectors

HALO = 3
FUNCTIONS = {name: getattr(np, name) for name in ("sin", "cos", "exp", "log", "sqrt", "tanh", "cosh")}


class Rule:
    """The discrete cost of a text on a grid.

    Parameters
    ----------
    text : the density; ``d(expression, x)`` differences the whole expression
    surfaces : boundary energies, (axis, side, text); there a field stands for its value on the wall, a source for its value
        extrapolated to the wall, and ``S_n`` for the outward slope of source S
    """

    def __init__(self, fields, text, grid, parameters=None, sources=None, surfaces=(), t=0.0):
        self.fields, self.grid, self.surfaces = fields, grid, surfaces
        self.scalars = {"pi": np.pi, "t": t, **(parameters or {})}
        self.code = compile(ast.fix_missing_locations(_QuoteAxes().visit(ast.parse(text, mode="eval"))), "rule", "eval")
        arrays = {name: np.broadcast_to(values, grid.shape) for name, values in {**(sources or {}), **grid.mesh}.items()}
        self.sources = arrays
        self.padded = {name: self._pad(np.asarray(values, float)) for name, values in arrays.items()}

    def _pad(self, values, field=None):
        """Ghosts on every face, x first; sources are extrapolated linearly at walls."""
        for number in reversed(range(self.grid.dimension)):
            axis, lines = self.grid.axes[number], np.moveaxis(values, number, 0)
            if self.grid.periodic(axis):
                lower, upper = (
                    [lines[(-m) % len(lines)] for m in range(1, HALO + 1)],
                    [lines[m % len(lines)] for m in range(HALO)],
                )
            else:
                lower = [self._ghost(lines, m, axis, "lower", field) for m in range(1, HALO + 1)]
                upper = [self._ghost(lines[::-1], m, axis, "upper", field) for m in range(1, HALO + 1)]
            values = np.moveaxis(np.concatenate([lower[::-1], lines, upper]), 0, number)
        return values

    def _ghost(self, lines, m, axis, side, field):
        if field is None:
            return lines[0] + m * (lines[0] - lines[min(1, len(lines) - 1)])
        mirror = lines[min(m, len(lines)) - 1]
        condition = self.grid.condition(axis, side, field)
        spacing = self.grid.spacing[self.grid.axes.index(axis)]
        data = self._data(condition.data, axis, side, lines.shape[1:])
        return 2 * data - mirror if condition.key == "value" else mirror + (2 * m - 1) * spacing * data

    def _data(self, data, axis, side, shape=None):
        """Wall data along a face of this shape, which may include the ghosts of other axes; expressions are run as Python."""
        if isinstance(data, float):
            return data
        names = {}
        others = [name for name in self.grid.axes if name != axis]
        for number, name in enumerate(others):
            index = self.grid.axes.index(name)
            n, h, start = self.grid.shape[index], self.grid.spacing[index], self.grid.origin[index]
            halo = 0 if shape is None else (shape[number] - n) // 2
            cells = np.arange(-halo, n + halo)
            points = start + ((cells % n if self.grid.periodic(name) else cells) + 0.5) * h
            names[name] = points.reshape([-1 if other == number else 1 for other in range(len(others))])
        index = self.grid.axes.index(axis)
        names[axis] = self.grid.origin[index] + (self.grid.length[index] if side == "upper" else 0.0)
        return eval(data.text, {}, {**FUNCTIONS, **self.scalars, **names})

    def cost(self, w):
        """The discrete cost of fields (field, *shape), real or complex."""
        fields = {name: self._pad(values, name) for name, values in zip(self.fields, w, strict=True)}
        patterns = list(itertools.product((1, -1), repeat=self.grid.dimension))
        total = 0.0
        for pattern in patterns:
            signs = dict(zip(self.grid.axes, pattern, strict=True))
            density = eval(self.code, {}, {**FUNCTIONS, **self.scalars, **self.padded, **fields, **self._operators(signs)})
            total = total + np.sum(self._inside(np.broadcast_to(density, self.padded["x"].shape)))
        total = total * self.grid.cell_volume / len(patterns)
        return total + sum(self._surface(w, *surface) for surface in self.surfaces)

    def _inside(self, padded):
        return padded[(slice(HALO, -HALO),) * self.grid.dimension]

    def _operators(self, signs):
        def difference(values, axis, sign):
            number = self.grid.axes.index(axis)
            ahead = (np.roll(values, -sign, number) - values) * sign
            return ahead / self.grid.spacing[number]

        def d(values, *axes):
            if len(axes) == 2 and axes[1] in (2, axes[0]):
                return difference(difference(values, axes[0], 1), axes[0], -1)
            for axis in axes:
                values = difference(values, axis, signs[axis])
            return values

        axes = self.grid.axes
        return {
            "d": d,
            "lap": lambda values: sum(d(values, axis, 2) for axis in axes),
            "grad2": lambda values: sum(d(values, axis) ** 2 for axis in axes),
        }

    def _surface(self, w, axis, side, text):
        number = self.grid.axes.index(axis)
        spacing = self.grid.spacing[number]
        names = {}
        for name, values in zip(self.fields, w, strict=True):
            condition = self.grid.condition(axis, side, name)
            outermost = np.take(values, 0 if side == "lower" else -1, number)
            data = self._data(condition.data, axis, side)
            names[name] = data if condition.key == "value" else outermost + data * spacing / 2
            names[f"{name}_data"] = data
        for name, values in self.sources.items():
            lines = np.moveaxis(np.asarray(values), number, 0)[:: 1 if side == "lower" else -1]
            names[name] = 1.5 * lines[0] - 0.5 * lines[1]
            names[f"{name}_n"] = (2 * lines[0] - 3 * lines[1] + lines[2]) / spacing
        area = self.grid.cell_volume / spacing
        energy = eval(text, {}, {**FUNCTIONS, **self.scalars, **names})
        shape = tuple(n for axis_number, n in enumerate(self.grid.shape) if axis_number != number)
        return area * np.sum(np.broadcast_to(energy, shape))

    def force(self, w):
        """-h^-d dC_h/dw, cell by cell."""
        force = np.empty(w.shape)
        for index in np.ndindex(w.shape):
            stepped = w.astype(complex)
            stepped[index] += 1e-30j
            force[index] = -self.cost(stepped).imag / 1e-30 / self.grid.cell_volume
        return force


class _QuoteAxes(ast.NodeTransformer):
    """d(w, x) -> d(w, 'x')."""

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "d":
            node.args[1:] = [ast.Constant(a.id) if isinstance(a, ast.Name) else a for a in node.args[1:]]
        return node


def uncompiled(monkeypatch):
    """Let generated modules run as the Python text that they are: many small theories without waiting for the compiler."""

    def plain(*arguments, **options):
        return arguments[0] if arguments else lambda function: function

    def load(text):
        module = ModuleType("generated")
        with monkeypatch.context() as patch:
            for name, value in (("njit", plain), ("float64", np.float64), ("float32", np.float32)):
                patch.setattr(numba, name, value)
            exec(compile(text, "generated", "exec"), module.__dict__)
        return module

    monkeypatch.setattr(cache, "load", load)
    monkeypatch.setattr(vectors, "lanes", lambda real: 0)
