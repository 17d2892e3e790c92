"""The text of a generated module, one function a purpose: sweeps, sums, folded walls and faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import indent

from sftsolve.algebra import Node, Symbol, differentiate, leaves, substitute
from sftsolve.codegen import templates, vectors
from sftsolve.codegen.emit import Emitter
from sftsolve.codegen.stencils import HERE, Bend, Edge, Offset, Tap
from sftsolve.codegen.terms import Variation, linearise, moved
from sftsolve.sources import rate_of, slope

BOX = ", ".join(f"boxes[b, {i}]" for i in range(6))


class Module:
    """A module under construction.

    Parameters
    ----------
    scalars : names of the argument p in order
    real : type of the cells, "float64" or "float32"

    Attributes
    ----------
    text : the module so far
    """

    def __init__(self, scalars: Sequence[str], real: str, **header: str):
        self.scalars, self.real = scalars, real
        imports = f"{vectors.IMPORT}  # {vectors.VERSION}\n" if vectors.lanes(real) else ""
        self.text = templates.HEADER.format(scalars=", ".join(scalars), real=real, imports=imports, **header)

    def sweep(self, name: str, arguments: str, results: Sequence[Node], planes: int = 1) -> None:
        """A sweep that writes one result a field into `out`, and its drivers.

        `planes` planes are worked on at once; the neighbours that they share are read once.
        """
        emitter = Emitter(self.scalars, row_tap, self.real)
        loops = []
        if planes > 1:
            jammed = [moved(node, (plane, 0, 0)) for plane in range(planes) for node in results]
            loops += [f"for z in range(z0, z1 - {planes - 1}, {planes}):", *self._rows(emitter, jammed, len(results))]
            loops += [f"for z in range(z1 - (z1 - z0) % {planes}, z1):"]
        else:
            loops += ["for z in range(z0, z1):"]
        loops += self._rows(emitter, results, len(results))
        arguments = f"{arguments}, out"
        self.box(name, arguments, emitter, loops)
        self.text += templates.DRIVERS.format(name=name, arguments=arguments)

    def total(self, name: str, arguments: str, density: Node) -> None:
        """A sweep that sums a density, one partial sum a box, in an order that the boxes alone decide."""
        emitter = Emitter(self.scalars, row_tap, self.real)
        result = emitter.name(density)
        body = [*emitter.body, f"total += {result}"]
        loops = [
            "for z in range(z0, z1):",
            *nest("for y in range(y0, y1):", *slices([density]), *nest("for k in range(n):", *body)),
        ]
        flags = '{"contract", "reassoc", "nsz"}'
        self.box(name, arguments, emitter, [loops[0], *indented(loops[1:])], flags, "    total = 0.0", "    return total")
        self.text += templates.SUM_DRIVERS.format(name=name, arguments=arguments, box=BOX)

    def _rows(self, emitter: Emitter, results: Sequence[Node], fields: int) -> list[str]:
        """The loops over rows and cells for results that belong to fields 0, 1, ... of one or more planes."""
        emitter.new_cell()
        names = [emitter.name(node) for node in results]
        outputs = [(f"o{number}", number % fields, number // fields) for number in range(len(results))]
        rows = slices(results) + [f"{o} = out[{f}, z{f'+{plane}' if plane else ''}, y, x0:x1]" for o, f, plane in outputs]
        body = emitter.body + [f"{o}[k] = {text}" for (o, _, _), text in zip(outputs, names, strict=True)]
        return indented(nest("for y in range(y0, y1):", *rows, *nest("for k in range(n):", *body)))

    def box(
        self,
        name: str,
        arguments: str,
        emitter: Emitter,
        loops: Sequence[str],
        flags: str = '{"contract"}',
        start: str = "",
        finish: str = "",
    ) -> None:
        self.text += templates.SWEEP.format(
            name=name,
            arguments=arguments,
            flags=flags,
            prelude=_lines(emitter.prelude, 1),
            start=start,
            loops=_lines(loops, 1),
            finish=finish,
        )

    def fold(self, name: str, arguments: str, by_cell: Sequence[dict[Offset, Node]], walled: Sequence[bool]) -> None:
        """The exact gradient next to walls: contributions of domain cells only, those to ghosts folded back."""
        emitter = Emitter(self.scalars, cell_tap, self.real)
        body: list[str] = []
        for cell in sorted({offset for contributions in by_cell for offset in contributions}):
            emitter.new_cell()
            adds = [f"f{f} += {emitter.name(parts[cell])}" for f, parts in enumerate(by_cell) if cell in parts]
            tests = [
                f"domain[{2 * axis}] <= {letter}{offset:+d} < domain[{2 * axis + 1}]"
                for axis, (letter, offset) in enumerate(zip("zyx", cell, strict=True))
                if walled[axis]
            ]
            body += nest(f"if {' and '.join(tests)}:", *emitter.body, *adds)
        fields = range(len(by_cell))
        factors = "factor[0, iz, {0}] * factor[1, iy, {0}] * factor[2, ix, {0}]"
        self.text += templates.FOLD.format(
            name=name,
            arguments=arguments,
            prelude=_lines(emitter.prelude, 1),
            start=_lines([f"f{f} = {self.real}(0.0)" for f in fields], 1),
            body=_lines(body, 1),
            returns=", ".join(f"f{f}" for f in fields),
            accumulate=_lines([f"out[{f}, z, y, x] += {factors.format(f)} * forces[{f}]" for f in fields], 7),
        )

    def face(
        self,
        name: str,
        energy: Node,
        variation: Variation,
        half_step: dict[str, Node],
        inverse: str,
        data: Sequence[str] = (),
        tap: Callable[[Tap], str] | None = None,
        rates: Mapping[Symbol, Node] | None = None,
    ) -> bool:
        """Energy, force and linearised force of one face as three functions; with `rates` a fourth, the power of its energy.

        `data` names what varies along the face, `tap` writes values there (`wall_tap` by default); `rates` are those in time of
        scalars and data. Whether the power is known is returned.
        """
        along: dict[Node, Node] = {Symbol(datum): Tap("b", number, HERE) for number, datum in enumerate(data)}
        along |= {rate_of(datum): Tap("a", number, HERE) for number, datum in enumerate(data)}
        at_wall = substitute(energy, {Symbol(field): Symbol(field) + shift for field, shift in half_step.items()})
        fields = variation.names.fields
        forces = [variation.at(differentiate(at_wall, Symbol(field)) * Symbol(inverse) * -1.0, HERE) for field in fields]
        value = variation.at(at_wall, HERE)
        power = slope(value, rates) if rates else None
        for suffix, results, arguments in (
            ("energy", [value], "w, s, p, b"),
            ("force", forces, "w, s, p, b"),
            ("jvp", [linearise(node) for node in forces], "w, d, s, p, b"),
            *([("power", [power], "w, s, p, b, a")] if power is not None else []),
        ):
            emitter = Emitter(self.scalars, tap or wall_tap)
            texts = [emitter.name(substitute(node, along)) for node in results]
            add = "total += {1}" if suffix in ("energy", "power") else "out[{0}, z, y, x] += {1}"
            body = [*emitter.body, *(add.format(f, text) for f, text in enumerate(texts))]
            self.text += templates.FACE.format(
                name=f"{name}_{suffix}", arguments=arguments, prelude=_lines(emitter.prelude, 1), body=_lines(body, 4)
            )
        return power is not None


def row_tap(tap: Tap) -> str:
    """A cell's value in a sweep: a slice of its row, read at k."""
    return f"{slice_name(tap)}[k]"


def slice_name(tap: Tap) -> str:
    digits = "_".join(f"{'m' if o < 0 else ''}{abs(o)}" for o in tap.offset)
    return f"{tap.kind}{tap.index}_{digits}"


def cell_tap(tap: Tap) -> str:
    """A cell's value by its indices."""
    z, y, x = (f"{name}{o:+d}" if o else name for name, o in zip("zyx", tap.offset, strict=True))
    return f"{tap.kind}[{tap.index}, {z}, {y}, {x}]"


def wall_tap(tap: Tap) -> str:
    """Fields in the outermost cell, sources extrapolated to the wall itself (a plain S_0 costs an order), data of the face."""
    if tap.kind in "ab":
        return f"{tap.kind}[{tap.index}, z-z0, y-y0, x-x0]"
    here, inner = f"s[{tap.index}, z, y, x]", f"s[{tap.index}, z+dz, y+dy, x+dx]"
    if tap.kind == "s":
        return f"1.5 * {here} - 0.5 * {inner}"
    if tap.kind == "g":
        return f"2.0 * {here} - 3.0 * {inner} + s[{tap.index}, z+2*dz, y+2*dy, x+2*dx]"
    return cell_tap(tap)


def layer_tap(layer: int) -> Callable[[Tap], str]:
    """`wall_tap` of order 4, in the cells `layer` cells away from a face: sources by their four outermost cells."""

    def write(tap: Tap) -> str:
        weights = {"s": (35.0, -35.0, 21.0, -5.0), "g": (71.0, -141.0, 93.0, -23.0)}.get(tap.kind)
        if weights is None:
            return wall_tap(tap)
        steps = [f"s[{tap.index}, z+{j - layer}*dz, y+{j - layer}*dy, x+{j - layer}*dx]" for j in range(4)]
        total = " + ".join(f"{weight} * {step}" for weight, step in zip(weights, steps, strict=True))
        return f"({total}) / {16.0 if tap.kind == 's' else 24.0}"

    return write


def taps_of(nodes: Sequence[Node]) -> set[Tap]:
    """The cells that trees read."""
    found: set[Tap] = set()
    for leaf in {leaf for node in nodes for leaf in leaves(node)}:
        ends = leaf.ends if isinstance(leaf, (Bend, Edge)) else (leaf,)
        found |= {end for end in ends if isinstance(end, Tap)}
    return found


def slices(nodes: Sequence[Node]) -> list[str]:
    """One slice a tap, sorted: ``w0_0_0_m1 = w[0, z, y, x0-1:x1-1]``."""
    taps = {slice_name(tap): tap for tap in taps_of(nodes)}
    lines = []
    for name, tap in sorted(taps.items()):
        z, y, x = tap.offset
        row = ", ".join(f"{axis}{o:+d}" if o else axis for axis, o in (("z", z), ("y", y)))
        columns = f"x0{x:+d}:x1{x:+d}" if x else "x0:x1"
        lines.append(f"{name} = {tap.kind}[{tap.index}, {row}, {columns}]")
    return lines


def indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def nest(head: str, *lines: str) -> list[str]:
    return [head, *indented(lines or ["pass"])]


def _lines(lines: Sequence[str], depth: int) -> str:
    return indent("\n".join(lines) if lines else "pass", "    " * depth)
