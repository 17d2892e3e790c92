"""What walls add to the discrete cost, so that the natural condition of its variation is the condition that was asked for.

On a face with outward normal n the variation of C leaves the momentum p_a = n dc/d(w_a,n) at every field a that is free
there (a derivative condition dw_a/dn = g_a). The sum over cells alone makes p_a vanish. A boundary energy B with

    dB/dw_a = -p_a(known data)

restores dw_a/dn = g_a wherever p_a is known there: from g, from the values of Dirichlet fields, from sources (extrapolated
to the wall, (3 S_0 - S_1)/2, with their slopes there) and from w_a itself. What is left over, momenta that hold other free
fields, has no boundary energy; the natural condition p_a = 0 of those terms holds instead and is reported in `notes`.

Extrapolated, the stiffness H of a mixed condition, p_a = H dw_a/dn, could be negative where the sources are rough, and the wall
would feed energy in. max(H, 0) is taken: it is H itself wherever the grid resolves a positive stiffness.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sftsolve.algebra import (
    ZERO,
    Leaf,
    Node,
    Number,
    Product,
    Symbol,
    TooManyTerms,
    add,
    call,
    differentiate,
    expand,
    leaves,
    multiply,
    power,
    split_coefficient,
    substitute,
    transform,
)
from sftsolve.boundary import Data, Robin, WallExpression, role
from sftsolve.codegen.stencils import Composite, WallSlope, inverse_spacing
from sftsolve.codegen.terms import Names, is_derivative, monomials
from sftsolve.errors import ActionError
from sftsolve.expression import Derivative
from sftsolve.grid import AXES, SIDES, Grid


@dataclass(frozen=True)
class Datum:
    """Something that a wall imposes, or a derivative of it along the face.

    Attributes
    ----------
    axis, side, field : where and on what
    part : the condition's attribute, "data" or "coefficient"
    along : axes by which it is differentiated
    rate : whether b_tt + gamma b_t is meant (gamma b_t in a theory of first order) and not b
    """

    axis: str
    side: str
    field: str
    part: str = "data"
    along: tuple[str, ...] = ()
    rate: bool = False

    @property
    def symbol(self) -> Symbol:
        """Its name in trees."""
        words = ["wall", self.axis, self.side, self.field, *([self.part] if self.part != "data" else []), *self.along]
        words += ["rate"] if self.rate else []
        return Symbol(" ".join(words))

    def of(self, grid: Grid) -> Data:
        """What the user gave, not differentiated."""
        return getattr(grid.condition(self.axis, self.side, self.field), self.part)

    def role(self, grid: Grid) -> str:
        """How it enters: "zero", "scalar" or "face" (see `boundary.role`)."""
        data = self.of(grid)
        found = role(data, self.axis)
        return "zero" if (self.along and found != "face") or (self.rate and not self.moves(grid)) else found

    def moves(self, grid: Grid) -> bool:
        """Whether it changes in time."""
        data = self.of(grid)
        return isinstance(data, WallExpression) and "t" in data.names


@dataclass
class Walls:
    """The conditions of a grid as the compiled code sees them.

    Attributes
    ----------
    energies : boundary energy per unit area for each (axis, side), where there is one
    layers : of order 4, energies of the layers of cells next to it instead, the outermost first
    scalars, arrays : what stands behind the names of data in the energies, by whether it is the same along the face
    kinds : the key of the condition of each (axis, side, field)
    mirrored : whether the interior kernel with filled ghosts is already the exact gradient
    notes : natural conditions that replace the ones asked for, in words
    """

    energies: dict[tuple[str, str], Node] = field(default_factory=dict)
    layers: dict[tuple[str, str], tuple[Node, ...]] = field(default_factory=dict)
    scalars: dict[str, Datum] = field(default_factory=dict)
    arrays: dict[str, Datum] = field(default_factory=dict)
    kinds: dict[tuple[str, str, str], str] = field(default_factory=dict)
    mirrored: bool = True
    notes: list[str] = field(default_factory=list)

    def symbol(self, datum: Datum, grid: Grid) -> Node:
        """A datum as an argument of the compiled code; zero is a role of its own."""
        found = datum.role(grid)
        if found == "zero":
            return ZERO
        (self.scalars if found == "scalar" else self.arrays)[datum.symbol.name] = datum
        return datum.symbol


def analyse(density: Node, names: Names, grid: Grid) -> Walls:
    """Boundary energies of a density (after `integrate_by_parts`) on the walled faces of a grid.

    Raises
    ------
    ActionError : inhomogeneous data for which no exact and convergent discretisation is known
    """
    walls = Walls()
    for axis in grid.walls:
        for side in SIDES:
            _check_second_derivatives(density, names, grid, axis, side)
            _check_robin(density, names, grid, axis, side)
            walls.kinds |= {(axis, side, name): grid.condition(axis, side, name).key for name in names.fields}
            energy = _Face(density, names, grid, axis, side, walls).energy()
            if energy != ZERO:
                walls.energies[axis, side] = energy
        walls.mirrored = walls.mirrored and _mirrored(density, names, grid, axis)
    return walls


class _Face:
    """One face: the known part of every free field's momentum, integrated to an energy."""

    def __init__(self, density: Node, names: Names, grid: Grid, axis: str, side: str, walls: Walls):
        self.density = transform(density, self._spread)
        self.names, self.grid, self.axis, self.side, self.walls = names, grid, axis, side, walls
        self.outward = 1.0 if side == "upper" else -1.0
        self.conditions = {name: grid.condition(axis, side, name) for name in names.fields}

    def _spread(self, leaf: Leaf) -> Node:
        """A composite derivative as the sum over its fields and sources."""
        if not isinstance(leaf, Composite):
            return leaf
        inner = sorted((x for x in leaves(leaf.function) if isinstance(x, Symbol)), key=lambda x: x.name)
        return add(*[multiply(differentiate(leaf.function, x), Derivative(x.name, (leaf.axis,))) for x in inner])

    def energy(self) -> Node:
        parts = []
        for name, condition in self.conditions.items():
            if condition.key == "value":
                continue
            for term in self._monomials(transform(self._momentum(name), self._known)):
                unknown = [leaf for leaf in leaves(term) if self._unknown(leaf, name)]
                integral = None if unknown else _integrate(term, Symbol(name))
                if integral is not None:
                    parts.append(multiply(-1.0, integral))
                else:
                    self._leave(term, name)
            self._mixed(name)
        return add(*parts)

    def _momentum(self, name: str) -> Node:
        """n dc/d(w,n), with no negative stiffness under a mixed condition where that varies."""
        slope = Derivative(name, (self.axis,))
        momentum = differentiate(self.density, slope)
        stiffness = differentiate(momentum, slope)
        held = leaves(stiffness)
        varies = any(leaf.text in self.names.arrays for leaf in held)
        if isinstance(self.conditions[name], Robin) and varies and not any(map(self.names.is_field, held)):
            positive = multiply(0.5, add(stiffness, call("abs", stiffness)))
            momentum = add(substitute(momentum, {slope: ZERO}), multiply(positive, slope))
        return multiply(self.outward, momentum)

    def _mixed(self, name: str) -> None:
        """Note where mixed derivatives leave a momentum, -d/dy (dc/dw_xy) on an x face: no energy here restores the condition."""
        for other in (axis for axis in AXES if axis != self.axis):
            inner = differentiate(self.density, Derivative(name, (self.axis, other)))
            for term in self._monomials(transform(inner, self._known)):
                if any(is_derivative(x) or self.names.is_field(x) or x.text in self.names.arrays for x in leaves(term)):
                    self._note(f"-d({term.text}; {other})", name)

    def _monomials(self, momentum: Node) -> tuple[Node, ...]:
        try:
            return expand(momentum, lambda leaf: True)
        except TooManyTerms:
            where, remedy = f"the {self.side} {self.axis} face", 'use {"value": ...} there, or a shorter stiffness'
            raise ActionError(f"the cost has too many terms for a boundary energy on {where}", remedy=remedy) from None

    def _known(self, leaf: Leaf) -> Node:
        """Replace what the conditions tell about a leaf on this face."""
        if isinstance(leaf, Derivative) and leaf.field in self.conditions:
            condition = self.conditions[leaf.field]
            if leaf.axes == (self.axis,) and condition.key != "value":
                return multiply(self.outward, self._slope(leaf.field))
            if self.axis not in leaf.axes and condition.key == "value":
                return self._datum(leaf.field, "data", leaf.axes)
            if len(set(leaf.axes)) == 2 and self.axis in leaf.axes and condition.key == "derivative":
                along = tuple(axis for axis in leaf.axes if axis != self.axis)
                return multiply(self.outward, self._datum(leaf.field, "data", along))
        elif isinstance(leaf, Derivative) and leaf.field in AXES:
            return Number(float(leaf.axes == (leaf.field,)))
        elif isinstance(leaf, Derivative):
            source = leaf.field in self.names.arrays  # a parameter does not vary
            return multiply(self.outward, WallSlope(leaf.field, self.axis)) if source else ZERO
        if self.names.is_field(leaf) and self.conditions[leaf.text].key == "value":
            return self._datum(leaf.text)
        return leaf

    def _slope(self, name: str) -> Node:
        """dw/dn on the wall; for dw/dn + a w = b half a cell away from the value in the outermost cell."""
        condition = self.conditions[name]
        if not isinstance(condition, Robin):
            return self._datum(name)
        coefficient = self._datum(name, "coefficient")
        half = multiply(0.5, coefficient, power(inverse_spacing(self.axis), -1))
        return multiply(add(self._datum(name), multiply(-1.0, coefficient, Symbol(name))), power(add(1.0, half), -1))

    def _datum(self, name: str, part: str = "data", along: tuple[str, ...] = ()) -> Node:
        return self.walls.symbol(Datum(self.axis, self.side, name, part, along), self.grid)

    def _unknown(self, leaf: Leaf, name: str) -> bool:
        return is_derivative(leaf) or (self.names.is_field(leaf) and leaf.text != name)

    def _leave(self, term: Node, name: str) -> None:
        """No energy for this part of the momentum: refuse where data would be lost, else note the natural condition."""
        condition = self.conditions[name]
        if any(leaf.text in self.walls.scalars or leaf.text in self.walls.arrays for leaf in leaves(term)):
            raise ActionError(
                f"no exact discretisation is known for {name!r} on the {self.side} {self.axis} face with this cost",
                expected="derivative 0 there, or a stiffness that depends on sources and parameters only",
                given=f"{condition.description()} with the momentum {term.text}",
            )
        self._note(term.text, name)

    def _note(self, momentum: str, name: str) -> None:
        where = f"on the {self.side} {self.axis} face {name!r}"
        note = f"{where} takes the natural condition of the cost: its momentum holds {momentum}"
        if note not in self.walls.notes:
            self.walls.notes.append(note)


def _integrate(term: Node, variable: Symbol) -> Node | None:
    """Integral over `variable` of a monomial in it with a non-negative power; None for anything else."""
    coefficient, rest = split_coefficient(term)
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    exponent = sum(e for base, e in factors if base == variable)
    others = [power(base, e) for base, e in factors if base != variable]
    if exponent < 0 or any(variable in leaves(base) for base in others):
        return None
    return multiply(coefficient / (exponent + 1), power(variable, exponent + 1), *others)


def _check_second_derivatives(density: Node, names: Names, grid: Grid, axis: str, side: str) -> None:
    """Squares of second derivatives imply w = w'' = 0 or w' = w''' = 0 at a wall: homogeneous data only."""
    for leaf in leaves(density):
        if isinstance(leaf, Derivative) and leaf.axes == (axis, axis) and grid.condition(axis, side, leaf.field).data != 0.0:
            raise ActionError(
                f"squares of second derivatives need homogeneous data on the {side} {axis} face",
                expected="{\"value\": 0} (w = w'' = 0) or {\"derivative\": 0} (w' = w''' = 0)",
                given=f"{grid.condition(axis, side, leaf.field).description()} for field {leaf.field!r}",
            )


def _check_robin(density: Node, names: Names, grid: Grid, axis: str, side: str) -> None:
    """Ghosts of a mixed condition carry no slope: only S(x) w_a' w_b' between mixed and derivative conditions may read them."""
    mixed = [name for name in names.fields if isinstance(grid.condition(axis, side, name), Robin)]
    for term in monomials(density) if mixed else ():
        if any(leaf.field in mixed and axis in leaf.axes for leaf in leaves(term) if isinstance(leaf, Derivative)):
            keys = _pair_conditions(term, names, grid, axis, side)
            if keys is None or "value" in keys:
                raise ActionError(
                    f"the term {term.text} has no discretisation with a mixed condition on the {side} {axis} face",
                    expected="there only S(x) times two first derivatives of fields without a value condition",
                    remedy='use {"value": ...} or {"derivative": ...} on that face, or integrate the term by parts',
                )


def _pair_conditions(term: Node, names: Names, grid: Grid, axis: str, side: str) -> set[str] | None:
    """Kinds of condition of the two fields in S(x) w_a' w_b' along an axis; None for any other term."""
    derivatives = [leaf for leaf in leaves(term) if is_derivative(leaf)]
    rest = split_coefficient(term)[1]
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    pair = [base for base, exponent in factors for _ in range(exponent) if base in derivatives]
    others = [leaf for base, _ in factors if base not in derivatives for leaf in leaves(base)]
    plain = [leaf for leaf in pair if isinstance(leaf, Derivative) and leaf.axes == (axis,)]
    if len(pair) != 2 or len(plain) != 2 or any(names.is_field(leaf) or is_derivative(leaf) for leaf in others):
        return None
    return {grid.condition(axis, side, leaf.field).key for leaf in plain}


def _mirrored(density: Node, names: Names, grid: Grid, axis: str) -> bool:
    """Whether filling the ghosts makes the interior kernel exact: only S(x) w_a' w_b' between fields of one kind of condition."""
    for term in monomials(density):
        composite = any(isinstance(leaf, Composite) and leaf.axis == axis for leaf in leaves(term))
        fields = [leaf.field for leaf in leaves(term) if isinstance(leaf, Derivative) and axis in leaf.axes]
        varying = any(leaf.text in names.arrays for leaf in leaves(term))
        for side in SIDES if fields or composite else ():
            keys = _pair_conditions(term, names, grid, axis, side)
            if keys is None or len(keys) > 1 or "mixed" in keys:
                return False
            if varying and "derivative" in keys and any(grid.condition(axis, side, name).data != 0.0 for name in fields):
                return False
    return True
