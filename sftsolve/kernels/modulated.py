"""Convolutions between pointwise products: what a locally wired network gives exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.grid import Grid
from sftsolve.kernels import crossover
from sftsolve.kernels.amplitude import Amplitude
from sftsolve.kernels.convolution import checked_method, space_of
from sftsolve.kernels.engines import Space
from sftsolve.kernels.links import Link, Linked
from sftsolve.kernels.methods import make_engine
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import Reference, as_bank, check_shape, joined
from sftsolve.kernels.stencil import Profile, Stencil, ends_of
from sftsolve.kernels.trial import choose
from sftsolve.state import Layout


class Modulated:
    """The cost  g(t) sum_l int int X_l(x) k(x - y) Y_l(y) a(x) b(y)  between two fields, without a factor 1/2.

    The force on a is -g sum_l X_l (k * (Y_l b)) and on b the same with the adjoint; both act where a is b. Every l takes one
    convolution a field, one altogether where a is b and Y is X. A locally wired network whose weights are shared by no one gives
    such a kernel with X the inputs (the talk behind arXiv:2503.08827, sum_l X_l(x) k(x - y) X_l(y)).

    Parameters
    ----------
    first, second : the fields a and b, which may be the same
    X : (l, *grid.shape), not copied where it is a contiguous float64 array
    k : see `Convolution`, as are parameters, amplitude, walls, about, method and centred
    Y : the same shape; X by default

    Raises
    ------
    ActionError, ConfigError, ExpressionError : shapes that do not fit, not finite or not understood
    """

    def __init__(
        self,
        first: str,
        second: str,
        X: Any,
        k: Any,
        Y: Any = None,
        parameters: Mapping[str, float] | None = None,
        amplitude: str | float = 1.0,
        walls: str | Mapping[str, str] = "zero",
        about: Any = None,
        method: str = "auto",
        centred: bool = False,
    ):
        self.fields = joined("Modulated", first, second)
        self.first, self.second = first, second
        self.after = as_bank("X of Modulated", X, 1)
        self.before = self.after if Y is None or Y is X else as_bank("Y of Modulated", Y, 1)
        if self.before.shape != self.after.shape:
            raise ActionError(
                "Y of Modulated does not fit X", expected=f"shape {self.after.shape}", given=f"shape {self.before.shape}"
            )
        self.profile = Profile("Modulated", k, parameters, centred)
        self.amplitude = Amplitude("Modulated", amplitude, self.profile.parameters)
        self.about = Reference(self.fields, about)
        self.walls, self.method = walls, checked_method("Modulated", method)

    @property
    def _one_way(self) -> bool:
        """Whether one convolution an l is the whole force."""
        return len(self.fields) == 1 and self.before is self.after

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """One or two convolutions an l, and the masks."""
        layout = Layout.of(grid, 0, dtype)
        space, own = self._on(grid, layout)
        one = crossover.estimate(choose(self.method, own, space, try_out=False), own, space)
        count = len(self.after) * (1 if self._one_way else 2)
        banks = (self.after,) if self.before is self.after else (self.after, self.before)
        masks = float(sum(bank.size for bank in banks)) * np.dtype(dtype).itemsize
        given = one.given + self.profile.nbytes + sum(bank.nbytes for bank in banks if bank.dtype != dtype)
        flops, traffic = count * (one.flops + 2 * grid.size), count * (one.bytes + 16.0 * grid.size)
        return Estimate(flops, traffic, one.memory + masks + self.about.bytes_on(layout), given, one.making)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> Linked:
        """The operator on a grid.

        Raises
        ------
        GridError : X, k or w_ref do not fit the grid, or more memory than there is
        ActionError : k is not finite, or does not decay on a walled axis
        ConfigError : a method that this kernel does not have
        """
        check_shape("X of Modulated", self.after.shape[1:], grid)
        self.estimate(grid).require("Modulated", remedy="take fewer products at once, or a coarser grid")
        space, own = self._on(grid, layout)
        engine = make_engine(choose(self.method, own, space), own, space)
        after = self._masks(self.after, layout)
        before = after if self.before is self.after else self._masks(self.before, layout)
        a, b = fields.index(self.first), fields.index(self.second)
        links = []
        for x, y in zip(after, before, strict=True):
            if self._one_way:
                links.append(Link(a, a, x, x, engine, 0.5))
            else:
                links += [Link(b, a, y, x, engine, 1.0), Link(a, b, x, y, engine.transposed(), 0.0)]
        largest = [np.sqrt(np.einsum("lzyx,lzyx->zyx", bank, bank).max()) for bank in (after, before)]
        bound = float(largest[0] * largest[1]) * own.weight * (2.0 if a == b and not self._one_way else 1.0)
        reference = self.about.padded(fields, grid, layout)
        return Linked(links, self.amplitude, reference, space, grid.cell_volume, bound, lambda: None)

    def _on(self, grid: Grid, layout: Layout) -> tuple[Space, Stencil]:
        ends = ends_of("Modulated", self.walls, grid)
        stencil = self.profile.on(grid, ends)
        return space_of(layout, ends), stencil + stencil.transposed() if self._one_way else stencil

    def _masks(self, bank: np.ndarray, layout: Layout) -> np.ndarray:
        return np.ascontiguousarray(bank.reshape(len(bank), *layout.shape), layout.dtype)

    def __repr__(self) -> str:
        return f"Modulated({self.first!r}, {self.second!r}, X{self.after.shape}, {self.profile!r})"
