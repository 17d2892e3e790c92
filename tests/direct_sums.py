"""Kernels k(x - y) as full matrices, cell by cell from their definitions: what the tests of nonlocal kernels compare with."""

from __future__ import annotations

import itertools

import numpy as np


def displacement_weights(grid, k, walls="zero"):
    """A_ij for cells i, j in C order; `k` maps a displacement (axis order, in lengths) to a number.

    Periodic axes take the minimal image in [-L/2, L/2); mirrored axes add the cell's image in the walls, on a circle of 2 L.
    """
    cells = list(np.ndindex(grid.shape))
    matrix = np.zeros((len(cells), len(cells)))
    for row, i in enumerate(cells):
        for column, j in enumerate(cells):
            choices = []
            for axis, n, p, q in zip(grid.axes, grid.shape, i, j, strict=True):
                if grid.periodic(axis):
                    choices.append([minimal(p - q, n)])
                elif walls == "mirror":
                    choices.append([minimal(p - q, 2 * n), minimal(p - (-1 - q), 2 * n)])
                else:
                    choices.append([p - q])
            for steps in itertools.product(*choices):
                matrix[row, column] += k(*(m * h for m, h in zip(steps, grid.spacing, strict=True)))
    return matrix


def minimal(m, n):
    """m modulo n in [-n/2, n/2)."""
    return (m + n // 2) % n - n // 2


def cost(grid, matrix, a, b):
    """int int A(x, y) a(x) b(y)."""
    return grid.cell_volume**2 * float(a.ravel() @ matrix @ b.ravel())


def forces(grid, matrix, a, b):
    """Forces on a and on b, each of the grid's shape."""
    on_a = -grid.cell_volume * (matrix @ b.ravel())
    on_b = -grid.cell_volume * (matrix.T @ a.ravel())
    return np.stack([on_a.reshape(grid.shape), on_b.reshape(grid.shape)])


def check_gradient(system, w, t=0.0, tolerance=1e-11):
    """The force is -h^-d of the cost's gradient, by central differences (the cost is quadratic), and so is its Jacobian."""
    rng = np.random.default_rng(5)
    d = rng.standard_normal(w.shape)
    force = system.force(w, t)
    difference = (system.cost(w + d, t) - system.cost(w - d, t)) / 2
    along = -system.grid.cell_volume * float(np.sum(force * d))
    size = abs(system.cost(w + d, t)) + abs(system.cost(w - d, t)) + abs(along)
    assert abs(difference - along) <= tolerance * size
    jacobian = system.jvp(w, d, t)
    np.testing.assert_allclose(jacobian, system.force(w + d, t) - force, atol=tolerance * np.abs(jacobian).max())
    e = rng.standard_normal(w.shape)
    np.testing.assert_allclose(np.sum(e * jacobian), np.sum(d * system.jvp(w, e, t)), rtol=1e-9, atol=1e-12 * size)


def counted_calls(monkeypatch, owner, names):
    """Calls of some methods of a class from now on, by name; they do what they did."""
    counts = dict.fromkeys(names, 0)
    for name in counts:
        original = getattr(owner, name)

        def counted(self, *arguments, name=name, original=original):
            counts[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(owner, name, counted)
    return counts
