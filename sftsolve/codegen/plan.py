"""From an action and a grid's kind to the text of a module: everything that decides what is compiled, nothing else.

Names of fields and sources, the forms of sources that move, the density, the order, the axes and the kind of condition on each
face go in; values of parameters, sources, wall data, sizes and spacings are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sftsolve.action import Action
from sftsolve.algebra import ONE, ZERO, Node, Number, Symbol, leaves, multiply, substitute
from sftsolve.codegen import cache, marching, mirrors, terms, vectors, walls, wide
from sftsolve.codegen.module import Module, layer_tap
from sftsolve.codegen.scheme import scheme
from sftsolve.codegen.stencils import Offset, inverse_spacing
from sftsolve.grid import AXES, SIDES, Grid
from sftsolve.sources import TIME, Form, rate_of, slope


@dataclass(frozen=True)
class Plan:
    """What the generated module of an action on a kind of grid holds.

    Attributes
    ----------
    text : the module
    names : fields and arrays in the order of the arguments w and s
    scalars : names of the argument p
    data : wall data among the scalars, by name
    halo : ghost cells that the kernels read
    reach : cells next to a wall whose force needs the folded form; zero where filled ghosts suffice
    faces : (axis, side) with a boundary energy, and the wall data that it takes as arrays along the face
    layers : of order 4, number of layers of cells at each face that have energies of their own; 0 for energies of the face
    wide : names of the sweeps that exist in explicit vectors, those of `marching` among them
    rounds : those of the sweeps of forces in vectors that need no ghosts to be filled where all axes are periodic
    least : extents (z, y, x) of the smallest box that these take
    force_reach : how many cells away from a cell its force reads
    time_dependent : whether the density holds the time itself, or a source that moves
    notes : natural conditions, in words
    powers : names of the functions that make up the power dC/dt of what changes in time by itself, see `_write_power`; None where
        it is not known
    """

    text: str
    names: terms.Names
    scalars: tuple[str, ...]
    data: dict[str, walls.Datum]
    halo: int
    reach: int
    faces: dict[tuple[str, str], tuple[walls.Datum, ...]]
    layers: int
    wide: frozenset[str]
    rounds: frozenset[str]
    least: tuple[int, int, int]
    force_reach: int
    time_dependent: bool = False
    notes: tuple[str, ...] = field(default=())
    powers: frozenset[str] | None = frozenset()

    @property
    def drifting(self) -> bool:
        """Whether the cost moves within pieces of time: mini-batches do not move it, and all that does has a power."""
        return self.time_dependent and (self.powers is None or "power" in self.powers)

    def traffic(self, cells: int, itemsize: int) -> int:
        """Bytes that one evaluation of the force moves: fields and arrays read, forces written, each once."""
        return (2 * len(self.names.fields) + len(self.names.arrays)) * cells * itemsize


@dataclass(frozen=True)
class Discrete:
    """An action's local cost brought onto a kind of grid, as trees.

    Attributes
    ----------
    density : the density, integrated by parts where walls ask for it
    names : fields and arrays
    scalars : what the generated code takes as numbers, besides parameters and wall data
    time_dependent : whether the density holds the time itself, or a source that moves
    conditions : what its walls add
    variation : discrete cost and force
    """

    density: Node
    names: terms.Names
    scalars: tuple[str, ...]
    time_dependent: bool
    conditions: walls.Walls
    variation: terms.Variation


def discretised(action: Action, grid: Grid, order: int, density: Node | None = None) -> Discrete | None:
    """The discrete local cost of an action on a grid, or of a part of its density; None where it vanishes.

    Raises
    ------
    ActionError : an order or a combination of density and walls that has no discretisation of full order
    """
    stencils = scheme(order)
    forms = action.forms(grid)
    typed = action.density(grid.axes) if density is None else density
    movers = {name for name in forms if name in _symbols(typed)}
    density = substitute(typed, {Symbol(name): form.tree for name, form in forms.items()})
    high = order > 2 and bool(grid.walls)
    density = density if high else terms.integrate_by_parts(density, grid.walls)
    if density == ZERO:
        return None
    hidden = [array for form in forms.values() for array in form.arrays]
    arrays = tuple(sorted({*action.sources, *hidden, *grid.axes} & _symbols(density)))
    names = terms.Names(action.fields, arrays)
    conditions = mirrors.analyse(density, names, grid, stencils) if high else walls.analyse(density, names, grid)
    scalars = ("t", *(scalar for form in forms.values() for scalar in form.scalars))
    variation = terms.Variation(terms.split(density), names, stencils)
    return Discrete(density, names, scalars, bool(movers) or "t" in _symbols(typed), conditions, variation)


_PLANS: dict[tuple[object, ...], Plan | None] = {}
_MOST_PLANS = 256


def plan(action: Action, grid: Grid, order: int = 2, real: str = "float64", density: Node | None = None) -> Plan | None:
    """What to generate for an action (or a part of its density) on a grid; None where that vanishes.

    A scan over values makes each plan once, and the next process finds it on disk.

    Raises
    ------
    ActionError : see `discretised`
    """
    given = tuple(action.parameters), tuple(action.sources), tuple(sorted(action.forms(grid).items(), key=_first))
    cost = action.cost if density is None else density
    key = (cost, action.fields, given, grid.axes, roles(grid, action.fields), order, real, vectors.lanes(real))
    if key not in _PLANS:
        if len(_PLANS) >= _MOST_PLANS:
            _PLANS.clear()
        # Trees in a key have no text that is sure to tell all of them: such plans are made anew by every process.
        kept = None if density is not None or action.forms(grid) else f"plan {key!r}"
        found = None if kept is None else cache.recall(kept)
        if not isinstance(found, Plan):
            discrete = discretised(action, grid, order, density)
            found = None if discrete is None else _write(discrete, action, grid, order, real)
            if kept is not None and found is not None:
                cache.keep(kept, found)
        _PLANS[key] = found
    return _PLANS[key]


def _write(found: Discrete, action: Action, grid: Grid, order: int, real: str) -> Plan:
    """The module of a discrete cost."""
    names, conditions, variation = found.names, found.conditions, found.variation
    by_cell = variation.force_by_cell()
    forces, cost = variation.force(), variation.cost()
    directions = [terms.linearise(node) for node in forces]
    rates = _rates(found)
    scalars = (
        *(inverse_spacing(axis).name for axis in AXES if axis in grid.axes),
        *sorted({*found.scalars, *action.parameters, *conditions.scalars, *_scalar_rates(rates, conditions)}),
    )
    reach = 0 if conditions.mirrored else _slot_radius(by_cell)
    module = Module(
        scalars,
        real,
        action=found.density.text,
        order=str(order),
        arrays=", ".join(names.arrays),
        fields=", ".join(action.fields),
    )
    sweeps = {"force": ("w, s, p", forces), "jvp": ("w, d, s, p", directions)}
    span = terms.radius(forces)
    jam = wide.JAM[grid.dimension]
    widened = {name for name, (_, nodes) in sweeps.items() if vectors.lanes(real) and wide.widens(nodes)}
    rounded = set()
    for name, (arguments, nodes) in sweeps.items():
        bends = [terms.bent(node) for node in nodes]
        module.sweep(name, arguments, bends, planes=2 if name == "force" and grid.dimension == 3 else 1)
        if name in widened and wide.sweep(module, name, arguments, bends, jam):
            rounded.add(name)
        if name in widened and name == "force" and not reach and not conditions.layers:
            widened |= _write_steps(module, bends, grid, span)
    module.total("cost", "w, s, p", cost)
    if vectors.lanes(real) and wide.widens([cost]):
        widened.add("cost")
        wide.total(module, "cost", "w, s, p", cost)
    if reach:
        walled = [axis in grid.walls for axis in AXES]
        module.fold("fold_force", "w, s, p", by_cell, walled)
        module.fold("fold_jvp", "w, d, s, p", [_linear(cells) for cells in by_cell], walled)
    faces, powers = _write_faces(module, found, rates)
    powers = _write_power(module, cost, rates, powers, _has_data(grid, action.fields) and not conditions.layers)
    halo = max(terms.radius([*forces, *directions, cost]), _slot_radius(by_cell))
    notes = tuple(conditions.notes)
    least = (1 + jam[0], 1 + jam[1], vectors.lanes(real))
    moves = found.time_dependent
    widths = frozenset(widened)
    layers = max(map(len, conditions.layers.values()), default=0)
    data, rounds = conditions.scalars, frozenset(rounded)
    return Plan(module.text, names, scalars, data, halo, reach, faces, layers, widths, rounds, least, span, moves, notes, powers)


def _write_steps(module: Module, forces: list[Node], grid: Grid, reach: int) -> set[str]:
    """Sweeps that change the fields by forces that filled ghosts suffice for; their names."""
    marching.flow(module, forces, grid.dimension)
    if grid.dimension == 1:
        return {"flow"}
    marching.swing(module, forces, grid.dimension, reach)
    if grid.dimension == 3 or grid.walls:
        return {"flow", "swing"}
    marching.march(module, forces)
    return {"flow", "swing", "march"}


def _rates(found: Discrete) -> dict[Symbol, Node]:
    """Derivatives by time of all that may move by itself: the time, hidden scalars, wall data."""
    moving = [name for name in found.scalars if name != "t"] if found.time_dependent else []
    data = [*found.conditions.scalars, *found.conditions.arrays]
    rates: dict[Symbol, Node] = {Symbol(name): rate_of(name) for name in (*moving, *data)}
    return rates | ({TIME: ONE} if found.time_dependent else {})


def _scalar_rates(rates: dict[Symbol, Node], conditions: walls.Walls) -> set[str]:
    """Names of the rates that are numbers: those of data along a face are arrays."""
    return {rate.name for moving, rate in rates.items() if isinstance(rate, Symbol) and moving.name not in conditions.arrays}


def _has_data(grid: Grid, fields: tuple[str, ...]) -> bool:
    """Whether ghosts take data, which may change in time."""
    return any(walls.Datum(axis, side, name).role(grid) != "zero" for axis in grid.walls for side in SIDES for name in fields)


def _write_power(
    module: Module, cost: Node, rates: dict[Symbol, Node], faces: frozenset[str] | None, ghosts: bool
) -> frozenset[str] | None:
    """The functions that make up dC/dt with fields held fixed: their names, None where a derivative is not known.

        dC/dt = h^d sum_i ( sum_p dc_i/dp p_t  +  sum_g dc_i/dw_g w_g,t )  +  the same of the energies of faces

    ``power``: what moving scalars p do, those of sources and the time itself; ``slope``: what moving ghosts w_g do, given their
    rates as a direction; ``face_..._power``, of `faces`.
    """
    power = slope(cost, rates)
    if power is None or faces is None:
        return None
    found = set(faces)
    if power != ZERO:
        module.total("power", "w, s, p", power)
        found.add("power")
    if ghosts:
        module.total("slope", "w, d, s, p", terms.linearise(cost))
        found.add("slope")
    return frozenset(found)


def _write_faces(
    module: Module, found: Discrete, rates: dict[Symbol, Node]
) -> tuple[dict[tuple[str, str], tuple[walls.Datum, ...]], frozenset[str] | None]:
    """Functions of every face that has energies, ``face_AXIS_SIDE`` or one a layer.

    Returns
    -------
    The arrays of data that they take, by face; and the names of those whose power in time there is, None if one is not known.
    """
    names, conditions = found.names, found.conditions
    surface = terms.Variation((), names, found.variation.scheme)
    faces: dict[tuple[str, str], tuple[walls.Datum, ...]] = {}
    known: dict[str, bool] = {}
    for axis, side in sorted({*conditions.energies, *conditions.layers}):
        name, inverse = f"face_{axis}_{side}", inverse_spacing(axis).name
        data = [key for key, datum in sorted(conditions.arrays.items()) if (datum.axis, datum.side) == (axis, side)]
        faces[axis, side] = tuple(conditions.arrays[key] for key in data)
        for layer, energy in enumerate(conditions.layers.get((axis, side), ())):
            known[f"{name}_{layer}"] = module.face(f"{name}_{layer}", energy, surface, {}, inverse, data, layer_tap(layer), rates)
        if (axis, side) in conditions.energies:
            steps = {field: _half_step(conditions, axis, side, field) for field in names.fields}
            half = {field: step for field, step in steps.items() if step is not None}
            known[name] = module.face(name, conditions.energies[axis, side], surface, half, inverse, data, rates=rates)
    return faces, frozenset(known) if all(known.values()) else (None if rates else frozenset())


def _first(pair: tuple[str, Form]) -> str:
    return pair[0]


def _symbols(density: Node) -> set[str]:
    """Names in a density, also inside composite derivatives."""
    found: set[str] = set()
    for leaf in leaves(density):
        inner = getattr(leaf, "function", None)
        found |= _symbols(inner) if inner is not None else {leaf.name} if isinstance(leaf, Symbol) else set()
    return found


def _linear(cells: dict[Offset, Node]) -> dict[Offset, Node]:
    return {offset: node for offset, part in cells.items() if (node := terms.linearise(part)) != Number(0.0)}


def _slot_radius(by_cell: list[dict[Offset, Node]]) -> int:
    return max((abs(c) for cells in by_cell for offset in cells for c in offset), default=0)


def _half_step(conditions: walls.Walls, axis: str, side: str, name: str) -> Node | None:
    """g h / 2: from the outermost cell to the wall, for a field with a derivative condition."""
    if conditions.kinds[axis, side, name] != "derivative":
        return None
    symbol = walls.Datum(axis, side, name).symbol
    if symbol.name not in conditions.scalars and symbol.name not in conditions.arrays:
        return None
    return multiply(0.5, symbol, inverse_spacing(axis) ** -1)


def roles(grid: Grid, fields: tuple[str, ...]) -> tuple[object, ...]:
    """What of a grid's conditions decides on the code: their kinds, and how their data enter."""
    found: list[object] = []
    for axis in grid.walls:
        for side in SIDES:
            for name in fields:
                condition = grid.condition(axis, side, name)
                parts = [part for part in ("data", "coefficient") if hasattr(condition, part)]
                data = [walls.Datum(axis, side, name, part) for part in parts]
                found.append((axis, side, name, condition.key, *((datum.role(grid), datum.moves(grid)) for datum in data)))
    return tuple(found)
