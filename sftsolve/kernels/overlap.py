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
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy import fft

from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.providers import provider
from sftsolve.kernels.stencil import Stencil
from sftsolve.kernels.workspaces import Mixing, Spectral
from sftsolve.loops import convolution
from sftsolve.loops import overlap as loops
from sftsolve.loops.spectral import PIECE
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
    """

    points: int
    own: int
    margin: int


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
    def of(cls, reach: tuple[int, ...], space: Space) -> Plan:
        """The plan for stencils of some reach, a number an axis of the grid."""
        reach = (0,) * (3 - len(reach)) + reach
        cells, item = space.layout.shape, np.dtype(space.layout.dtype).itemsize
        cuts = _cuts(tuple(zip(cells, space.ends, reach, strict=True)), item, BLOCK_BYTES)
        axes = tuple(axis for axis in range(3) if reach[axis]) or (2,)
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


@lru_cache(maxsize=64)
def _cuts(axes: tuple[tuple[int, int, int], ...], item: int, cache: int) -> tuple[Cut, Cut, Cut]:
    """The cut of each axis (cells, end, reach) that takes least work in blocks that fit the cache."""
    steps = (8, 10, 12, 14) if sum(n > 1 for n, *_ in axes) == 1 else (8, 12)

    def price(chosen: tuple[Cut, ...]) -> float:
        points = math.prod(cut.points for cut in chosen)
        blocks = math.prod(-(-n // cut.own) for (n, *_), cut in zip(axes, chosen, strict=True))
        depth = sum(math.log2(cut.points) + _AXIS for cut, (*_, reach) in zip(chosen, axes, strict=True) if reach)
        too_large = max(1.0, 2 * points * item * _least_group(chosen) / cache)
        return blocks * (points * (depth + 1.0) * too_large + 1e3 + 20.0 * points / chosen[2].points)

    z, y, x = min(product(*(_choices(*axis, steps) for axis in axes)), key=price)
    return z, y, x


def _choices(n: int, end: int, reach: int, steps: tuple[int, ...]) -> list[Cut]:
    """An axis in one block, and in blocks of a few lengths that transform quickly."""
    if end == convolution.PERIODIC or not reach:
        whole = Cut(n, n, 0)
    elif end == convolution.ZERO:
        whole = Cut(_quick(n + reach), n, 0)
    else:
        whole = Cut(_quick(n + 2 * reach), n, reach)
    lengths = {_quick((_SHORTEST * step << power) // 8) for step in steps for power in range(n.bit_length())}
    shorter = sorted(p for p in lengths if 2 * reach < p < min(whole.points, n))
    return [whole, *(Cut(p, p - 2 * reach, reach) for p in shorter)]


def _quick(points: int) -> int:
    return int(fft.next_fast_len(points, real=True))


class BlockTransform:
    """Transforms of groups of blocks, (n, Z, Y, X), along the axes of a plan.

    Attributes
    ----------
    modes : shape of a block's spectrum
    """

    def __init__(self, plan: Plan, dtype: Any):
        self.plan, self.modes, self.dtype = plan, plan.modes, np.dtype(dtype)
        self.spectrum_dtype = np.result_type(self.dtype, np.complex64)
        self._provider = provider(1)
        self._real, self._others = plan.axes[-1] + 1, [axis + 1 for axis in plan.axes[-2::-1]]

    def forward(self, work: np.ndarray, spectra: np.ndarray) -> None:
        """Points to modes."""
        self._provider.forward_real(work, self._real, spectra)
        for axis in self._others:
            self._provider.along(spectra, axis, True)

    def backward(self, spectra: np.ndarray, work: np.ndarray) -> None:
        """Modes to points; the spectra are lost."""
        for axis in self._others[::-1]:
            self._provider.along(spectra, axis, False)
        self._provider.backward_real(spectra, self._real, work)

    def symbol(self, weights: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Factor by which a convolution multiplies each mode of a block, see `Transform.symbol`."""
        circles = tuple(n if axis in self.plan.axes else 1 for axis, n in enumerate(self.plan.points))
        return np.broadcast_to(fft.rfftn(weights(circles), axes=self.plan.axes), self.modes)


class Blocks:
    """The workspace of a plan: work and `count` spectra of a group of blocks, once a thread."""

    def __init__(self, reach: tuple[int, ...], space: Space, count: int):
        self.plan = plan = Plan.of(reach, space)
        self.transform = BlockTransform(plan, space.layout.dtype)
        shape = np.array(space.layout.shape)
        starts = np.array(list(product(*(range(0, n, cut.own) for n, cut in zip(shape, plan.cuts, strict=True)))), np.int64)
        own, loaded = ([getattr(cut, name) for cut in plan.cuts] for name in ("own", "points"))
        margin = np.array([cut.margin for cut in plan.cuts])
        self._boxes = np.stack([starts, np.minimum(starts + own, shape)], axis=2).reshape(-1, 6)
        self._reads = np.stack([starts, starts + loaded - 2 * margin], axis=2).reshape(-1, 6)
        self._place = space.place(tuple(margin))
        self._work = np.zeros((plan.parts, plan.group, *plan.points), self.transform.dtype)
        kind = self.transform.spectrum_dtype
        self._spectra = np.empty((plan.parts, plan.group, count, *plan.modes), kind)
        self._flat = self._spectra.reshape(plan.parts, plan.group, count, -1)
        self._results = np.empty((plan.parts, count, PIECE), kind)
        self._sums = np.zeros((count, plan.blocks))

    def add(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side], scale: float) -> None:
        """See `Workspace`."""
        self._run(sources, mixing, targets, self.transform.dtype.type(scale), True)

    def dot(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side]) -> float:
        """See `Workspace`."""
        self._run(sources, mixing, targets, 1.0, False)
        return float(np.sum(self._sums[: len(targets)]))

    def _run(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side], scale: float, adding: bool) -> None:
        """Threads take groups from a queue until there are none; which one takes a group is all the same to the group."""
        queue = deque(range(0, self.plan.blocks, self.plan.group))

        def work_off(part: int) -> None:
            while queue:
                try:
                    start = queue.popleft()
                except IndexError:  # another thread was quicker
                    return
                blocks = slice(start, min(start + self.plan.group, self.plan.blocks))
                self._convolve(part, blocks, sources, mixing)
                self._finish(part, blocks, targets, scale, adding)

        side_by_side(work_off, self.plan.parts)

    def _convolve(self, part: int, blocks: slice, sources: Sequence[Side], mixing: Mixing) -> None:
        n = blocks.stop - blocks.start
        work, spectra = self._work[part, :n], self._spectra[part, :n]
        for slot, source in enumerate(sources):
            loops.fill(work, tuple(source), self._place, self._reads[blocks])
            self.transform.forward(work, spectra[:, slot])
        loops.mix(self._flat[part, :n], *mixing, self._results[part])

    def _finish(self, part: int, blocks: slice, targets: Sequence[Side], scale: float, adding: bool) -> None:
        n = blocks.stop - blocks.start
        work, spectra = self._work[part, :n], self._spectra[part, :n]
        for slot, target in enumerate(targets):
            self.transform.backward(spectra[:, slot], work)
            if adding:
                loops.add(work, tuple(target), self._place, self._boxes[blocks], scale)
            else:
                loops.dot(work, tuple(target), self._place, self._boxes[blocks], self._sums[slot, blocks])

    @property
    def bytes(self) -> float:
        return float(self._work.nbytes + self._spectra.nbytes)


def in_blocks(stencil: Stencil, space: Space) -> Spectral:
    """The engine of a stencil in blocks."""
    return Spectral.inside(Blocks(stencil.reach, space, 1), stencil, space)
