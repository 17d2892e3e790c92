"""A kernel k(x - y) on a grid: its weights by displacement, from an expression or an array, and what is known of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from sftsolve.algebra import leaves
from sftsolve.errors import ActionError, ExpressionError, GridError
from sftsolve.expression import evaluate, parse
from sftsolve.grid import AXES, Grid
from sftsolve.kernels.amplitude import numbers
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import check_finite
from sftsolve.loops.convolution import MIRROR, PERIODIC, ZERO

WALLS = {"zero": ZERO, "mirror": MIRROR}
_ROUNDING = float(np.finfo(np.float64).eps)
_PIECE = 1 << 18  # displacements at which an expression is evaluated at once
# On the rim of a walled box a kernel must have fallen below this share of its largest value.
_DECAYED = 0.5


@dataclass(frozen=True, eq=False)
class Stencil:
    """Weights K_m = h^d k(m h) of a box of displacements m, in cells.

    Attributes
    ----------
    values : weights, one axis a grid axis
    lowest : displacement of the first weight on each axis
    """

    values: np.ndarray
    lowest: tuple[int, ...]

    @property
    def highest(self) -> tuple[int, ...]:
        """Displacement of the last weight on each axis."""
        return tuple(low + n - 1 for low, n in zip(self.lowest, self.values.shape, strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Largest |displacement| on each axis."""
        return tuple(max(-low, high, 0) for low, high in zip(self.lowest, self.highest, strict=True))

    @property
    def weight(self) -> float:
        """sum_m |K_m|, a bound of the convolution's norm."""
        return float(np.abs(self.values).sum())

    def transposed(self) -> Stencil:
        """K_-m: the convolution's adjoint."""
        return Stencil(self.values[(slice(None, None, -1),) * self.values.ndim], tuple(-high for high in self.highest))

    def __add__(self, other: Stencil) -> Stencil:
        lowest = tuple(map(min, self.lowest, other.lowest))
        highest = tuple(map(max, self.highest, other.highest))
        values = np.zeros([high - low + 1 for low, high in zip(lowest, highest, strict=True)])
        for part in (self, other):
            starts = [own - low for own, low in zip(part.lowest, lowest, strict=True)]
            values[tuple(slice(start, start + n) for start, n in zip(starts, part.values.shape, strict=True))] += part.values
        return Stencil(values, lowest)

    def balanced(self, circles: Sequence[int]) -> Stencil:
        """The same convolution on circles of so many cells (0 for a line), half a circle shared by both signs.

        A circle of even length has one displacement of half its length, listed once; shared, an even kernel is an even stencil.
        """
        values, lowest = self.values, self.lowest
        for axis, length in enumerate(circles):
            if length % 2 == 0 and values.shape[axis] == length:
                half = 0.5 * values.take([0], axis)
                inner = values.take(range(1, length), axis)
                values = np.concatenate([half, inner, half], axis)
        return Stencil(values, lowest)

    def trimmed(self) -> Stencil:
        """Without the outer weights that together are less than a rounding error of all."""
        size = np.abs(self.values)
        allowed = 0.5 * _ROUNDING * size.sum() / (2 * size.ndim)
        cut = []
        for axis in range(size.ndim):
            slabs = size.sum(axis=tuple(other for other in range(size.ndim) if other != axis))
            cut.append(_without_ends(slabs, allowed))
        values = np.ascontiguousarray(self.values[tuple(slice(*ends) for ends in cut)])
        return Stencil(values, tuple(low + start for low, (start, _) in zip(self.lowest, cut, strict=True)))

    def is_even(self, axis: int | None = None) -> bool:
        """Whether K_m = K_-m, for one axis or for all together, up to rounding."""
        flipped = self.transposed()
        if axis is not None:
            lowest = tuple(flipped.lowest[n] if n == axis else low for n, low in enumerate(self.lowest))
            flipped = Stencil(np.flip(self.values, axis), lowest)
        return self._is(flipped)

    def even_part(self) -> Stencil:
        """(K_m + K_-m) / 2."""
        both = self + self.transposed()
        return Stencil(0.5 * both.values, both.lowest)

    def is_alike(self, first: int, second: int) -> bool:
        """Whether two axes may be exchanged, up to rounding."""
        lowest = list(self.lowest)
        lowest[first], lowest[second] = lowest[second], lowest[first]
        return self._is(Stencil(self.values.swapaxes(first, second), tuple(lowest)))

    def _is(self, other: Stencil) -> bool:
        difference = self + Stencil(-other.values, other.lowest)
        return difference.weight <= 32 * _ROUNDING * self.weight

    def factors(self) -> tuple[np.ndarray, ...] | None:
        """One array an axis whose outer product the weights are up to rounding; None where they are no product."""
        pivot = np.unravel_index(int(np.argmax(np.abs(self.values))), self.values.shape)
        peak = self.values[pivot]
        if peak == 0.0:
            return None
        lines = []
        for axis in range(self.values.ndim):
            line = self.values[tuple(slice(None) if n == axis else pivot[n] for n in range(self.values.ndim))]
            lines.append(line if axis == 0 else line / peak)
        rest = self.values - reduce(np.multiply.outer, lines)
        return tuple(lines) if np.abs(rest).sum() <= 32 * _ROUNDING * self.weight else None

    def wrapped(self, lengths: Sequence[int]) -> np.ndarray:
        """Weights on circles of so many cells, displacement zero first; weights that meet add up."""
        out = np.zeros(lengths)
        indices = [(low + np.arange(n)) % p for low, n, p in zip(self.lowest, self.values.shape, lengths, strict=True)]
        if all(n <= p for n, p in zip(self.values.shape, lengths, strict=True)):
            out[np.ix_(*indices)] = self.values
        else:
            np.add.at(out, np.ix_(*indices), self.values)
        return out


class Profile:
    """What a user gave for k: an expression of the displacement, or an array, before it meets a grid.

    Parameters
    ----------
    kernel : the class, for messages
    k : an expression of the displacements x, y, z and their length r, or an array
    parameters : numbers in the expression
    centred : of an array of the shape of a periodic grid, whether displacement zero stands in the middle (index n // 2)
        and not first

    Raises
    ------
    ActionError, ExpressionError : not finite, no array of numbers, or outside the language
    """

    def __init__(self, kernel: str, k: Any, parameters: Mapping[str, float] | None, centred: bool):
        self.kernel = kernel
        self.parameters = numbers(kernel, parameters, (*AXES, "r", "t"))
        self.text: str | None = k if isinstance(k, str) else None
        self.centred = centred
        if self.text is not None:
            self._tree = parse(self.text, [*AXES, "r", *self.parameters], f"the kernel of {kernel}")
            return
        self.array = np.asarray(k)
        if not 1 <= self.array.ndim <= 3 or self.array.size == 0:
            raise ActionError(
                f"the kernel of {kernel} is not understood",
                expected='an expression such as "exp(-r**2/2)", or an array with one axis a grid axis',
                given=f"shape {self.array.shape}",
            )
        check_finite(f"the kernel of {kernel}", self.array)

    @property
    def nbytes(self) -> float:
        """Bytes of what was given."""
        return 0.0 if self.text is not None else float(self.array.nbytes)

    def on(self, grid: Grid, ends: tuple[int, ...]) -> Stencil:
        """Weights on a grid; `ends` has one of `PERIODIC`, `ZERO`, `MIRROR` an axis of the grid.

        Raises
        ------
        GridError : an array that does not fit, a kernel that is not even at a mirror, more memory than there is
        ActionError : values that are not finite, or that do not decay towards the rim of a walled box
        """
        stencil = self._placed(grid, ends) if self.text is None else self._sampled(grid, ends)
        circles = [{PERIODIC: n, MIRROR: 2 * n}.get(end, 0) for n, end in zip(grid.shape, ends, strict=True)]
        stencil = Stencil(stencil.values * grid.cell_volume, stencil.lowest).balanced(circles).trimmed()
        for number, (axis, end) in enumerate(zip(grid.axes, ends, strict=True)):
            if end == MIRROR and not stencil.is_even(number):
                raise GridError(
                    f"the kernel of {self.kernel} is not even along {axis}, which ends in mirrors",
                    expected=f"k(-{axis}) = k({axis}), since a mirror turns one into the other",
                    remedy='take walls="zero"',
                )
        return stencil

    def sampled(self, grid: Grid, ends: tuple[int, ...]) -> Stencil:
        """Weights at some displacements of either sign, in a row: enough to tell symmetries from. An array is taken whole."""
        if self.text is None:
            circles = [n if end == PERIODIC else 0 for n, end in zip(grid.shape, ends, strict=True)]
            return self._placed(grid, ends).balanced(circles)
        far = [max(1, int(_displacements(n, end)[-1])) for n, end in zip(grid.shape, ends, strict=True)]
        steps = [np.unique(np.rint(np.geomspace(1, most, 8)).astype(np.int64)) for most in far]
        ranges = [np.concatenate([-m[::-1], [0], m]) for m in steps]
        return Stencil(np.concatenate([values for _, values in self._pieces(grid, ranges)]), tuple(-len(m) for m in steps))

    def _sampled(self, grid: Grid, ends: tuple[int, ...]) -> Stencil:
        """The expression on all displacements that matter: it is evaluated piece by piece, and twice, so that no more is held."""
        lacking = sorted({leaf.text for leaf in leaves(self._tree)} & set(AXES) - set(grid.axes))
        if lacking:
            raise ExpressionError(
                f"the kernel of {self.kernel} names an axis that the grid lacks",
                expected=f"an expression of {', '.join(grid.axes)} and r",
                given=", ".join(lacking),
            )
        ranges = [_displacements(n, end) for n, end in zip(grid.shape, ends, strict=True)]
        profiles, largest = [np.zeros(len(m)) for m in ranges], 0.0
        peaks = [np.zeros(len(m)) for m in ranges]
        for start, values in self._pieces(grid, ranges):
            self._check_finite(values, ranges, start)
            size = np.abs(values)
            for axis, (profile, peak) in enumerate(zip(profiles, peaks, strict=True)):
                place = slice(start, start + len(size)) if axis == 0 else slice(None)
                others = tuple(other for other in range(size.ndim) if other != axis)
                profile[place] += size.sum(axis=others)
                np.maximum(peak[place], size.max(axis=others), out=peak[place])
            largest = max(largest, float(size.max()))
        self._check_decay(peaks, largest, grid, ends)
        # Half of what `Stencil.trimmed` may leave out; it has the last word.
        allowed = 0.25 * _ROUNDING * profiles[0].sum() / (2 * len(ranges))
        kept = [m[slice(*_without_ends(profile, allowed))] for m, profile in zip(ranges, profiles, strict=True)]
        size = float(np.prod([len(m) for m in kept]))
        Estimate(0.0, 0.0, 8.0 * size).require(f"the kernel of {self.kernel}", remedy="give the kernel as a small array")
        weights = np.empty([len(m) for m in kept])
        for start, values in self._pieces(grid, kept):
            weights[start : start + len(values)] = values
        return Stencil(weights, tuple(int(m[0]) for m in kept))

    def _pieces(self, grid: Grid, ranges: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Values on a box of displacements, some planes of its first axis at a time: (number of the first, values)."""
        step = max(1, _PIECE // max(1, math.prod(len(m) for m in ranges[1:])))
        for start in range(0, len(ranges[0]), step):
            part = [ranges[0][start : start + step], *ranges[1:]]
            mesh = dict(zip(grid.axes, np.ix_(*[m * h for m, h in zip(part, grid.spacing, strict=True)]), strict=True))
            with np.errstate(all="ignore"):
                values = evaluate(self._tree, {**self.parameters, **mesh, "r": np.sqrt(sum(x**2 for x in mesh.values()))})
            yield start, np.broadcast_to(np.asarray(values, float), [len(m) for m in part])

    def _check_finite(self, values: np.ndarray, ranges: Sequence[np.ndarray], start: int) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            where = np.unravel_index(int(np.argmax(bad)), values.shape)
            index = (int(where[0]) + start, *(int(i) for i in where[1:]))
            raise ActionError(
                f"the kernel of {self.kernel} is not finite",
                expected="finite values at every displacement",
                given=f"{values[where]} at displacement {tuple(int(m[i]) for m, i in zip(ranges, index, strict=True))} (cells)",
                remedy="soften it, such as 1/sqrt(r**2 + e**2) for 1/r",
            )

    def _check_decay(self, peaks: Sequence[np.ndarray], largest: float, grid: Grid, ends: tuple[int, ...]) -> None:
        """Look at the rim of the box; `peaks` are the largest sizes by displacement along each axis."""
        for number, (axis, end) in enumerate(zip(grid.axes, ends, strict=True)):
            if end == PERIODIC or len(peaks[number]) < 3:
                continue
            rim = float(max(peaks[number][0], peaks[number][-1]))
            if rim > _DECAYED * largest:
                raise ActionError(
                    f"the kernel of {self.kernel} does not decay on the walled axis {axis}",
                    expected=f"at most {_DECAYED * largest:.4g} at displacement {grid.length[number]:.4g}",
                    given=f"{rim:.4g}, where the largest value is {largest:.4g}",
                    remedy="shorten its range, give its values as an array (taken as it stands), or use LowRank or Dense",
                )

    def _placed(self, grid: Grid, ends: tuple[int, ...]) -> Stencil:
        shape = self.array.shape
        if shape == grid.shape and not self.centred and not any(ends):
            return Stencil(np.fft.fftshift(self.array.astype(np.float64)), tuple(-(n // 2) for n in shape))
        largest = [n if end == PERIODIC else 2 * n - 1 for n, end in zip(grid.shape, ends, strict=True)]
        whole = [n if end == PERIODIC and self.centred else -1 for n, end in zip(grid.shape, ends, strict=True)]
        fits = len(shape) == grid.dimension and all(
            n <= most and (n % 2 == 1 or n == all_of_it) for n, most, all_of_it in zip(shape, largest, whole, strict=True)
        )
        if not fits:
            raise GridError(
                f"the kernel of {self.kernel} has the wrong shape",
                expected=f"odd extents with the centre in the middle, at most {tuple(largest)}"
                + ("" if any(ends) else f", or the grid's shape {grid.shape} with displacement zero first"),
                given=f"shape {shape}",
            )
        return Stencil(self.array.astype(np.float64), tuple(-(n // 2) for n in shape))

    def __repr__(self) -> str:
        return repr(self.text) if self.text is not None else f"k{self.array.shape}"


def _without_ends(slabs: np.ndarray, allowed: float) -> tuple[int, int]:
    """First and last (excluded) of sizes that remain where no more than `allowed` is left out at each end."""
    first = int(np.searchsorted(np.cumsum(slabs), allowed, side="right"))
    last = int(np.searchsorted(np.cumsum(slabs[::-1]), allowed, side="right"))
    return (0, 1) if first >= len(slabs) else (first, len(slabs) - last)


def _displacements(n: int, end: int) -> np.ndarray:
    """Displacements, in cells, that an axis of n cells tells apart."""
    first, last = {PERIODIC: (-(n // 2), (n - 1) // 2), ZERO: (1 - n, n - 1), MIRROR: (-n, n - 1)}[end]
    return np.arange(first, last + 1)


def ends_of(kernel: str, walls: object, grid: Grid) -> tuple[int, ...]:
    """What a convolution finds beyond the ends of each axis.

    Raises
    ------
    GridError : walls that are not understood
    """
    spec = walls if isinstance(walls, Mapping) else dict.fromkeys(grid.axes, walls)
    for axis, name in spec.items():
        if axis not in AXES or name not in WALLS:
            raise GridError(
                f"walls= of {kernel} is not understood",
                expected='"zero", "mirror" or a mapping from axes to these',
                given=repr(walls),
            )
    return tuple(WALLS[str(spec.get(axis, "zero"))] if axis in grid.walls else PERIODIC for axis in grid.axes)
