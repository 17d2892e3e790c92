"""Convolutions between masked fields as an operator: what short stencils and modulated kernels are on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sftsolve.kernels.amplitude import Amplitude
from sftsolve.kernels.engines import Engine, Side, Space
from sftsolve.kernels.transforms import Basis
from sftsolve.state import State


@dataclass(frozen=True, eq=False)
class Link:
    """The force  -g(t) X (K * (Y w))  on one field from another (or the same) one.

    Attributes
    ----------
    source, target : numbers of the fields
    before, after : the masks Y and X, without elements for one
    engine : K
    share : the part of  g(t) h^d <X w_target, K * (Y w_source)>  that this link has in the cost
    """

    source: int
    target: int
    before: np.ndarray
    after: np.ndarray
    engine: Engine
    share: float


class Linked:
    """A sum of links with one amplitude and one reference.

    Parameters
    ----------
    bound : upper bound of |eigenvalues| of F' at amplitude one
    symbol : F' per mode, asked for when it is needed
    bases : the modes of the symbol
    """

    def __init__(
        self,
        links: Sequence[Link],
        amplitude: Amplitude,
        reference: np.ndarray | None,
        space: Space,
        volume: float,
        bound: float,
        symbol: Callable[[], np.ndarray | None],
        bases: tuple[Basis, Basis, Basis] | None = None,
    ):
        self.links, self.bases = tuple(links), bases
        self._amplitude, self._volume, self._bound, self._symbol = amplitude, volume, bound, symbol
        self._none = space.none(4)
        self._reference = self._none if reference is None else reference

    @property
    def time_dependent(self) -> bool:
        """Whether the amplitude varies."""
        return self._amplitude.constant is None

    def add_force(self, state: State, out: State, t: float) -> None:
        self._add(state, self._reference, out, t)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._add(direction, self._none, out, t)

    def energy(self, state: State, t: float) -> float:
        return self._amplitude.at(t) * self._product(state)

    def power(self, state: State, t: float) -> float:
        """dg/dt times what the cost is at amplitude one."""
        return self._amplitude.rate(t) * self._product(state)

    def _product(self, state: State) -> float:
        total = 0.0
        for link in self.links:
            if link.share:
                source = Side(state.storage, link.source, self._reference, link.before)
                target = Side(state.storage, link.target, self._reference, link.after)
                total += link.share * link.engine.dot(source, target)
        return self._volume * total

    def symbol(self) -> np.ndarray | None:
        return self._symbol()

    def bound(self, t: float = 0.0) -> float:
        """The norms of the masks and of the stencil's weights, times the amplitude."""
        return abs(self._amplitude.at(t)) * self._bound

    def _add(self, state: State, reference: np.ndarray, out: State, t: float) -> None:
        scale = -self._amplitude.at(t)
        for link in self.links:
            source = Side(state.storage, link.source, reference, link.before)
            link.engine.add(source, Side(out.storage, link.target, self._none, link.after), scale)
