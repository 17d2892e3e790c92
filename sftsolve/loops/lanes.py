"""Vectors of cells in written loops: addresses of cells, and what moves numbers between rows in natural order and rows that hold
their even cells first. See `codegen.vectors` for vectors as such; nothing here checks bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from sftsolve.codegen.vectors import Row, Vector


@intrinsic
def address(typingctx, array, i):  # type: ignore[no-untyped-def]
    """Address of the cell number i of a C-ordered array."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        storage = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
        return builder.gep(storage.data, [args[1]])

    return signature(Row(array.dtype), array, types.int64), generate


@intrinsic
def beyond(typingctx, start, k):  # type: ignore[no-untyped-def]
    """Address of cell k of a row."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.gep(args[0], [args[1]])

    return signature(start, start, types.int64), generate


@intrinsic
def peek(typingctx, start, k):  # type: ignore[no-untyped-def]
    """Cell k of a row."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.load(builder.gep(args[0], [args[1]]))

    return signature(start.real, start, types.int64), generate


@intrinsic
def poke(typingctx, start, k, value):  # type: ignore[no-untyped-def]
    """Write cell k of a row."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return signature(types.none, start, types.int64, start.real), generate


def _shuffle(builder: Any, one: Any, two: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


@intrinsic
def every_other(typingctx, one, two, first):  # type: ignore[no-untyped-def]
    """The even (`first` = 0) or odd (1) cells of two vectors that follow each other."""
    if not isinstance(first, types.IntegerLiteral):
        return None
    odd = first.literal_value

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _shuffle(builder, args[0], args[1], list(range(odd, 2 * one.lanes, 2)))

    return signature(one, one, two, first), generate


@intrinsic
def weave(typingctx, even, odd, half):  # type: ignore[no-untyped-def]
    """The first (`half` = 0) or second (1) half of the row whose even and odd cells these are."""
    if not isinstance(half, types.IntegerLiteral):
        return None
    start = half.literal_value * even.lanes // 2

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _shuffle(builder, args[0], args[1], [start + i // 2 + (i % 2) * even.lanes for i in range(even.lanes)])

    return signature(even, even, odd, half), generate


@intrinsic
def double(typingctx, value):  # type: ignore[no-untyped-def]
    """A vector in double precision."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        if value.real == types.float64:
            return args[0]
        return builder.fpext(args[0], ir.VectorType(ir.DoubleType(), value.lanes))

    return signature(Vector(types.float64, value.lanes), value), generate


@intrinsic
def rounded(typingctx, value, like):  # type: ignore[no-untyped-def]
    """A vector of double precision in the precision of the row `like`."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        if like.real == types.float64:
            return args[0]
        return builder.fptrunc(args[0], ir.VectorType(ir.FloatType(), value.lanes))

    return signature(Vector(like.real, value.lanes), value, like), generate


@intrinsic
def total(typingctx, value):  # type: ignore[no-untyped-def]
    """Sum of all cells of a vector, by halves."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        number, rest = value.lanes, args[0]
        while number > 1:
            number //= 2
            rest = builder.fadd(
                _shuffle(builder, rest, rest, list(range(number))), _shuffle(builder, rest, rest, list(range(number, 2 * number)))
            )
        return builder.extract_element(rest, ir.Constant(ir.IntType(32), 0))

    return signature(value.real, value), generate
