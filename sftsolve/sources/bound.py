"""All sources of an action on a grid, at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sftsolve.grid import Grid
from sftsolve.sources.arrays import on_grid
from sftsolve.sources.moving import Form, Moving, TimeSource
from sftsolve.sources.static import Source


def moving(source: Source, grid: Grid, parameters: Mapping[str, float]) -> TimeSource | None:
    """The source, if it changes in time."""
    return source if isinstance(source, TimeSource) and source.moves(grid, parameters) else None


def forms(sources: Mapping[str, Source], grid: Grid, parameters: Mapping[str, float]) -> dict[str, Form]:
    """How every source that moves enters the density, by name."""
    found = {name: moving(source, grid, parameters) for name, source in sources.items()}
    return {name: source.form(name, grid, parameters) for name, source in found.items() if source is not None}


def bytes_of(source: Source, grid: Grid) -> float:
    """Bytes that a source holds beside the arrays that a run makes of it."""
    count = getattr(source, "bytes_on", None)
    return 0.0 if count is None else float(count(grid))


class BoundSources:
    """Values of all sources: arrays to be written once or on change, and scalars that belong to a time.

    Parameters
    ----------
    sources : by name
    grid, parameters : where they are evaluated
    t : the moment to begin with
    """

    def __init__(self, sources: Mapping[str, Source], grid: Grid, parameters: Mapping[str, float], t: float = 0.0):
        self._grid, self._parameters = grid, dict(parameters)
        self._static: dict[str, Source] = {}
        self._moving: dict[str, Moving] = {}
        for name, source in sources.items():
            mover = moving(source, grid, parameters)
            if mover is None:
                self._static[name] = source
            else:
                self._moving[name] = mover.bind(name, grid, parameters)
        self._owners = {array: source for source in self._moving.values() for array in source.form.arrays}
        self.enter(t)

    @property
    def time_dependent(self) -> bool:
        """Whether any of them moves."""
        return bool(self._moving)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Names of all hidden scalars, in the order of `scalars`."""
        return tuple(name for source in self._moving.values() for name in source.form.scalars)

    def scalars(self, t: float) -> list[float]:
        """Values of the hidden scalars at t, by the pieces at hand."""
        return [value for source in self._moving.values() for value in source.scalars(t)]

    def rates(self, t: float) -> list[float]:
        """Derivatives of the hidden scalars by time at t, by the pieces at hand; NaN where they are not known."""
        return [value for source in self._moving.values() for value in source.rates(t)]

    def write(self, name: str, out: np.ndarray) -> None:
        """Write a source that does not move, or a hidden array, into `out` of the grid's shape.

        Raises
        ------
        GridError : wrong shape, or values that are not finite
        """
        if name in self._owners:
            self._owners[name].write(name, out)
        else:
            out[...] = on_grid(self._grid, name, self._static[name].values(self._grid, self._parameters))

    def enter(self, t: float) -> list[str]:
        """Take up the pieces that hold t, the later one where two meet; names of the arrays that changed."""
        return [name for source in self._moving.values() for name in source.enter(t)]

    def follow(self, t: float) -> Sequence[str]:
        """Take up the pieces that hold t where those at hand do not, their ends included; names of the arrays that changed."""
        return [name for source in self._moving.values() for name in source.follow(t)] if self._moving else ()

    def switches(self, first: float, last: float) -> list[float]:
        """Times inside (first, last) where some source is not smooth, sorted."""
        return sorted({time for source in self._moving.values() for time in source.switches(first, last)})

    def check(self, first: float, last: float) -> None:
        """Refuse a run over times at which some source has no value."""
        for source in self._moving.values():
            source.check(first, last)
