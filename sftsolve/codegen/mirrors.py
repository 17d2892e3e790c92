"""Walls of order 4: plain mirrors, and what the equation tells about the field beyond a wall as energies of the cells next to it.

For c = sum_a sum_axes K_a/2 (d w_a)^2 + V(w, x) with constant K the equation holds on the wall, too, and gives the derivatives
that a mirror needs. With d = (m - 1/2) h the distance of ghost m, and n pointing outwards,

    value b:        w(-d) = -w(d) + 2 b + d^2 w_nn,             K w_nn  = b_tt + gamma b_t + V_w(b) - sum_tangential K b_ss
    derivative g:   w(-d) =  w(d) + 2 d g + (d^3/3) w_nnn,      K w_nnn = g_tt + gamma g_t + V_ww g + V_wn - sum_tangential K g_ss

(a gradient flow has no _tt). Without the data a mirror has order 2 whatever the stencil. What V_ww and V_wn hold of w is taken
in each cell at its own estimate of the wall, w + (distance) g, so that it is the gradient of an energy of that cell alone; the
mirrors without data leave the linear part diagonal in sines and cosines (discretisation rule, walls of orders 4 to 8).
"""

from __future__ import annotations

from collections.abc import Mapping

from sftsolve.algebra import (
    ZERO,
    Node,
    Product,
    Symbol,
    add,
    differentiate,
    leaves,
    multiply,
    power,
    split_coefficient,
    substitute,
)
from sftsolve.codegen.scheme import Scheme
from sftsolve.codegen.stencils import WallSlope, inverse_spacing
from sftsolve.codegen.terms import Names, is_derivative, monomials
from sftsolve.codegen.walls import Datum, Walls
from sftsolve.errors import ActionError
from sftsolve.expression import Derivative
from sftsolve.grid import AXES, SIDES, Grid

LEAST = 4  # cells across a wall that sources are extrapolated from
_REMEDY = "take order=2, which has walls for every cost, or make the axes periodic"


def analyse(density: Node, names: Names, grid: Grid, scheme: Scheme) -> Walls:
    """Energies of the two layers of cells next to each wall.

    Raises
    ------
    ActionError : another order than 4, or a cost or conditions for which no such discretisation is known
    """
    if scheme.order != 4:
        raise ActionError(
            f"walls of order {scheme.order} do not exist",
            expected="order=2 or order=4 with walls, or periodic axes",
            given=f"order={scheme.order} and walls on {', '.join(grid.walls)}",
            remedy="the next derivative beyond the wall is not known from the equation: take order=4 or order=2",
        )
    stiffness, potential = _parts(density, names, grid)
    walls = Walls()
    for axis in grid.walls:
        for side in SIDES:
            walls.kinds |= {(axis, side, name): grid.condition(axis, side, name).key for name in names.fields}
            face = _Face(stiffness, potential, names, grid, scheme, axis, side, walls)
            face.check()
            walls.layers[axis, side] = tuple(face.energy(layer) for layer in range(scheme.order // 2))
    return walls


Stiffness = Mapping[tuple[str, str], Node]


def _parts(density: Node, names: Names, grid: Grid) -> tuple[Stiffness, Node]:
    """K of every field and axis, and the potential; refuses everything else."""
    stiffness: dict[tuple[str, str], Node] = {}
    potential: list[Node] = []
    for term in monomials(density):
        if not any(is_derivative(leaf) for leaf in leaves(term)):
            potential.append(term)
            continue
        rest = split_coefficient(term)[1]
        factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
        squares = [base for base, exponent in factors if isinstance(base, Derivative) and exponent == 2 and len(base.axes) == 1]
        others = [leaf for base, _ in factors if base not in squares for leaf in leaves(base)]
        varying = [leaf for leaf in others if is_derivative(leaf) or names.is_field(leaf) or leaf.text in names.arrays]
        if len(squares) != 1 or varying:
            raise ActionError(
                f"the term {term.text} has no discretisation of order 4 with walls",
                expected="squares of first derivatives with constant coefficients, as in K/2*grad2(w); terms without derivatives",
                given=f"walls on {', '.join(grid.walls)}",
                remedy=_REMEDY,
            )
        key = (squares[0].field, squares[0].axes[0])
        stiffness[key] = add(stiffness.get(key, ZERO), multiply(2.0, term, power(squares[0], -2)))
    return stiffness, add(*potential)


class _Face:
    """One face of order 4."""

    def __init__(
        self,
        stiffness: Stiffness,
        potential: Node,
        names: Names,
        grid: Grid,
        scheme: Scheme,
        axis: str,
        side: str,
        walls: Walls,
    ):
        self.stiffness, self.potential, self.names, self.grid, self.walls = stiffness, potential, names, grid, walls
        self.axis, self.side, self.second = axis, side, scheme.second
        self.fields = [name for name in names.fields if stiffness.get((name, axis), ZERO) != ZERO]
        self.keys = {name: grid.condition(axis, side, name).key for name in names.fields}

    def check(self) -> None:
        """Refuse mixed conditions, and different ones between fields that the potential couples."""
        where = f"the {self.side} {self.axis} face"
        for name in self.fields:
            if self.keys[name] not in ("value", "derivative"):
                given = str(self.grid.condition(self.axis, self.side, name).description())
                expected = '{"value": ...} or {"derivative": ...}'
                raise ActionError(f"order 4 has no mixed condition on {where}", expected=expected, given=given, remedy=_REMEDY)
            slope = differentiate(self.potential, Symbol(name))
            for other in self.names.fields:
                if Symbol(other) in leaves(slope) and self.keys[other] != self.keys[name]:
                    raise ActionError(
                        f"order 4 needs the same condition for the coupled fields {name!r} and {other!r} on {where}",
                        expected=f"{self.keys[name]} for both, or {self.keys[other]} for both",
                        given=f"{self.keys[name]} and {self.keys[other]}",
                        remedy=_REMEDY,
                    )

    def energy(self, layer: int) -> Node:
        """Energy per area of the cells `layer` cells away from the wall's."""
        parts = [self._value(name, layer) for name in self.fields if self.keys[name] == "value"]
        free = [name for name in self.fields if self.keys[name] == "derivative"]
        parts += [self._derivative(name, layer) for name in free]
        if free:
            parts.append(self._bend(free, layer))
        return add(*parts)

    def _moment(self, layer: int, exponent: int) -> float:
        """sum over ghosts m of (weight of ghost m in this layer's cells) * (m - 1/2)^exponent."""
        ghosts = range(1, 1 + max(self.second) - layer)
        return float(sum(float(self.second[layer + m]) * (m - 0.5) ** exponent for m in ghosts))

    def _value(self, name: str, layer: int) -> Node:
        """-h c (w - phi/2),  h^2 c = sum_m second[m] (2 K b + d_m^2 K w_nn),  phi the parabola through b with w_nn."""
        wall = self._datum(name)
        known: dict[Node, Node] = {
            Symbol(other): self._datum(other) for other in self.names.fields if self.keys[other] == "value"
        }
        k = self.stiffness[name, self.axis]
        bend = add(
            self._datum(name, rate=True), substitute(differentiate(self.potential, Symbol(name)), known), *self._along(name)
        )
        inverse = inverse_spacing(self.axis)
        shift = add(
            multiply(2.0 * self._moment(layer, 0), k, wall, inverse), multiply(self._moment(layer, 2), bend, power(inverse, -1))
        )
        parabola = add(wall, multiply(0.5 * (layer + 0.5) ** 2, bend, power(k, -1), power(inverse, -2)))
        return multiply(-1.0, shift, add(Symbol(name), multiply(-0.5, parabola)))

    def _derivative(self, name: str, layer: int) -> Node:
        """What the slope g and its own motion give, the part of w_nnn that is data."""
        slope, inverse = self._datum(name), inverse_spacing(self.axis)
        first = multiply(2.0 * self._moment(layer, 1), self.stiffness[name, self.axis], slope)
        third = multiply(self._moment(layer, 3) / 3.0, add(self._datum(name, rate=True), *self._along(name)), power(inverse, -2))
        line = multiply(-(layer + 0.5), slope, power(inverse, -1))
        return add(multiply(-1.0, first, add(Symbol(name), multiply(-0.5, line))), multiply(-1.0, third, Symbol(name)))

    def _bend(self, free: list[str], layer: int) -> Node:
        """-(h^2/3) sum_m second[m] (m - 1/2)^3 (sum_b V_b g_b + V_n) at each cell's own estimate of the wall."""
        coupled = self._held_by(free)
        parts = [multiply(differentiate(coupled, Symbol(name)), self._datum(name)) for name in free]
        for leaf in sorted(leaves(coupled), key=lambda leaf: leaf.text):
            if leaf.text == self.axis:
                parts.append(multiply(1.0 if self.side == "upper" else -1.0, differentiate(coupled, leaf)))
            elif leaf.text in self.names.arrays and leaf.text not in AXES:
                parts.append(multiply(differentiate(coupled, leaf), WallSlope(leaf.text, self.axis)))
        inverse = inverse_spacing(self.axis)
        steps = {name: multiply(layer + 0.5, self._datum(name), power(inverse, -1)) for name in free}
        at_wall = substitute(add(*parts), {Symbol(name): add(Symbol(name), step) for name, step in steps.items()})
        return multiply(-self._moment(layer, 3) / 3.0, power(inverse, -2), at_wall)

    def _held_by(self, free: list[str]) -> Node:
        """The terms of the potential that hold fields with a slope here; the others have no say in their bend."""
        return add(*[term for term in monomials(self.potential) if any(Symbol(name) in leaves(term) for name in free)])

    def _along(self, name: str) -> list[Node]:
        """-K times the second derivatives of the data along the face."""
        found = []
        for axis in self.grid.axes:
            k = self.stiffness.get((name, axis), ZERO)
            if axis != self.axis and k != ZERO:
                found.append(multiply(-1.0, k, self._datum(name, along=(axis, axis))))
        return found

    def _datum(self, name: str, along: tuple[str, ...] = (), rate: bool = False) -> Node:
        return self.walls.symbol(Datum(self.axis, self.side, name, along=along, rate=rate), self.grid)
