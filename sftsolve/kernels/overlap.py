"""Convolutions block by block: transforms that stay in the caches, of blocks that overlap by the reach of the stencil.

A block of p points along an axis holds p - 2 r cells of its own and r cells more on both sides; its circular convolution is the
grid's own on those cells, which nothing reaches across the block's ends (overlap-save: Stockham, "High-speed convolution and
correlation", AFIPS 28, 229, 1966; Oppenheim and Schafer, "Discrete-Time Signal Processing", section 8.7.3). The cells round a
block come from the same loads as those of direct sums, so that every kind of end is served alike.

One long transform of one axis has neither neighbours to share vectors and threads with nor room in the caches. Blocks have both,
and their scratch is that of a few of them, where a transform of the whole takes twice the grid. Axes along which the stencil has
no neighbours are not transformed at all.
"""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import fft

from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.stencil import Stencil
from sftsolve.kernels.transforms import provider
from sftsolve.loops import convolution
from sftsolve.loops import overlap as loops
from sftsolve.parallel import side_by_side

# What is transformed by one call, with its spectrum, should stay near a core: at most so much, and so much if there is a choice.
BLOCK_BYTES, GROUP_BYTES = 1 << 21, 1 << 19
_GROUPS = 8  # as many as share well among threads
_DIVIDED = 1 << 17  # points of all blocks from which on threads gain more than it takes to wake them
_SHORTEST = 16  # points of a block
_AXIS = 2.0  # what an axis' pass over a block costs besides its transforms, in levels of them


class Cut(NamedTuple):
    """How an axis is cut into blocks.

    Attributes
    ----------
    points : of a block
    own : cells of a block that are results; they follow `margin` points
    margin : cells that are loaded on both sides
    shift : middle of the stencil's displacements, by which a block is loaded further down
    """

    points: int
    own: int
    margin: int
    shift: int


class Plan(NamedTuple):
    """The blocks of a stencil's convolution. Cuts and groups are those of grid and stencil alone.

    Attributes
    ----------
    cuts : one an axis
    axes : those along which the stencil has neighbours, and blocks are transformed, the one of real numbers last
    blocks : how many there are
    group : how many are transformed by one call; rows that are alone in their block go in pairs, which share vectors
    parts : how many threads work on groups
    """

    cuts: tuple[Cut, Cut, Cut]
    axes: tuple[int, ...]
    blocks: int
    group: int
    parts: int

    @classmethod
    def of(cls, stencil: Stencil, space: Space) -> Plan:
        """The plan for a stencil on a grid."""
        values, lowest = space.deep(stencil)
        highest = tuple(low + n - 1 for low, n in zip(lowest, values.shape, strict=True))
        cells, item = space.layout.shape, np.dtype(space.layout.dtype).itemsize
        cuts = _cuts(tuple(zip(cells, space.ends, lowest, highest, strict=True)), item, BLOCK_BYTES)
        axes = tuple(axis for axis in range(3) if _reaches(lowest[axis], highest[axis])) or (2,)
        blocks = math.prod(-(-n // cut.own) for n, cut in zip(cells, cuts, strict=True))
        most = min(GROUP_BYTES // (2 * math.prod(cut.points for cut in cuts) * item), blocks // _GROUPS)
        group = min(blocks, max(_least_group(cuts), most - most % 2))
        divided = blocks * math.prod(cut.points for cut in cuts) >= _DIVIDED
        return cls(cuts, axes, blocks, group, min(space.parts, -(-blocks // group)) if divided else 1)

    @property
    def points(self) -> tuple[int, int, int]:
        """Shape of a block."""
        z, y, x = self.cuts
        return z.points, y.points, x.points

    @property
    def modes(self) -> tuple[int, int, int]:
        """Shape of a block's spectrum."""
        z, y, x = (n // 2 + 1 if axis == self.axes[-1] else n for axis, n in enumerate(self.points))
        return z, y, x

    @property
    def depth(self) -> float:
        """Sum of log2 of the transforms' lengths."""
        return sum(math.log2(self.points[axis]) for axis in self.axes)


def _least_group(cuts: tuple[Cut, ...]) -> int:
    return 2 if sum(cut.points > 1 for cut in cuts) == 1 else 1


def _reaches(low: int, high: int) -> bool:
    return (low, high) != (0, 0)


@lru_cache(maxsize=64)
def _cuts(axes: tuple[tuple[int, int, int, int], ...], item: int, cache: int) -> tuple[Cut, Cut, Cut]:
    """The cut of each axis (cells, end, lowest and highest displacement) that takes least work in blocks that fit the cache."""
    steps = (8, 10, 12, 14) if sum(n > 1 for n, *_ in axes) == 1 else (8, 12)
    transformed = [_reaches(low, high) for _, _, low, high in axes]

    def price(chosen: tuple[Cut, ...]) -> float:
        points = math.prod(cut.points for cut in chosen)
        blocks = math.prod(-(-n // cut.own) for (n, *_), cut in zip(axes, chosen, strict=True))
        depth = sum(math.log2(cut.points) + _AXIS for cut, along in zip(chosen, transformed, strict=True) if along)
        too_large = max(1.0, 2 * points * item * _least_group(chosen) / cache)
        return blocks * (points * (depth + 1.0) * too_large + 1e3 + 20.0 * points / chosen[2].points)

    z, y, x = min(product(*(_choices(*axis, steps) for axis in axes)), key=price)
    return z, y, x


def _choices(n: int, end: int, low: int, high: int, steps: tuple[int, ...]) -> list[Cut]:
    """An axis in one block, and in blocks of a few lengths that transform quickly."""
    margin, shift = (high - low + 1) // 2, (low + high) // 2
    if end == convolution.PERIODIC or not _reaches(low, high):
        whole = Cut(n, n, 0, 0)
    elif end == convolution.ZERO:
        whole = Cut(_quick(n + max(-low, high, 0)), n, 0, 0)
    else:
        whole = Cut(_quick(n + 2 * margin), n, margin, shift)
    lengths = {_quick((_SHORTEST * step << power) // 8) for step in steps for power in range(n.bit_length())}
    shorter = sorted(p for p in lengths if 2 * margin < p < min(whole.points, n))
    return [whole, *(Cut(p, p - 2 * margin, margin, shift) for p in shorter)]


def _quick(points: int) -> int:
    return int(fft.next_fast_len(points, real=True))


class Scratch:
    """What a convolution and its transpose share: symbol, blocks and their spectra, a set of them a thread."""

    def __init__(self, stencil: Stencil, space: Space):
        values, lowest = space.deep(stencil)
        self.plan = plan = Plan.of(stencil, space)
        self.dtype = np.dtype(space.layout.dtype)
        starts = product(*(range(0, n, cut.own) for n, cut in zip(space.layout.shape, plan.cuts, strict=True)))
        self.starts = np.array(list(starts), np.int64)
        stops = np.minimum(self.starts + np.array([cut.own for cut in plan.cuts]), space.layout.shape)
        self.boxes = np.stack([self.starts, stops], axis=2).reshape(-1, 6)
        self.sums = np.zeros(plan.blocks)
        self.work = np.zeros((plan.parts, plan.group, *plan.points), self.dtype)
        self.spectra = np.empty((plan.parts, plan.group, *plan.modes), np.result_type(self.dtype, np.complex64))
        self.place = space.place(tuple(cut.margin for cut in plan.cuts))
        self.provider = provider(1)
        self.real, self.others = plan.axes[-1] + 1, [axis + 1 for axis in plan.axes[-2::-1]]  # a group's first axis is the block
        # K on the circles of a block, its middle at displacement zero.
        moved = Stencil(values, tuple(low - cut.shift for low, cut in zip(lowest, plan.cuts, strict=True)))
        circles = [n if axis in plan.axes else 1 for axis, n in enumerate(plan.points)]
        symbol = fft.rfftn(moved.wrapped(circles), axes=plan.axes)
        whole = np.broadcast_to(symbol.real if stencil.is_even() else symbol, plan.modes)
        self.symbol = whole.astype(self.dtype if stencil.is_even() else self.spectra.dtype).reshape(-1)

    def reads(self, sign: int) -> np.ndarray:
        """Boxes from which the blocks are loaded: all cells that fill them, moved by the stencil's middle."""
        starts = self.starts - sign * np.array([cut.shift for cut in self.plan.cuts])
        extents = np.array([cut.points - 2 * cut.margin for cut in self.plan.cuts])
        return np.stack([starts, starts + extents], axis=2).reshape(-1, 6)


class Overlap:
    """Forward transforms of blocks, symbol, inverse transforms, a group of blocks after the other."""

    def __init__(self, scratch: Scratch, conjugate: bool = False):
        self._scratch, self._conjugate = scratch, conjugate
        self._reads = scratch.reads(-1 if conjugate else 1)

    @classmethod
    def of(cls, stencil: Stencil, space: Space) -> Overlap:
        """The engine of a stencil, with scratch of its own."""
        return cls(Scratch(stencil, space))

    def _run(self, source: Side, target: Side, scale: float, adding: bool) -> None:
        """Threads take groups from a queue until there are none; which one takes a group is all the same to the group."""
        scratch, plan = self._scratch, self._scratch.plan
        queue = deque(range(0, plan.blocks, plan.group))
        factor = scratch.dtype.type(scale)
        ends = tuple(source), tuple(target)

        def work_off(part: int) -> None:
            while queue:
                try:
                    start = queue.popleft()
                except IndexError:  # another thread was quicker
                    return
                self._group(ends, start, part, factor, adding)

        side_by_side(work_off, plan.parts)

    def _group(self, ends: tuple, start: int, part: int, factor: float, adding: bool) -> None:
        """Blocks from number `start` on."""
        scratch, (source, target) = self._scratch, ends
        stop = min(start + scratch.plan.group, scratch.plan.blocks)
        work, spectra = scratch.work[part, : stop - start], scratch.spectra[part, : stop - start]
        loops.fill(work, source, scratch.place, self._reads[start:stop])
        scratch.provider.forward_real(work, scratch.real, spectra)
        for axis in scratch.others:
            scratch.provider.along(spectra, axis, True)
        loops.multiply(spectra.reshape(stop - start, -1), scratch.symbol, self._conjugate)
        for axis in scratch.others[::-1]:
            scratch.provider.along(spectra, axis, False)
        scratch.provider.backward_real(spectra, scratch.real, work)
        boxes = scratch.boxes[start:stop]
        if adding:
            loops.add(work, target, scratch.place, boxes, factor)
        else:
            loops.dot(work, target, scratch.place, boxes, scratch.sums[start:stop])

    def add(self, source: Side, target: Side, scale: float) -> None:
        self._run(source, target, scale, True)

    def dot(self, source: Side, target: Side) -> float:
        self._run(source, target, 1.0, False)
        return float(np.sum(self._scratch.sums))

    def transposed(self) -> Overlap:
        return Overlap(self._scratch, not self._conjugate)
