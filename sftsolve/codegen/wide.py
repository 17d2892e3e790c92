"""Sweeps of explicit vectors: forces into another array, and forces that act on the fields in place.

Two rows or planes are worked on at once, so that the neighbours which they share are read once. The last vector of a row and the
last pair of rows overlap what came before rather than being shorter. Leading rows are asked for ahead of their use, since so many
streams of loads hide from the hardware which of them come from memory.

Sweeps of forces go round periodic axes by themselves: rows and planes are counted round theirs, and the ghosts at both ends of a
row are set right before it is worked on. Filling all ghosts beforehand takes 5 to 18 % of the time of a force on 256^3, a quarter
on 24^3, a seventh on 64^2, nothing that shows on 2048^2.
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

FIELDS = ("w", "d")  # arrays of which a sweep sets ghosts; those of sources do not change


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
    rounds : whether ghosts at the ends of rows are read in the rows of the results alone
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
        self.rounds = all(
            tap.offset[:2] in [copy[:2] for copy in copies] for tap in self.taps if tap.kind in FIELDS and tap.offset[2]
        )

    def _load(self, tap: Tap) -> str:
        return f"load({row_name(tap)}, k{tap.offset[2]:+d}, {self.width})"

    def rows(self, around: str = "") -> tuple[list[str], list[str]]:
        """Addresses of the rows that are read, and the names of those to ask for `AHEAD` rows before the leading ones.

        Those of fields are by the places that `counted` names along the axes `around`.
        """
        taps = {row_name(tap): tap for tap in self.taps}
        lines = [row(name, tap.kind, tap.index, tap.offset, around) for name, tap in sorted(taps.items())]
        wanted: list[str] = []
        for kind, index in sorted({(tap.kind, tap.index) for tap in taps.values()}) if self.jam != HERE else []:
            places = [tap.offset[:2] for tap in taps.values() if (tap.kind, tap.index) == (kind, index)]
            z = max(z for z, _ in places)
            y = max(y for place, y in places if self.jam[1] or place == z)
            for back in (1, 0):
                ahead = (z - back * self.jam[0], y - back * self.jam[1] + AHEAD, 0)
                # Not round y: any address may be asked for.
                lines.append(row(f"a{len(wanted)}", kind, index, ahead, around.replace("y", "")))
                wanted.append(f"a{len(wanted)}")
        return lines, wanted

    def counted(self, axis: int) -> list[str]:
        """Neighbours' places along an axis in the arrays of the fields, counted round the axis."""
        letter = "zyx"[axis]
        lines = []
        for step in sorted({tap.offset[axis] for tap in self.taps if tap.kind in FIELDS} - {0}):
            place = f"{letter}{step:+d}"
            turn = (
                f"- (n{letter} if {place} >= {letter}_end else 0)"
                if step > 0
                else f"+ (n{letter} if {place} < {letter}_start else 0)"
            )
            lines.append(f"{_place(letter, step)} = {place} {turn}")
        return lines

    def ends(self) -> list[str]:
        """Set `halo` ghosts at both ends of the rows of the results, where these are read."""
        ends = {row_name(tap): tap for tap in self.taps if tap.kind in FIELDS and tap.offset[2]}
        lines = []
        for name in sorted(ends) if self.rounds else ():
            lines += [f"put({name}, -m, load({name}, n - m, 1), None)", f"put({name}, n - 1 + m, load({name}, m - 1, 1), None)"]
        return ["for m in range(1, halo + 1):", *indented(lines)] if lines else []

    def loops(self, rows: Sequence[str], body: Sequence[str], after: Sequence[str] = (), before: Sequence[str] = ()) -> list[str]:
        """The loops over pairs of rows and their vectors; `after` ends each pair of rows, `before` begins each of planes."""
        planes, lines = 1 + self.jam[0], 1 + self.jam[1]
        cells = [f"for j in range(0, n, {self.width}):", f"    k = min(j, n - {self.width})", *indented(body)]
        inner = [f"for yj in range(y0, y1, {lines}):", f"    y = min(yj, y1 - {lines})", *indented([*rows, *cells, *after])]
        return [f"for zj in range(z0, z1, {planes}):", f"    z = min(zj, z1 - {planes})", *indented([*before, *inner])]


def sweep(module: Module, name: str, arguments: str, results: Sequence[Node], jam: Offset) -> bool:
    """``{name}_wide``: one result a field into `out`, on boxes of at least one vector along x and two cells along `jam`.

    `ring` holds first cell, end and extent of z, then of y, in storage indices, for fields that are counted round these axes, and
    how many ghosts to set at both ends of whole rows.

    Returns
    -------
    Whether no ghosts need to be filled where all axes are periodic
    """
    body = Body(module, results, jam)
    rows, ahead = body.rows("zy")
    rows = [*body.counted(1), *rows, *body.ends()]
    rows += [row(f"o{number}", "out", field, copy) for number, (field, _, copy) in enumerate(body.targets)]
    stores = [f"put(o{number}, k, {value}, past)" for number, value in enumerate(body.values)]
    work = [*(f"prefetch({name}, k)" for name in ahead), *body.emitter.body, *stores]
    loops = body.loops(rows, work, before=body.counted(0))
    body.emitter.prelude += ["z_start, z_end, nz = ring[0], ring[1], ring[2]", "y_start, y_end, ny = ring[3], ring[4], ring[5]"]
    body.emitter.prelude.append("halo = ring[6]")
    name, arguments = f"{name}_wide", f"{arguments}, out, past, ring"
    module.box(name, arguments, body.emitter, loops, finish="    fence(past)")
    module.text += templates.DRIVERS.format(name=name, arguments=arguments)
    return body.rounds


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


def row(name: str, array: str, index: int, offset: Offset, around: str = "") -> str:
    """The statement that takes the address of a row, one of a field by `Body.counted`'s places along the axes `around`."""
    steps = [(axis, step, axis in around and array in FIELDS) for axis, step in zip("zy", offset[:2], strict=True)]
    z, y = (_place(axis, step) if counted or not step else f"{axis}{step:+d}" for axis, step, counted in steps)
    return f"{name} = row({array}, {index}, {z}, {y}, x0)"


def _place(letter: str, step: int) -> str:
    return f"{letter}_{'m' if step < 0 else ''}{abs(step)}" if step else letter
