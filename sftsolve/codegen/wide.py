"""Sweeps of explicit vectors: forces into another array, and forces that act on the fields in place.

Two rows or planes are worked on at once, so that the neighbours which they share are read once. The last vector of a row and the
last pair of rows overlap what came before rather than being shorter. Leading rows are asked for ahead of their use, since so many
streams of loads hide from the hardware which of them come from memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from sftsolve.algebra import Call, Leaf, Node, transform
from sftsolve.codegen import templates, vectors
from sftsolve.codegen.emit import Emitter
from sftsolve.codegen.module import BOX, Module, indented, slice_name, taps_of
from sftsolve.codegen.stencils import HERE, Bend, Edge, Offset, Tap
from sftsolve.codegen.terms import is_scalar, moved

AHEAD = 2  # rows between asking for data and reading them
# The rows or planes that a sweep works on together are neighbours along this axis, by the dimension of the grid.
JAM: dict[int, Offset] = {1: HERE, 2: (0, 1, 0), 3: (1, 0, 0)}


def widens(nodes: Sequence[Node]) -> bool:
    """Whether trees are arithmetic alone, which vectors know; the compiler has no vector form of the functions."""

    def plain(node: Node) -> bool:
        return is_scalar(node) or not isinstance(node, Call) and all(map(plain, node.children))

    return all(plain(node) and not is_scalar(node) for node in nodes)


class Body:
    """What is done with one vector of cells in each of the rows that are worked on together.

    Parameters
    ----------
    results : one tree a field
    jam : offset between the two rows, zero where they are one

    Attributes
    ----------
    width : lanes of a vector
    values : variables of the results, by row and field
    targets : field, number of the row and offset of each of them
    taps : the cells that they read
    """

    def __init__(self, module: Module, results: Sequence[Node], jam: Offset):
        self.width = vectors.lanes(module.real)
        self.emitter = Emitter(module.scalars, self._load, module.real)
        copies = [HERE] if jam == HERE else [HERE, jam]
        self.nodes = [moved(node, copy) for copy in copies for node in results]
        self.values = [self.emitter.name(node) for node in self.nodes]
        self.targets = [(field, copies.index(copy), copy) for copy in copies for field in range(len(results))]
        self.taps = taps_of(self.nodes)
        self.jam = jam

    def _load(self, tap: Tap) -> str:
        return f"load({row_name(tap)}, k{tap.offset[2]:+d}, {self.width})"

    def rows(self) -> tuple[list[str], list[str]]:
        """Addresses of the rows that are read, and the names of those to ask for `AHEAD` rows before the leading ones."""
        taps = {row_name(tap): tap for tap in self.taps}
        lines = [row(name, tap.kind, tap.index, tap.offset) for name, tap in sorted(taps.items())]
        wanted: list[str] = []
        for kind, index in sorted({(tap.kind, tap.index) for tap in taps.values()}) if self.jam != HERE else []:
            places = [tap.offset[:2] for tap in taps.values() if (tap.kind, tap.index) == (kind, index)]
            z = max(z for z, _ in places)
            y = max(y for place, y in places if self.jam[1] or place == z)
            for back in (1, 0):
                ahead = (z - back * self.jam[0], y - back * self.jam[1] + AHEAD, 0)
                lines.append(row(f"a{len(wanted)}", kind, index, ahead))
                wanted.append(f"a{len(wanted)}")
        return lines, wanted

    def loops(self, rows: Sequence[str], body: Sequence[str], after: Sequence[str] = ()) -> list[str]:
        """The loops over pairs of rows and their vectors; `after` follows each pair of rows."""
        planes, lines = 1 + self.jam[0], 1 + self.jam[1]
        cells = [f"for j in range(0, n, {self.width}):", f"    k = min(j, n - {self.width})", *indented(body)]
        inner = [f"for yj in range(y0, y1, {lines}):", f"    y = min(yj, y1 - {lines})", *indented([*rows, *cells, *after])]
        return [f"for zj in range(z0, z1, {planes}):", f"    z = min(zj, z1 - {planes})", *indented(inner)]


def sweep(module: Module, name: str, arguments: str, results: Sequence[Node], jam: Offset) -> None:
    """``{name}_wide``: one result a field into `out`, on boxes of at least one vector along x and two cells along `jam`."""
    body = Body(module, results, jam)
    rows, ahead = body.rows()
    rows += [row(f"o{number}", "out", field, copy) for number, (field, _, copy) in enumerate(body.targets)]
    stores = [f"put(o{number}, k, {value}, past)" for number, value in enumerate(body.values)]
    loops = body.loops(rows, [*(f"prefetch({name}, k)" for name in ahead), *body.emitter.body, *stores])
    name, arguments = f"{name}_wide", f"{arguments}, out, past"
    module.box(name, arguments, body.emitter, loops, finish="    fence(past)")
    module.text += templates.DRIVERS.format(name=name, arguments=arguments)


def total(module: Module, name: str, arguments: str, density: Node) -> None:
    """``{name}_wide``: the sum of a density, one partial sum a box, each row's added up by itself."""
    body = Body(module, [density], HERE)
    rows, _ = body.rows()
    start = rows[0].split(" = ")[0]
    none = f"nothing({start}, {body.width})"
    # Cells that the last vector shares with the one before it have been counted already.
    adding = f"lanes = lanes + keep({none}, {body.values[0]}, j - k)"
    loops = body.loops([*rows, f"lanes = {none}"], [*body.emitter.body, adding], ["total += added(lanes)"])
    name = f"{name}_wide"
    module.box(name, arguments, body.emitter, loops, start="    total = 0.0", finish="    return total")
    module.text += templates.SUM_DRIVERS.format(name=name, arguments=arguments, box=BOX)


def turned(node: Node) -> Node:
    """A tree of the plane read with y in the place of z."""

    def turn(leaf: Leaf) -> Node:
        if isinstance(leaf, Tap):
            return Tap(leaf.kind, leaf.index, _turn(leaf.offset))
        if isinstance(leaf, (Bend, Edge)):
            return type(leaf)(leaf.kind, leaf.index, "z" if leaf.axis == "y" else leaf.axis, _turn(leaf.offset), leaf.span)
        return leaf

    return transform(node, turn)


def _turn(offset: Offset) -> Offset:
    return (offset[1], 0, offset[2])


def row_name(tap: Tap) -> str:
    """The variable that holds the address of a cell's row."""
    return slice_name(Tap(tap.kind, tap.index, (*tap.offset[:2], 0)))


def row(name: str, array: str, index: int, offset: Offset) -> str:
    """The statement that takes the address of a row."""
    z, y = (f"{axis}{o:+d}" if o else axis for axis, o in zip("zy", offset[:2], strict=True))
    return f"{name} = row({array}, {index}, {z}, {y}, x0)"
