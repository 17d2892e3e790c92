"""Small runs with known numbers for the tests of sftsolve.output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sftsolve.grid import Grid
from sftsolve.output import HDF5Writer, MemoryWriter, Result, RunDescription, Stats

SHAPES = [(7,), (6, 5), (3, 4, 5)]
STATS = Stats(steps=12, rejected=3, force_evaluations=40, linear_solves=5, wall_time=0.25, method="rk32")


@dataclass
class Run:
    """Numbers of a run and its result."""

    grid: Grid
    t: np.ndarray
    tau: np.ndarray
    w: np.ndarray
    v: np.ndarray
    rows: np.ndarray
    result: Result


def make_run(shape: tuple[int, ...], path: Path | None = None, levels: int = 4, **options: Any) -> Run:
    """Write random snapshots, the interior of arrays with a halo, and as many rows of two time series."""
    grid = Grid(shape, [2.0 + n for n in range(len(shape))], origin=[-1.0 - n for n in range(len(shape))])
    random = np.random.default_rng(7)
    interior = (slice(None), slice(None), *[slice(1, -1)] * len(shape))
    w, v = (random.standard_normal((levels, 2, *[n + 2 for n in shape]))[interior] for _ in range(2))
    t = np.cumsum(random.random(levels))
    tau = t / 7
    rows = random.standard_normal((levels, 2))
    writer = MemoryWriter() if path is None else HDF5Writer(path)
    with writer:
        writer.begin(RunDescription(grid, ("a", "b"), scalar_names=("cost", "norm"), **options))
        for level in range(levels):
            writer.snapshot(t[level], tau[level], w[level], v[level])
            writer.scalars(t[level], tau[level], tuple(rows[level]))
        result = writer.finish(STATS)
    return Run(grid, t, tau, w, v, rows, result)
