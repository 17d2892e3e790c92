"""Explicit vectors for generated sweeps, where a compiler's own vectorisation falls short.

A `Vector` holds as many neighbouring cells of a row as a register does. It takes the usual operators (numbers are spread over its
lanes), so that the same generated text serves cells and vectors. What this adds to what the compiler finds by itself: stores that
pass the caches by, which spares reading the lines that they overwrite, data asked for in time, and a body that exists once, since
the last vector of a row is aligned with the row's end and overlaps the one before.

All of it exists in compiled code only. `Row` is the address of a cell; nothing checks bounds.
"""

from __future__ import annotations

import hashlib
import operator
import platform
from pathlib import Path
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

IMPORT = "from sftsolve.codegen.vectors import added, fence, fused, keep, load, nothing, prefetch, put, row"
# Numba's cache knows a generated module by its text, which names the version of what it is made with.
VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def lanes(real: str) -> int:
    """How many numbers of type `real` a register of this machine holds; zero where vectors are not known to pay."""
    features = llvmlite.binding.get_host_cpu_features()
    bits = next((width for name, width in (("avx512f", 512), ("avx2", 256)) if features.get(name)), 0)
    return bits // (64 if real == "float64" else 32)


def _element(real: Any) -> Any:
    return ir.DoubleType() if real == types.float64 else ir.FloatType()


class Vector(types.Type):
    """`lanes` numbers of type `real`."""

    def __init__(self, real: Any, lanes: int):
        self.real, self.lanes = real, lanes
        super().__init__(name=f"Vector({real}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector):
        super().__init__(manager, kind, ir.VectorType(_element(kind.real), kind.lanes))


def _spread(context: Any, builder: Any, value: Any, given: Any, kind: Vector) -> Any:
    """A number in every lane; vectors as they are."""
    if isinstance(given, Vector):
        return value
    number = context.cast(builder, value, given, kind.real)
    return _lanes(builder, number, ir.VectorType(number.type, kind.lanes))


def _lanes(builder: Any, number: Any, wide: Any) -> Any:
    single = builder.insert_element(ir.Constant(wide, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), wide.count), [0] * wide.count)
    return builder.shuffle_vector(single, ir.Constant(wide, ir.Undefined), mask)


# Elsewhere each would be a call of a function for every lane.
_FUSES = bool(llvmlite.binding.get_host_cpu_features().get("fma") or platform.machine().lower() in ("arm64", "aarch64"))


def _fused(builder: Any, instruction: str, one: Any, other: Any) -> Any:
    """A sum or difference of which an operand is a product, rounded once; None for anything else.

    Of two products it is the second. Compilers that may fuse what they like take now the one and now the other, so that copies of
    one function differ in the last bit.
    """
    if instruction not in ("fadd", "fsub") or not _FUSES:
        return None
    if getattr(other, "opname", "") == "fmul":
        a, b = other.operands
        return _fma(builder, builder.fneg(a) if instruction == "fsub" else a, b, one)
    if getattr(one, "opname", "") == "fmul":
        a, b = one.operands
        return _fma(builder, a, b, builder.fneg(other) if instruction == "fsub" else other)
    return None


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = a.type
    name = f"llvm.fma.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def _binary(symbol: Any, instruction: str) -> None:
    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vectors = [kind for kind in args if isinstance(kind, Vector)]
            if len(args) == 2 and vectors and all(kind == vectors[0] or isinstance(kind, types.Number) for kind in args):
                return signature(vectors[0], *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one, other = (
            _spread(context, builder, value, given, sig.return_type) for value, given in zip(args, sig.args, strict=True)
        )
        return _fused(builder, instruction, one, other) or getattr(builder, instruction)(one, other)

    for left, right in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, left, right)(lower)


for _symbol, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _binary(_symbol, _instruction)


@infer_global(operator.neg)
class _Negation(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], *args) if len(args) == 1 and isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


class Row(types.Type):
    """Address of a cell of an array of `real` numbers."""

    def __init__(self, real: Any):
        self.real = real
        super().__init__(name=f"Row({real})")


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Row):
        super().__init__(manager, kind, _element(kind.real).as_pointer())


@intrinsic
def row(typingctx, array, f, z, y, x):  # type: ignore[no-untyped-def]
    """Address of array[f, z, y, x], a C-ordered array of four axes."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        storage = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
        strides = cgutils.unpack_tuple(builder, storage.strides, 4)
        offset = ir.Constant(ir.IntType(64), 0)
        for index, stride in zip(args[1:], strides, strict=True):
            offset = builder.add(offset, builder.mul(index, stride))
        start = builder.bitcast(storage.data, ir.IntType(8).as_pointer())
        return builder.bitcast(builder.gep(start, [offset]), storage.data.type)

    return signature(Row(array.dtype), array, *[types.int64] * 4), generate


def _size(real: Any) -> int:
    return 8 if real == types.float64 else 4


def _address(builder: Any, start: Any, k: Any, lanes: int) -> Any:
    return builder.bitcast(builder.gep(start, [k]), ir.VectorType(start.type.pointee, lanes).as_pointer())


@intrinsic
def load(typingctx, start, k, lanes):  # type: ignore[no-untyped-def]
    """Cells k, k + 1, ... of a row as a vector."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    width = lanes.literal_value

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.load(_address(builder, args[0], args[1], width), align=_size(start.real))

    return signature(Vector(start.real, width), start, types.int64, lanes), generate


@intrinsic
def nothing(typingctx, start, lanes):  # type: ignore[no-untyped-def]
    """A vector of zeros, of the type of a row."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    kind = Vector(start.real, lanes.literal_value)

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return ir.Constant(ir.VectorType(_element(kind.real), kind.lanes), [0.0] * kind.lanes)

    return signature(kind, start, lanes), generate


@intrinsic
def put(typingctx, start, k, value, past):  # type: ignore[no-untyped-def]
    """Write a vector to cells k, k + 1, ... of a row; unless `past` is None past the caches, where it fills whole lines."""
    size = _size(start.real)

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = _address(builder, args[0], args[1], value.lanes)
        if isinstance(past, types.NoneType):
            builder.store(args[2], place, align=size)
            return context.get_dummy_value()
        whole = size * value.lanes
        address = builder.ptrtoint(place, ir.IntType(64))
        aligned = builder.icmp_unsigned("==", builder.and_(address, address.type(whole - 1)), address.type(0))
        with builder.if_else(aligned) as (then, otherwise):
            with then:
                done = builder.store(args[2], place, align=whole)
                done.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            with otherwise:
                builder.store(args[2], place, align=size)
        return context.get_dummy_value()

    return signature(types.none, start, types.int64, value, past), generate


@intrinsic
def fused(typingctx, factor, one, other):  # type: ignore[no-untyped-def]
    """factor * one + other of two vectors, rounded once: of a sum of two products compilers fuse now the one, now the other."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        number = _spread(context, builder, args[0], sig.args[0], one)
        return _fma(builder, number, args[1], args[2])

    return signature(one, factor, one, other), generate


@intrinsic
def keep(typingctx, old, new, count):  # type: ignore[no-untyped-def]
    """`new`, with the first `count` lanes of `old`."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        whole = ir.VectorType(ir.IntType(64), old.lanes)
        numbers = ir.Constant(whole, list(range(old.lanes)))
        return builder.select(builder.icmp_signed("<", numbers, _lanes(builder, args[2], whole)), args[0], args[1])

    return signature(new, old, new, types.int64), generate


@intrinsic
def added(typingctx, vector):  # type: ignore[no-untyped-def]
    """Sum of a vector's lanes in double precision, always in the same order: one half and the other, and so on."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        count = vector.lanes
        lanes = [builder.extract_element(args[0], ir.Constant(ir.IntType(32), lane)) for lane in range(count)]
        parts = [lane if vector.real == types.float64 else builder.fpext(lane, ir.DoubleType()) for lane in lanes]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(one, other) for one, other in zip(parts[:half], parts[half:], strict=True)]
        return parts[0]

    return signature(types.float64, vector), generate


@intrinsic
def prefetch(typingctx, start, k):  # type: ignore[no-untyped-def]
    """Ask for the line of cell k of a row to be brought into the cache; any address will do."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        place = builder.bitcast(builder.gep(args[0], [args[1]]), pointer)
        builder.call(function, [place, number(0), number(2), number(1)])  # to read, into the second level, data
        return context.get_dummy_value()

    return signature(types.none, start, types.int64), generate


@intrinsic
def fence(typingctx, past):  # type: ignore[no-untyped-def]
    """Order stores past the caches before all that follows."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        if not isinstance(past, types.NoneType):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse.sfence", (), kind), [])
        return context.get_dummy_value()

    return signature(types.none, past), generate
