"""From the linear split to symbols: the eigenvalues of constant stencils in the modes of the grid.

A stencil F_a(i) = sum_o L_ab[o] w_b(i + o) multiplies the mode exp(i theta . j) by

    sum_o L_ab[o] exp(i o . theta)  =  sum_o L_ab[o]  -  2 sum_o L_ab[o] sin^2(o . theta / 2)  +  i sum_o L_ab[o] sin(o . theta),

written so that long waves lose no digits. Fields of equal parity at the walls mirror alike, and there the part of the stencil
that is even along the walled axes is diagonal in their cosines or sines (discretisation rule, linear split).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from sftsolve.boundary import Robin
from sftsolve.codegen.stencils import Offset
from sftsolve.grid import AXES, SIDES, Grid
from sftsolve.kernels.transforms import Basis, Transform

Bases = tuple[Basis, Basis, Basis]
Table = dict[tuple[int, int], np.ndarray]
"""Symbols (a, b), a <= b, as arrays that broadcast to the modes; the rest is Hermitian."""

WAVES = {(1.0, 1.0): "cosine", (-1.0, -1.0): "sine", (1.0, -1.0): "cosine-4", (-1.0, 1.0): "sine-4"}
_ROUNDING = 16 * np.finfo(np.float64).eps


def bases_of(grid: Grid, field: str) -> Bases:
    """The modes of a field: Fourier on periodic axes, cosines and sines as its ghosts mirror at the walls."""
    found = [Basis.periodic(1)] * (3 - grid.dimension)
    for axis, n in zip(grid.axes, grid.shape, strict=True):
        if grid.periodic(axis):
            found.append(Basis.periodic(n))
        else:
            lower, upper = (_parity(grid, axis, side, field) for side in SIDES)
            found.append(Basis(WAVES[lower, upper], n, n))
    return found[0], found[1], found[2]


def _parity(grid: Grid, axis: str, side: str, field: str) -> float:
    """Sign of a field's image in a wall; a mixed condition dw/dn + a w = 0 counts as what it is nearer to."""
    condition = grid.condition(axis, side, field)
    if isinstance(condition, Robin):
        coefficient = condition.coefficient if isinstance(condition.coefficient, float) else 0.0
        return -1.0 if 0.5 * coefficient * grid.spacing[grid.axes.index(axis)] > 1.0 else 1.0
    return condition.factor


def symbols(coefficients: Mapping[tuple[int, int, Offset], float], bases: Sequence[Bases], grid: Grid) -> Table:
    """Symbols of constant stencils, as far as they are diagonal in the modes of the fields.

    Parameters
    ----------
    coefficients : (force of, field, offset) -> L_ab[o]
    bases : by field
    """
    stencils: dict[tuple[int, int], dict[Offset, float]] = {}
    for (a, b, offset), coefficient in coefficients.items():
        if a <= b and bases[a] == bases[b]:
            stencils.setdefault((a, b), {})[offset] = coefficient
    walled = [axis in grid.walls for axis in AXES]
    table = {}
    for (a, b), stencil in stencils.items():
        even = mirrored(stencil, walled)
        if even:
            angles = angles_of(bases[a])
            table[a, b] = symbol(even, angles, hermitian=a == b)
    return table


def angles_of(bases: Bases) -> list[np.ndarray]:
    """theta of each mode along each axis, shaped to broadcast."""
    transform = Transform(bases, np.float64, 1)
    return list(np.ix_(*(transform.frequencies(axis) for axis in range(3))))


def mirrored(stencil: Mapping[Offset, float], walled: Sequence[bool]) -> dict[Offset, float]:
    """The part of a stencil that is even along the walled axes."""
    flips = list(itertools.product(*((1, -1) if wall else (1,) for wall in walled)))
    even: dict[Offset, float] = {}
    for offset, coefficient in stencil.items():
        for z, y, x in flips:
            image = (offset[0] * z, offset[1] * y, offset[2] * x)
            even[image] = even.get(image, 0.0) + coefficient / len(flips)
    largest = max(map(abs, even.values()), default=0.0)
    return {offset: coefficient for offset, coefficient in even.items() if abs(coefficient) > _ROUNDING * largest}


def symbol(stencil: Mapping[Offset, float], angles: Sequence[np.ndarray], hermitian: bool) -> np.ndarray:
    """The symbol of a stencil, real where the stencil is even (or `hermitian`, as that of a field with itself).

    Added such that y and z, where they are alike, can be exchanged to the last bit: first what is along the same axes, then what
    differs in them, the constant last.
    """
    size = math.fsum(map(abs, stencil.values()))
    total = math.fsum(stencil.values())
    real: dict[tuple[bool, ...], np.ndarray] = {}
    imaginary: np.ndarray = np.zeros(())
    pairs = {max(offset, (-offset[0], -offset[1], -offset[2])) for offset in stencil}
    for offset in sorted(pairs, key=lambda o: (sum(step != 0 for step in o), o)):
        opposite = (-offset[0], -offset[1], -offset[2])
        ahead, behind = stencil.get(offset, 0.0), stencil.get(opposite, 0.0)
        if offset == opposite:
            continue
        phase = sum((step * angle for step, angle in zip(offset, angles, strict=True) if step), np.zeros(()))
        axes = tuple(step != 0 for step in offset)
        real[axes] = real.get(axes, np.zeros(())) - 2.0 * (ahead + behind) * np.sin(0.5 * phase) ** 2
        if not hermitian and abs(ahead - behind) > _ROUNDING * size:
            imaginary = imaginary + (ahead - behind) * np.sin(phase)
    alike: dict[tuple[int, bool], np.ndarray] = {}
    for axes, part in real.items():
        kind = sum(axes), axes[2]
        alike[kind] = alike.get(kind, np.zeros(())) + part
    even = sum(alike.values(), np.zeros(())) + (total if abs(total) > _ROUNDING * size else 0.0)
    return even if imaginary.ndim == 0 else even + 1j * imaginary
