"""The frozen dispersion relation: growth of short waves on the background of a state.

The force is linearised about the state, its coefficients are frozen at sample cells (up to 64 evenly spread, and those where a
field or source is extreme) one after the other, and the symbol

    L_ab(theta) = sum_o L_ab[o] e^{i o theta},      theta = k h,

of the resulting constant stencil is diagonalised: Hermitian part, real eigenvalues lambda. With eps w_tautau + w_tau = lambda w
a mode grows where lambda > 0. Growth that rises without bound as the grid is refined belongs to the theory, not to the grid: the
theory is ill-posed there (wrong-sign stiffness, such as that of the truncated toy networks for k > 1/a).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.algebra import Leaf, Node, Symbol, evaluate
from sftsolve.codegen.plan import Discrete, discretised
from sftsolve.codegen.stencils import Edge, Offset, Tap, inverse_spacing
from sftsolve.codegen.terms import stencil
from sftsolve.grid import AXES, Grid

_CELLS = 64  # evenly spread cells at which coefficients are frozen
_ANGLES = {1: 17, 2: 9, 3: 5}  # wavenumbers per axis from zero to the grid's cutoff, by dimension
_UNBOUNDED = 1.5  # growth by more than this at half the spacing counts as unbounded; a bounded rate keeps its value


@dataclass(frozen=True)
class Dispersion:
    """Largest eigenvalue of the frozen symbols.

    Attributes
    ----------
    growth : largest lambda on the grid, at half and at a quarter of its spacing (per unit of tau; negative: all modes decay)
    wavenumber : where the first lies, per axis, in units of inverse length
    decay : most negative lambda on the grid, the stiffness of the local force
    """

    growth: tuple[float, float, float]
    wavenumber: tuple[float, ...]
    decay: float

    @property
    def well_posed(self) -> bool:
        """Whether growth stays bounded as the grid is refined, as far as a quarter of its spacing tells."""
        _, half, quarter = self.growth
        return quarter <= 1e-9 * abs(self.decay) or quarter <= _UNBOUNDED * max(half, 0.0)


def dispersion(action: Action, grid: Grid, w: np.ndarray, order: int = 2, t: float = 0.0) -> Dispersion | None:
    """Frozen dispersion relation of the local cost about the fields w (field, *shape); None where its force holds no field.

    Raises
    ------
    ActionError, GridError : as `discretise`
    """
    found = discretised(action, grid, order)
    if found is None:
        return None
    table = stencil(found.variation.force())
    if not table:
        return None
    background = _Background(found, action, grid, w, t)
    rates = [_extremes(table, background, grid, refinement) for refinement in (1, 2, 4)]
    top, angles, bottom = rates[0]
    wavenumber = tuple(float(angle) / h for angle, h in zip(angles, grid.spacing, strict=True))
    return Dispersion((top, rates[1][0], rates[2][0]), wavenumber, bottom)


_Stencil = dict[tuple[int, int, Offset], Node]


class _Background(Mapping[Any, Any]):
    """Values of the leaves at sample cells: fields and sources frozen there, slopes of the fields as they are."""

    def __init__(self, found: Discrete, action: Action, grid: Grid, w: np.ndarray, t: float):
        size, names = grid.size, found.names.arrays
        sources = action.bound_sources(grid, t)
        arrays = [np.broadcast_to(grid.mesh[name], grid.shape) if name in grid.axes else np.empty(grid.shape) for name in names]
        for name, values in zip(names, arrays, strict=True):
            if name not in grid.axes:
                sources.write(name, values)
        # Evenly strided cells, and those of the extreme values, where a small patch of the wrong sign would lie.
        strided = np.linspace(0, size - 1, min(size, _CELLS)).astype(np.int64)
        extreme = [index for values in (*w, *arrays) for index in (np.argmin(values), np.argmax(values))]
        self.cells = np.unique(np.concatenate([strided, np.array(extreme, np.int64)]))
        self._index = _indices(self.cells, grid.shape)
        self._w = w
        self._fields = [field[self._index] for field in w]
        self._arrays = [array[self._index] for array in arrays]
        moving = dict(zip(sources.scalar_names, sources.scalars(t), strict=True))
        self._scalars = {"t": t, **action.parameters, **moving}
        self._grid = grid
        self.refinement = 1

    def _spacing(self, axis: str) -> float:
        return self._grid.spacing[self._grid.axes.index(axis)] / self.refinement

    def _slope(self, field: int, axis: str) -> np.ndarray:
        """Rise of a field over one cell of the grid at the sample cells: central, one-sided at the ends."""
        number = self._grid.axes.index(axis)
        here = self._index[number]
        ends = [np.clip(here + by, 0, self._grid.shape[number] - 1) for by in (-1, 1)]
        lower, upper = (self._w[field][(*self._index[:number], end, *self._index[number + 1 :])] for end in ends)
        return (upper - lower) / np.maximum(ends[1] - ends[0], 1)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, Tap):
            return self._fields[key.index] if key.kind == "w" else self._arrays[key.index]
        if isinstance(key, Edge):
            return self._slope(key.index, key.axis) * key.span / self.refinement
        name = key.name if isinstance(key, Symbol) else key
        for axis in self._grid.axes:
            if name == inverse_spacing(axis).name:
                return 1.0 / self._spacing(axis)
        return self._scalars[name]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (Leaf, str))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._scalars)

    def __len__(self) -> int:
        return len(self._scalars)


def _indices(cells: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Index arrays, one an axis, of cells numbered in C order."""
    found = []
    for n in reversed(shape):
        cells, place = np.divmod(cells, n)
        found.append(place)
    return tuple(reversed(found))


def _extremes(
    coefficients: _Stencil, background: _Background, grid: Grid, refinement: int
) -> tuple[float, tuple[float, ...], float]:
    """(largest eigenvalue, its angles per axis, smallest) over sample cells and wavenumbers at a refined spacing."""
    background.refinement = refinement
    count = 1 + max(max(a, b) for a, b, _ in coefficients)
    with np.errstate(all="ignore"):
        rows = [np.broadcast_to(evaluate(node, background), background.cells.shape) for node in coefficients.values()]
    table = np.unique(np.nan_to_num(np.stack(rows)), axis=1)  # cells with the same coefficients count once
    values, cells = dict(zip(coefficients, table, strict=True)), table.shape[1]
    half = np.linspace(0.0, np.pi, _ANGLES[grid.dimension])
    axes = [half if number == 0 else np.concatenate([-half[:0:-1], half]) for number in range(grid.dimension)]
    top, bottom, where = -np.inf, np.inf, (0.0,) * grid.dimension
    for angles in itertools.product(*axes):
        theta = dict(zip(grid.axes, angles, strict=True))
        symbol = np.zeros((cells, count, count), complex)
        for (a, b, offset), coefficient in values.items():
            phase = sum(o * theta.get(axis, 0.0) for axis, o in zip(AXES, offset, strict=True))
            symbol[:, a, b] += coefficient * np.exp(1j * phase)
        eigenvalues = np.linalg.eigvalsh(0.5 * (symbol + symbol.conj().transpose(0, 2, 1)))
        if eigenvalues.max() > top:
            top, where = float(eigenvalues.max()), angles
        bottom = min(bottom, float(eigenvalues.min()))
    return top, where, bottom
