"""Whole steps by the local force: the recursions of fixed-step methods, each step one sweep, or several steps in one.

See `codegen.marching` for the sweeps. They exist where filled ghosts are all that walls need and the cost is arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sftsolve.kernels.local import LARGE, LocalForce
from sftsolve.loops import boxes
from sftsolve.parallel import slabs
from sftsolve.state import State

# Steps that a plane takes at once at most, and bytes that the rows between them may take of the caches. It is measured: what a
# core's own second-level cache holds is not the limit. Forces that reach farther take as long to compute as memory takes.
DEEPEST, ROOM, FARTHEST = 8, 1 << 21, 3


class Strides:
    """The sweeps of a local force that change the fields themselves.

    Parameters
    ----------
    local : the force
    fill : fills the ghosts of a state at a time, or those that are not at the ends of rows

    Attributes
    ----------
    swings : whether there is `swing`, as on two or three axes
    """

    def __init__(self, local: LocalForce, fill: Callable[..., None]):
        self._local, self._fill, self._module = local, fill, local.module
        self.swings = "swing" in local.wide
        plan, layout, grid = local.plan, local.layout, local.grid
        self._flat = grid.dimension == 2  # seen as planes of one row
        region, parts = boxes.whole(layout), slabs(grid.size)
        planes = (region[1], (0, 1), region[2]) if self._flat else region
        self._flows, self._swings = boxes.for_steps(planes, parts, 0), boxes.for_steps(planes, parts, plan.force_reach)
        # Ghosts that a sweep in place leaves as they are to be at both ends of a row.
        self._round = layout.halo[2] if "x" not in grid.walls else 0
        self._sums = self._partial(layout.padded[1] if self._flat else layout.padded[0], int(self._flows[0][:, 8].max()) + 1)
        self._march = _March(local, parts) if "march" in local.wide else None

    def flow(self, start: State, end: State, spare: State, rates: Sequence[float], t: float | None = None) -> np.ndarray:
        """w <- w + rate_n F(w) for all rates in turn, F = -dC/dw, from `start` into `end`: 24 bytes a cell and step for one field
        and source. On large planes of periodic axes several steps are one sweep.

        Parameters
        ----------
        start : its ghosts are refreshed, all else stays as it is
        spare : a third state, overwritten if there are several rates
        t : physical time of the forces; that of `start` by default

        Returns
        -------
        The sum of F^2 over fields and cells before each step, (n,); not finite if anything was not
        """
        t, large = start.t if t is None else t, start.storage.nbytes > LARGE
        depth = self._march.depth if self._march is not None and large else 1
        passes = -(-len(rates) // depth)
        cuts = [len(rates) * number // passes for number in range(passes + 1)]
        found, source = [], start
        for number, (first, last) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
            target = spare if (passes - number) % 2 == 0 else end
            self._fill(source, t, True)
            factors = np.array(rates[first:last], np.float64)
            if last - first > 1 and self._march is not None:
                found.append(self._march(source.storage, target.storage, factors, self._local.at(t)))
            else:
                found.append(self._flow(source.storage, target.storage, factors, t, large))
            source = target
        return np.concatenate(found)

    def swing(self, state: State, factors: np.ndarray, t: float | None = None) -> np.ndarray:
        """u <- keep u + push F, u <- keep' u + push' F with one F = -dC/dw, w <- w + move u, in place, for each row of factors.

        A step of leapfrog is the kick that ends the step before, the one that begins it, and the drift: 32 bytes a cell.

        Parameters
        ----------
        factors : (n, 5), keep, push, keep', push', move
        t : physical time of the forces; the state's own by default

        Returns
        -------
        The sum of u^2 over fields and cells between each two kicks, (n,); not finite if anything was not
        """
        t, found = state.t if t is None else t, np.empty(len(factors))
        storage, momentum, sources = self._planes(state.storage), self._planes(state.momentum), self._planes(self._local.arrays)
        table, cuts, edges = self._swings
        driver = self._module.swing if len(cuts) == 2 else self._module.swing_threads
        for number, row in enumerate(factors):
            self._fill(state, t, number == 0 or not self._round)
            self._sums.fill(0.0)
            driver(storage, momentum, sources, self._local.at(t), row, self._round, self._sums, table, cuts, edges)
            found[number] = _total(self._sums[0])
        return found

    def _flow(self, w: np.ndarray, out: np.ndarray, factors: np.ndarray, t: float, large: bool) -> np.ndarray:
        arguments = self._planes(w), self._planes(self._local.arrays), self._local.at(t), self._planes(out), factors[0]
        table, cuts, _ = self._flows
        driver = self._module.flow if len(cuts) == 2 else self._module.flow_threads
        self._sums.fill(0.0)
        driver(*arguments, True if large else None, self._sums, table, cuts)
        return np.array([_total(self._sums[0])])

    def _planes(self, array: Any) -> np.ndarray:
        return array.reshape(len(array), array.shape[2], 1, array.shape[3]) if self._flat else array

    def _partial(self, planes: int, blocks: int) -> np.ndarray:
        """Room for partial sums, by plane, block of rows and lane."""
        layout = self._local.layout
        return np.zeros((1, planes, blocks, self._local.plan.least[2]), layout.dtype)


class _March:
    """Several steps of a flow in one pass over a plane of periodic axes.

    Attributes
    ----------
    depth : how many
    """

    def __init__(self, local: LocalForce, parts: int):
        layout, reach = local.layout, local.plan.force_reach
        self._module, self._arrays = local.module, local.arrays
        (_, ny, nx), (_, y0, x0) = layout.shape, layout.offset
        parts = max(1, min(parts, ny // 2))
        # Even slabs, so that pairs of rows fit in them.
        self._cuts = np.array([y0 + (ny if part == parts else ny * part // parts // 2 * 2) for part in range(parts + 1)])
        height = 2 * reach + 2 + ny % 2
        count, arrays, row = len(local.plan.names.fields), len(local.plan.names.arrays), layout.padded[2] * self._arrays.itemsize
        # A step more takes its rows between two steps, and as many rows of the sources as it is behind.
        fitting = 1 + ROOM // ((count * height + arrays * max(reach, 1)) * row)
        self.depth = int(min(DEEPEST, fitting)) if reach <= FARTHEST else 1
        self._rings = np.zeros((parts, max(self.depth - 1, 1), count, 1, height, layout.padded[2]), layout.dtype)
        self._sums = np.zeros((1, self.depth, layout.padded[1] + 1, local.plan.least[2]), layout.dtype)
        self._geometry = (y0, ny, x0, x0 + nx, layout.halo[2], reach)

    def __call__(self, w: np.ndarray, out: np.ndarray, factors: np.ndarray, scalars: np.ndarray) -> np.ndarray:
        """Steps of these rates from `w`, whose x ghosts are filled, into `out`; the sums of F^2 before each."""
        driver = self._module.march if len(self._cuts) == 2 else self._module.march_threads
        driver(w, self._arrays, scalars, out, factors, self._rings, self._sums, self._cuts, *self._geometry)
        return np.array([_total(sums[:-1]) for sums in self._sums[0, : len(factors)]])


def _total(sums: np.ndarray) -> float:
    """All of what lanes have summed up, which need not be finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sum(sums, dtype=np.float64))
