"""Couplings that are diagonal in Fourier, cosine or sine modes, of the grid or of blocks of it, all of them in one operator: one
forward transform a field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sftsolve.kernels.amplitude import Amplitude
from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.overlap import Blocks
from sftsolve.kernels.transforms import Basis, Transform
from sftsolve.kernels.workspaces import Mixing, WholeGrid, Workspace
from sftsolve.state import State

Bases = tuple[Basis, Basis, Basis]


@dataclass(frozen=True, eq=False)
class Coupling:
    """The cost  g(t) h^d sum_i a_i (K * b)_i  between two fields.

    Attributes
    ----------
    first, second : numbers of the fields a and b
    amplitude : g
    reference : padded values w_ref, the coupling then acts on w - w_ref; None for none
    bases : modes in which K is diagonal
    symbol : function from `Modes` to the factor of each mode, real where K is even
    reach : of K, where it is a sum of weights; then the modes of blocks serve as well
    weight : sum of the weights' sizes
    """

    first: int
    second: int
    amplitude: Amplitude
    reference: np.ndarray | None
    bases: Bases
    symbol: Callable[[Any], np.ndarray]
    reach: tuple[int, ...] = ()
    weight: float = math.inf


def joined_bases(first: Bases, second: Bases) -> Bases | None:
    """Bases that serve both, None where an axis has none."""
    found = [a.joined(b) for a, b in zip(first, second, strict=True)]
    a, b, c = found
    return None if a is None or b is None or c is None else (a, b, c)


def jacobian_symbol(couplings: Sequence[Coupling], transform: Transform, count: int) -> np.ndarray | None:
    """F' per mode, (field, field, *modes of the grid's axes); None where an amplitude varies or an axis is padded."""
    if any(basis.kind == "fourier" and basis.length != basis.cells for basis in transform.bases):
        return None
    dtype = np.result_type(transform.spectrum_dtype, np.float64)
    symbols = np.zeros((count, count, *transform.modes), dtype)
    for coupling in couplings:
        if coupling.amplitude.constant is None:
            return None
        values = coupling.amplitude.constant * coupling.symbol(transform)
        symbols[coupling.first, coupling.second] -= values
        symbols[coupling.second, coupling.first] -= np.conj(values)
    return symbols


class SpectralSum:
    """A sum of couplings: each field (and each field with a reference of its own) is transformed once a force.

    Nothing is allocated before the first force, so that operators may merge.

    Parameters
    ----------
    in_blocks : whether blocks of the grid are transformed one after the other, and not the whole
    """

    def __init__(self, couplings: tuple[Coupling, ...], space: Space, volume: float, count: int, in_blocks: bool = False):
        self.couplings, self.space, self._volume, self._count = couplings, space, volume, count
        bases: Bases | None = couplings[0].bases
        for coupling in couplings[1:]:
            assert bases is not None
            bases = joined_bases(bases, coupling.bases)
        assert bases is not None  # `merge` asks before
        self.bases, self.in_blocks = bases, in_blocks

    def merge(self, other: object) -> SpectralSum | None:
        """One operator for the couplings of both, None where the modes differ."""
        if not isinstance(other, SpectralSum) or joined_bases(self.bases, other.bases) is None:
            return None
        # Couplings hold their fields by number, so what is bound for one system only can be joined.
        known = (self._count, self.space.layout, self.in_blocks)
        if (other._count, other.space.layout, other.in_blocks) != known:
            return None
        return SpectralSum(self.couplings + other.couplings, self.space, self._volume, self._count, self.in_blocks)

    @property
    def time_dependent(self) -> bool:
        """Whether some amplitude varies."""
        return any(coupling.amplitude.constant is None for coupling in self.couplings)

    def add_force(self, state: State, out: State, t: float) -> None:
        self._add(state, out, t, True)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._add(direction, out, t, False)

    def energy(self, state: State, t: float) -> float:
        parts = self._parts
        sources = parts.sources(state, True)
        return 0.5 * self._volume * parts.workspace.dot(sources, parts.mixing(t, parts.by_slot), sources)

    def power(self, state: State, t: float) -> float:
        """The cost with dg/dt for every amplitude g."""
        parts = self._parts
        sources = parts.sources(state, True)
        return 0.5 * self._volume * parts.workspace.dot(sources, parts.mixing(t, parts.by_slot, rates=True), sources)

    def symbol(self) -> np.ndarray | None:
        transform = Transform(self.bases, self.space.layout.dtype, self.space.parts)
        found = jacobian_symbol(self.couplings, transform, self._count)
        return None if found is None else found.reshape(self._count, self._count, *_present(transform, self.space))

    def bound(self, t: float = 0.0) -> float:
        """Sum over couplings of the largest |symbol|; on padded axes the operator is a section of the padded one.

        The modes of blocks may miss the largest |symbol|: then the sum of the weights' sizes.
        """
        return self._parts.bound(t)

    def _add(self, state: State, out: State, t: float, about: bool) -> None:
        parts = self._parts
        targets = [Side(out.storage, field, parts.no_reference, parts.no_mask) for field in parts.fields]
        parts.workspace.add(parts.sources(state, about), parts.mixing(t, parts.by_field), targets, -1.0)

    @cached_property
    def _parts(self) -> _Parts:
        return _Parts(self.couplings, self.bases, self.space, self.in_blocks)


class _Parts:
    """Arrays and tables of a `SpectralSum`.

    Attributes
    ----------
    slots : what is transformed, (field, reference)
    fields : fields that a force goes to, one result each
    by_field, by_slot : terms (result, slot, symbol, conjugate) of a force, and of the parts of the cost
    """

    def __init__(self, couplings: tuple[Coupling, ...], bases: Bases, space: Space, in_blocks: bool):
        self.no_reference, self.no_mask = space.none(4), space.none(3)
        self.slots: list[tuple[int, np.ndarray]] = []
        ends = [(self._slot(c.first, c.reference), self._slot(c.second, c.reference)) for c in couplings]
        self.fields = sorted({field for field, _ in self.slots})
        self.workspace = _workspace(couplings, bases, space, len(self.slots), in_blocks)
        self._tabulate(couplings, ends)
        stacks = [self._shared(couplings, members) for members in self._groups]
        kind = np.result_type(*stacks).kind
        dtype = self.workspace.transform.spectrum_dtype if kind == "c" else space.layout.dtype
        self._symbols = np.array([stack.reshape(-1) for stack in stacks], dtype)
        largest = [float(np.abs(stack).max()) for stack in stacks]
        if in_blocks:
            largest = [sum(_weight(couplings[number]) for number in members) for members in self._groups]
        self._sizes = [scale * size for scale, size in zip(self._scales, largest, strict=True)]

    def sources(self, state: State, about: bool) -> list[Side]:
        """The slots of a state, less their references if `about`."""
        return [
            Side(state.storage, field, reference if about else self.no_reference, self.no_mask) for field, reference in self.slots
        ]

    def mixing(self, t: float, terms: np.ndarray, rates: bool = False) -> Mixing:
        """The terms at a time, or their derivatives by time."""
        for number, (symbol, factor) in enumerate(self._weights):
            self._factors[number] = factor * (self._amplitudes[symbol].rate(t) if rates else self._varying(symbol, t))
        return Mixing(self._symbols, terms, self._factors)

    def bound(self, t: float) -> float:
        """Sum of the largest |eigenvalues| of the groups."""
        return float(sum(abs(self._varying(symbol, t)) * size for symbol, size in enumerate(self._sizes)))

    def _varying(self, symbol: int, t: float) -> float:
        """The factor that a symbol does not hold already."""
        amplitude = self._amplitudes[symbol]
        return 1.0 if amplitude.constant is not None else amplitude.at(t)

    def _slot(self, field: int, reference: np.ndarray | None) -> int:
        array = self.no_reference if reference is None else reference
        for slot, (known, other) in enumerate(self.slots):
            if known == field and other is array:
                return slot
        self.slots.append((field, array))
        return len(self.slots) - 1

    def _tabulate(self, couplings: tuple[Coupling, ...], ends: list[tuple[int, int]]) -> None:
        """Couplings of constant amplitude between the same slots share a symbol; each other one has its own."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, (coupling, pair) in enumerate(zip(couplings, ends, strict=True)):
            key = pair if coupling.amplitude.constant is not None else (*pair, number)
            groups.setdefault(key, []).append(number)
        self._groups = list(groups.values())
        self._amplitudes = [couplings[members[0]].amplitude for members in self._groups]
        self._scales: list[float] = []
        terms, weights = [], []
        for symbol, (a, b, *_) in enumerate(groups):
            # a * K b has the force -(K + K^T) a where b is a, that is twice the real part of the symbol.
            self._scales.append(2.0 if a == b else 1.0)
            for out, slot, conjugate in ((a, b, 0),) if a == b else ((a, b, 0), (b, a, 1)):
                terms.append((out, slot, symbol, conjugate))
                weights.append((symbol, self._scales[-1]))
        self._weights = weights
        self._factors = np.zeros(len(weights), self.workspace.transform.dtype)
        self.by_slot = np.array(terms, np.int64)
        self.by_field = self.by_slot.copy()
        self.by_field[:, 0] = [self.fields.index(self.slots[out][0]) for out in self.by_slot[:, 0]]

    def _shared(self, couplings: tuple[Coupling, ...], members: list[int]) -> np.ndarray:
        """The symbol of a group, constant amplitudes included."""
        total: np.ndarray | None = None
        for coupling in (couplings[number] for number in members):
            values = coupling.symbol(self.workspace.transform)
            if coupling.first == coupling.second and np.iscomplexobj(values):
                values = values.real
            if coupling.amplitude.constant is not None:
                values = coupling.amplitude.constant * values
            total = values if total is None else total + values
        assert total is not None
        return total


def _workspace(couplings: Sequence[Coupling], bases: Bases, space: Space, count: int, in_blocks: bool) -> Workspace:
    if not in_blocks:
        return WholeGrid(bases, space, count)
    furthest = zip(*(coupling.reach for coupling in couplings), strict=True)
    return Blocks(tuple(max(reaches) for reaches in furthest), space, count)


def _weight(coupling: Coupling) -> float:
    constant = coupling.amplitude.constant
    return coupling.weight * (1.0 if constant is None else abs(constant))


def _present(transform: Transform, space: Space) -> tuple[int, ...]:
    """Modes on the axes that the grid has."""
    return transform.modes[3 - space.layout.dimension :]
