"""Operators with variable coefficients as faces for multigrid and, assembled another way, as sparse matrices."""

from __future__ import annotations

import numpy as np
from scipy import sparse

import sftsolve as sft
from sftsolve.state import Layout

WALLS = {"p": "periodic", "n": "Neumann", "d": "Dirichlet", "m": "mixed, Dirichlet below and Neumann above"}


def coefficient(shape, kind, contrast):
    """K by cell, between 1 and `contrast`."""
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    if kind == "smooth":
        return contrast ** (0.5 + 0.5 * np.prod([np.sin(2 * np.pi * x + 0.3) for x in axes], axis=0))
    if kind == "noise":
        return contrast ** np.random.default_rng(1).random(shape)
    if kind == "blocks":
        values = contrast ** np.random.default_rng(1).random([4] * len(shape))
        return values[tuple(np.minimum((x * 4).astype(int), 3) for x in axes)]
    assert kind == "inclusion"
    return np.where(sum((x - 0.45) ** 2 for x in axes) < 0.08, contrast, 1.0)


class FaceOperator:
    """L w = div K grad w - m w on the unit cube with one letter of `WALLS` an axis."""

    def __init__(self, shape, walls, kind="smooth", contrast=10.0, mass=0.0, lengths=None, dtype="float64"):
        self.shape, self.walls = shape, walls
        self.grid = sft.Grid(shape, lengths or [1.0] * len(shape))
        self.layout = Layout.of(self.grid, 1, dtype)
        self.periodic = [letter == "p" for letter in walls]
        self.cells = coefficient(shape, kind, contrast)
        self.faces, self.reaction = [], mass * coefficient(shape, "noise", 2.0)
        for axis, letter in enumerate(walls):
            k = 0.5 * (self.cells + np.roll(self.cells, -1, axis)) / self.grid.spacing[axis] ** 2
            if letter != "p":
                np.moveaxis(k, axis, 0)[-1] = 0.0
            self.faces.append(k)
            for end in {"d": (0, -1), "m": (0,)}.get(letter, ()):
                at_wall = np.moveaxis(self.cells, axis, 0)[end]
                np.moveaxis(self.reaction, axis, 0)[end] += 2 * at_wall / self.grid.spacing[axis] ** 2

    @property
    def largest(self):
        return max(k.max() for k in self.faces)

    def matrix(self):
        """L as a sparse matrix: cell by cell, neighbour by neighbour."""
        rows, columns, values = [], [], []
        for cell in np.ndindex(self.shape):
            here = np.ravel_multi_index(cell, self.shape)
            diagonal = -self.reaction[cell]
            for axis, n in enumerate(self.shape):
                for step in (-1, 1):
                    other = list(cell)
                    other[axis] += step
                    if not 0 <= other[axis] < n and not self.periodic[axis]:
                        continue
                    other[axis] %= n
                    k = self.faces[axis][cell if step == 1 else tuple(other)]
                    rows.append(here)
                    columns.append(np.ravel_multi_index(other, self.shape))
                    values.append(k)
                    diagonal -= k
            rows.append(here)
            columns.append(here)
            values.append(diagonal)
        return sparse.csr_array((values, (rows, columns)))

    def random(self, seed=0):
        """A padded array (Z, Y, X) of random numbers, with NaN in the halo: nobody may read it."""
        values = np.random.default_rng(seed).standard_normal((1, *self.shape))
        storage = self.layout.zeros(1)
        storage.fill(np.nan)
        self.layout.interior(storage)[...] = values
        return storage[0]

    def inside(self, storage):
        return self.layout.interior(storage[None])[0]
