"""What walls impose, at one moment: ghosts of the fields, and the data that boundary energies take.

Data that are the same along a face are one number a face; data that vary along it are arrays of its shape, extended by the
halo for the corners. Everything that depends on time is evaluated anew when another time is asked for, on faces alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from sftsolve.algebra import ONE, Node, Symbol, differentiate, evaluate
from sftsolve.boundary import WallArray, WallExpression, role
from sftsolve.codegen.mirrors import LEAST
from sftsolve.codegen.walls import Datum
from sftsolve.errors import GridError
from sftsolve.expression import Names, parse
from sftsolve.friction import Clock
from sftsolve.grid import AXES, SIDES, Grid
from sftsolve.loops import ghosts
from sftsolve.parallel import slabs
from sftsolve.sources import TIME, function_of_time, slope
from sftsolve.state import Layout, State

Values = Callable[[float], "np.ndarray | float"]


class WallData:
    """The walls of a grid as states of some fields see them.

    Parameters
    ----------
    grid, layout, fields : whose ghosts are filled
    parameters : what expressions may name
    scalars : data that compiled code takes as numbers, by name
    faces : data that it takes as arrays, by (axis, side)
    layers : whether the data are in energies of layers of cells (order 4), so that ghosts mirror without them
    clock : gives gamma(t) and the order of the equation in time, for rates of the data
    derivative : whether everything is to be the derivative by time of these data, NaN where it is not known

    Attributes
    ----------
    time_dependent : whether any data depend on time
    scalars : values by name at the moment at hand
    faces : arrays (datum, z, y, x) by (axis, side), one cell thick

    Raises
    ------
    GridError : data that are not finite, expressions with unknown names, too few cells for order 4
    """

    def __init__(
        self,
        grid: Grid,
        layout: Layout,
        fields: Sequence[str],
        parameters: Mapping[str, float],
        scalars: Mapping[str, Datum],
        faces: Mapping[tuple[str, str], Sequence[Datum]],
        layers: int = 0,
        clock: Clock | None = None,
        derivative: bool = False,
    ):
        self._given = grid, layout, fields, parameters, scalars, faces, layers, clock
        self._clock, self._bare, self._derivative = clock, layers > 0, derivative
        if layers and any(grid.shape[grid.axes.index(axis)] < LEAST for axis in grid.walls):
            expected = f"at least {LEAST} cells along {', '.join(grid.walls)}"
            raise GridError("the grid is too small for walls of order 4", expected=expected, given=grid.shape)
        self._grid, self._layout, self._fields, self._parameters = grid, layout, tuple(fields), dict(parameters)
        self._moving: list[tuple[Callable[[float | np.ndarray], None], Values, Datum]] = []
        self._t = 0.0
        self._make_ghosts()
        self.scalars = dict.fromkeys(scalars, 0.0)
        for name, datum in scalars.items():
            self._put(datum, lambda value, name=name: self.scalars.__setitem__(name, value), 0)  # type: ignore[misc]
        self.faces: dict[tuple[str, str], np.ndarray] = {}
        for (axis, side), data in faces.items():
            extents = tuple(1 if name == axis else n for name, n in zip(AXES, layout.shape, strict=True))
            array = self.faces[axis, side] = np.zeros((max(1, len(data)), *extents))
            for number, datum in enumerate(data):
                self._put(datum, _setter(array[number]), 0)

    @property
    def time_dependent(self) -> bool:
        return bool(self._moving)

    @cached_property
    def rates(self) -> WallData:
        """The derivatives of these data by time, which fill the ghosts of a field of zeros with the rates of ghosts."""
        return WallData(*self._given, derivative=True)

    def at(self, t: float) -> None:
        """Bring everything to time t."""
        if self._moving and t != self._t:
            with np.errstate(all="ignore"):
                for put, values, _ in self._moving:
                    put(values(t))
        self._t = t

    def fill(self, state: State, t: float, columns: bool = True) -> None:
        """Ghosts of a state at time t; without `columns` those along a periodic x are known already."""
        if any(self._layout.halo):
            self.at(t)
            if self._shifts is None:
                self._fill(state.storage, *self._geometry, self._table, columns)
            else:
                self._fill_data(state.storage, *self._geometry, self._table, *self._shifts)

    def fill_still(self, direction: State) -> None:
        """Ghosts of a direction: those of the same conditions with zero data."""
        if any(self._layout.halo):
            self._fill(direction.storage, *self._geometry, self._still, True)

    def check(self, t: float) -> None:
        """Refuse data that are not finite at time t."""
        with np.errstate(all="ignore"):
            for _, values, datum in self._moving:
                self._check(datum, values(t), t)

    def _make_ghosts(self) -> None:
        """The table (field, axis, side, 2 + halo): is a wall, factor, shift of each ghost; and arrays where shifts vary."""
        layout, grid = self._layout, self._grid
        parallel = slabs(grid.size) > 1
        self._geometry = tuple(np.array(part, np.int64) for part in (layout.offset, layout.shape, layout.halo))
        self._fill: Callable[..., None] = ghosts.fill_threads if parallel else ghosts.fill
        self._fill_data: Callable[..., None] = ghosts.fill_data_threads if parallel else ghosts.fill_data
        self._halo = max(layout.halo)
        self._table = np.zeros((len(self._fields), 3, 2, 2 + max(self._halo, 1)))
        data = [Datum(axis, side, name) for axis in grid.walls for side in SIDES for name in self._fields]
        for datum in data:
            place = self._place(datum)
            self._table[place][:2] = 1.0, grid.condition(datum.axis, datum.side, datum.field).factor
        self._still = self._table.copy()
        data = [] if self._bare else data
        varying = any(role(datum.of(grid), datum.axis) == "face" for datum in data)
        self._shifts = self._shift_arrays() if varying else None
        for datum in data if self._halo else ():
            self._put(datum, self._shifter(datum), self._halo)

    def _place(self, datum: Datum) -> tuple[int, int, int]:
        return self._fields.index(datum.field), AXES.index(datum.axis), SIDES.index(datum.side)

    def _shift_arrays(self) -> tuple[np.ndarray, ...]:
        """One array an axis, (field, side, ghost, z, y, x) with the halo, one cell thick along the axis."""
        found = []
        for number in range(3):
            extents = [n + 2 * h for n, h in zip(self._layout.shape, self._layout.halo, strict=True)]
            extents[number] = 1
            walled = AXES[number] in self._grid.walls
            found.append(np.zeros((len(self._fields), 2, self._halo, *(extents if walled else (1, 1, 1)))))
        return tuple(found)

    def _shifter(self, datum: Datum) -> Callable[[float | np.ndarray], None]:
        """What writes the data of a face to its ghosts' shifts."""
        condition = self._grid.condition(datum.axis, datum.side, datum.field)
        spacing = self._grid.spacing[self._grid.axes.index(datum.axis)]
        field, axis, side = self._place(datum)
        lifts = np.array([condition.lift(m, spacing) for m in range(1, self._halo + 1)])
        if self._shifts is None:
            row = self._table[field, axis, side, 2:]
            return lambda value: np.multiply(lifts, value, out=row)
        array = self._shifts[axis][field, side]
        return lambda value: np.multiply(lifts[:, None, None, None], value, out=array)

    def _put(self, datum: Datum, put: Callable[[float | np.ndarray], None], halo: int) -> None:
        """Let `put` have a datum's values now, and again whenever they change."""
        values, moves = self._values(datum, halo)
        with np.errstate(all="ignore"):
            first = values(self._t)
        if moves:
            self._moving.append((put, values, datum))
        else:
            self._check(datum, first, None)
        put(first)

    def _check(self, datum: Datum, values: float | np.ndarray, t: float | None) -> None:
        if not np.isfinite(values).all():
            raise GridError(
                f"boundary data of {datum.field!r} on the {datum.side} {datum.axis} face are not finite"
                + ("" if t is None else f" at t = {t:g}"),
                expected="finite values",
                given=str(self._grid.condition(datum.axis, datum.side, datum.field).description())[:80],
            )

    def _values(self, datum: Datum, halo: int) -> tuple[Values, bool]:
        """A datum as a function of time, and whether it is no constant."""
        data, moves = datum.of(self._grid), datum.moves(self._grid)
        if datum.rate:
            return self._rate(datum, halo), True
        if self._derivative and not moves:
            return lambda t: 0.0, False
        if isinstance(data, WallArray):
            array = self._array(datum, data.values, halo)
            return lambda t: array, False
        if not isinstance(data, WallExpression):
            return lambda t: data, False
        tree = self._tree(datum, data)
        return self._function(datum, slope(tree, {TIME: ONE}) if self._derivative else tree, halo), moves

    def _rate(self, datum: Datum, halo: int) -> Values:
        """b_tt + gamma b_t, or gamma b_t where the equation is of first order in time; or the derivative of that."""
        data, clock = datum.of(self._grid), self._clock
        assert isinstance(data, WallExpression) and clock is not None
        speed = differentiate(self._tree(datum, data), TIME)
        pull = differentiate(speed, TIME)
        first, second = self._function(datum, speed, halo), self._function(datum, pull, halo)
        if not self._derivative:
            if clock.damped:
                return lambda t: second(t) + clock.gamma_at(t) * first(t)
            return lambda t: clock.gamma_at(t) * first(t)

        def of_friction(t: float) -> float | np.ndarray:
            # d gamma/dt = -gamma^2 d eta/dt
            return clock.gamma_at(t) * second(t) - clock.gamma_at(t) ** 2 * clock.eta_slope(t) * first(t)

        third = self._function(datum, slope(pull, {TIME: ONE}), halo)
        return (lambda t: third(t) + of_friction(t)) if clock.damped else of_friction

    def _function(self, datum: Datum, tree: Node | None, halo: int) -> Values:
        """A tree on a face as a function of time; NaN where there is none."""
        if tree is None:
            return lambda t: math.nan
        number = self._grid.axes.index(datum.axis)
        wall = self._grid.origin[number] + (self._grid.length[number] if datum.side == "upper" else 0.0)
        if role(datum.of(self._grid), datum.axis) == "scalar":
            with np.errstate(all="ignore"):
                return function_of_time(tree, {**self._parameters, datum.axis: wall})
        known = {**self._mesh(datum.axis, halo), **self._parameters, datum.axis: wall}
        shape = np.broadcast_shapes(*(np.shape(points) for points in known.values()))

        def values(t: float) -> np.ndarray:
            return np.broadcast_to(np.asarray(evaluate(tree, {**known, "t": t}), float), shape)

        return values

    def _tree(self, datum: Datum, data: WallExpression) -> Node:
        """An expression on its face, differentiated."""
        names = Names(values=[*self._grid.axes, "t", *self._parameters])
        tree = parse(data.text, names, f"the {datum.part} of {datum.field!r} on the {datum.side} {datum.axis} face")
        for axis in datum.along:
            tree = differentiate(tree, Symbol(axis))
        return tree

    def _mesh(self, normal: str, halo: int) -> dict[str, np.ndarray]:
        """Coordinates along a face, beyond its ends by the halo (on periodic axes round them), shaped (z, y, x)."""
        found: dict[str, np.ndarray] = {}
        for name, n, start, h in zip(self._grid.axes, self._grid.shape, self._grid.origin, self._grid.spacing, strict=True):
            if name != normal:
                cells = np.arange(-halo, n + halo)
                cells = cells % n if self._grid.periodic(name) else cells
                shape = [-1 if other == name else 1 for other in AXES]
                found[name] = (start + (cells + 0.5) * h).reshape(shape)
        return found

    def _array(self, datum: Datum, values: np.ndarray, halo: int) -> np.ndarray:
        """An array along a face, differentiated by central differences and extended, shaped (z, y, x)."""
        grid = self._grid
        axes = [name for name in grid.axes if name != datum.axis]
        for axis in datum.along:
            values = _slope(values, axes.index(axis), grid.spacing[grid.axes.index(axis)], grid.periodic(axis))
        for number, axis in enumerate(axes):
            values = _extended(values, number, halo, grid.periodic(axis))
        return values.reshape([values.shape[axes.index(name)] if name in axes else 1 for name in AXES])


def _setter(target: np.ndarray) -> Callable[[float | np.ndarray], None]:
    def put(value: float | np.ndarray) -> None:
        target[...] = value

    return put


def _extended(values: np.ndarray, axis: int, halo: int, periodic: bool) -> np.ndarray:
    """Cells beyond both ends: round the axis, or on straight lines."""
    if not halo:
        return values
    pads = [(halo, halo) if number == axis else (0, 0) for number in range(values.ndim)]
    if periodic or values.shape[axis] < 2:
        return np.pad(values, pads, mode="wrap" if periodic else "edge")
    return np.pad(values, pads, mode="reflect", reflect_type="odd")


def _slope(values: np.ndarray, axis: int, spacing: float, periodic: bool) -> np.ndarray:
    """First derivative along an axis of a face, of second order."""
    if periodic:
        return (np.roll(values, -1, axis) - np.roll(values, 1, axis)) / (2 * spacing)
    if values.shape[axis] < 2:
        return np.zeros_like(values)
    return np.gradient(values, spacing, axis=axis, edge_order=2 if values.shape[axis] > 2 else 1)
