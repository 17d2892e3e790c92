"""Sweeps that take whole steps of fixed-step methods: force and update in one, on planes several steps in one.

    flow     w_out = w + rate F(w)                                              out of place, on any grid
    march    the same several times over, from row to row                       out of place, on planes of periodic axes
    swing    u <- keep u + push F(w),  u <- keep' u + push' F(w),  w += move u  in place, on two or three axes

All of them sum up the squares of what tells the loss of energy, of F before the step or of u between its two kicks, lane by lane
for every block of rows of a plane, so that the grid alone decides on the order. The sums also tell whether all is finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import indent

from sftsolve.algebra import Node
from sftsolve.codegen import templates
from sftsolve.codegen.module import BOX, Module, indented
from sftsolve.codegen.stencils import HERE, Offset, Tap
from sftsolve.codegen.wide import AHEAD, JAM, Body, row, row_name, turned


def flow(module: Module, results: Sequence[Node], dimension: int) -> None:
    """``flow``: w_out = w + rate F(w) with filled ghosts, and sums of F^2."""
    body = _body(module, results, dimension)
    rows, ahead = body.rows()
    rows += [row(f"o{number}", "out", field, copy) for number, (field, _, copy) in enumerate(body.targets)]
    work = [f"prefetch({name}, k)" for name in ahead] + _updates(body, _done, "past")
    body.emitter.prelude.append(f"rate = {module.real}(f)")
    module.box("flow", "w, s, p, out, f, past, sums, block", body.emitter, _loops(body, rows, work), finish="    fence(past)")
    module.text += templates.FLOW_DRIVERS.format(box=BOX)


def swing(module: Module, results: Sequence[Node], dimension: int, reach: int) -> None:
    """``swing``: two kicks and the drift in place, and sums of u^2 between the kicks.

    The drift of w follows the kicks of u `reach` planes and rows behind, where no force that is still to come reads w. What lies
    as close to the ends of a slab waits until all slabs are done. `halo` ghosts at both ends of a row are copied round it.
    """
    body = _body(module, results, dimension)
    rows, ahead = body.rows()
    work = [f"prefetch({name}, k)" for name in ahead] + body.emitter.body
    for number, ((field, plane, copy), value) in enumerate(zip(body.targets, body.values, strict=True)):
        rows += [row(f"o{number}", "u", field, copy), row(f"b{number}", "u", field, (copy[0], AHEAD, 0))]
        work = [f"prefetch(b{number}, k)", *work, f"old{number} = load(o{number}, k, {body.width})"]
        work.append(f"half{number} = fused(keep_a, old{number}, push_a * {value})")
        done = _done(body, plane)
        work.append(f"put(o{number}, k, keep(old{number}, fused(keep_b, half{number}, push_b * {value}), {done}), None)")
        work.append(f"total{plane} = keep(total{plane}, total{plane} + half{number} * half{number}, {done})")
    factors = ("keep_a", "push_a", "keep_b", "push_b", "move")
    body.emitter.prelude += [f"{name} = {module.real}(f[{number}])" for number, name in enumerate(factors)]
    after = [
        f"for q in range(max(zj - {reach}, z0 + {reach}), min(z + {2 - reach}, z1 - {reach})):",
        "    drift_box(w, u, move, halo, q, q + 1, ya, yb, x0, x1)",
    ]
    module.text += templates.DRIFT
    module.box("swing", "w, u, s, p, f, halo, sums, block, ya, yb", body.emitter, _loops(body, rows, work, after))
    module.text += templates.SWING_DRIVERS.format(box=BOX, real=module.real)


def march(module: Module, results: Sequence[Node]) -> None:
    """``march``: steps of `flow` on a plane of two periodic axes, the rows of each step following those of the step before.

    A slab of rows passes through all steps, with as many rows of its neighbours as these reach; between two steps it keeps the
    last few rows alone, so that memory sees the first step's fields and the last's. Rows are counted round the axis.
    """
    body = _with_own(Body(module, results, JAM[2]))
    taps = {row_name(tap): tap for tap in body.taps}
    lines = [_round(name, tap.kind, tap.index, tap.offset) for name, tap in sorted(taps.items())]
    lines += [_round(f"o{number}", "out", field, copy) for number, (field, _, copy) in enumerate(body.targets)]
    leading = {(tap.kind, tap.index): tap.offset[1] for tap in sorted(body.taps, key=lambda tap: tap.offset[1])}
    wanted = [(*array, y + far) for array, y in sorted(leading.items()) for far in (AHEAD - 1, AHEAD)]
    lines += [_round(f"a{n}", kind, index, (0, y, 0)) for n, (kind, index, y) in enumerate(wanted)]
    lines += [f"total{line} = nothing(o0, {body.width})" for line in (0, 1)]
    lines += [f"for j in range(0, n, {body.width}):", f"    k = min(j, n - {body.width})"]
    lines += indented([f"prefetch(a{n}, k)" for n in range(len(wanted))])
    lines += indented(_updates(body, lambda body, line: "j - k", "past"))
    for line in (0, 1):
        # What a slab computes of its neighbours' rows is theirs to count.
        lines.append(f"put(row(sums, 0, step, y + {line} if a <= y + {line} < b else spare, 0), 0, total{line}, None)")
    for field, line, _ in body.targets:
        lines.append(f"round_row(out[{field}, 0, (y + {line} - out0) % outn + out0], x0, x1, halo)")
    lines.append("fence(past)")
    body.emitter.prelude.append(f"rate = {module.real}(f)")
    text = {"prelude": "\n".join(body.emitter.prelude), "body": "\n".join(lines)}
    module.text += templates.MARCH.format(**{name: indent(part, "    ") for name, part in text.items()})


def _body(module: Module, results: Sequence[Node], dimension: int) -> Body:
    """Pairs of planes; storage of two dimensions is seen as planes of one row."""
    nodes = [turned(node) for node in results] if dimension == 2 else results
    return _with_own(Body(module, nodes, HERE if dimension == 1 else JAM[3]))


def _with_own(body: Body) -> Body:
    """Let a body know the rows of the fields that it changes, whether their forces read them or not."""
    body.taps |= {Tap("w", field, copy) for field, _, copy in body.targets}
    return body


def _updates(body: Body, done: Callable[[Body, int], str], past: str) -> list[str]:
    """Force, sums of its squares and w + rate F of a vector of cells in each row."""
    own = [body.emitter.name(Tap("w", field, copy)) for field, _, copy in body.targets]
    lines = list(body.emitter.body)
    for value, (_, plane, _) in zip(body.values, body.targets, strict=True):
        lines.append(f"total{plane} = keep(total{plane}, total{plane} + {value} * {value}, {done(body, plane)})")
    pairs = enumerate(zip(own, body.values, strict=True))
    return lines + [f"put(o{number}, k, {here} + rate * {value}, {past})" for number, (here, value) in pairs]


def _done(body: Body, plane: int) -> str:
    """How many lanes of a vector the vector and the pair of planes before have done already."""
    return f"({body.width} if z < zj else j - k)" if plane == 0 else "j - k"


def _loops(body: Body, rows: Sequence[str], work: Sequence[str], after: Sequence[str] = ()) -> list[str]:
    """The loops over pairs of planes, their rows and vectors, with a sum for each plane; `after` follows each pair."""
    planes = 1 + body.jam[0]
    begin, end = [], []
    for plane in range(planes):
        begin += [
            f"partial{plane} = row(sums, 0, z + {plane}, block, 0)",
            f"total{plane} = load(partial{plane}, 0, {body.width})",
        ]
        end.append(f"put(partial{plane}, 0, total{plane}, None)")
    cells = [f"for j in range(0, n, {body.width}):", f"    k = min(j, n - {body.width})", *indented(work)]
    inner = [*begin, "for y in range(y0, y1):", *indented([*rows, *cells]), *end, *after]
    return [f"for zj in range(z0, z1, {planes}):", f"    z = min(zj, z1 - {planes})", *indented(inner)]


def _round(name: str, array: str, index: int, offset: Offset) -> str:
    """The statement that takes the address of a row, counted round the axis."""
    first, rows = f"{array}0", f"{array}n"
    return f"{name} = row({array}, {index}, 0, (y + {offset[1]} - {first}) % {rows} + {first}, x0)"
