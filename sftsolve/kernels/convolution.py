"""Translation-invariant kernels k(x - y)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sftsolve.errors import ConfigError, nearest
from sftsolve.grid import Grid
from sftsolve.kernels import crossover
from sftsolve.kernels.amplitude import Amplitude
from sftsolve.kernels.engines import Space
from sftsolve.kernels.links import Link, Linked
from sftsolve.kernels.methods import METHODS, make_engine
from sftsolve.kernels.protocol import Estimate, Operator
from sftsolve.kernels.reference import Reference, joined
from sftsolve.kernels.spectral import Coupling, SpectralSum
from sftsolve.kernels.stencil import Profile, Stencil, ends_of
from sftsolve.kernels.trial import choose
from sftsolve.kernels.workspaces import Modes, stencil_bases, stencil_symbol
from sftsolve.state import Layout


class Convolution:
    """The cost  g(t) int int k(x - y) a(x) b(y)  between two fields, without a factor 1/2.

    The force on a is -g int k(x - y) b(y) and on b -g int k(y - x) a(y); both act where a is b, so that only the even part of k
    matters then (the talk behind arXiv:2503.08827, J_2(x, y) of a translation-invariant network). On the grid the integrals
    are sums over cells, exactly: no interpolation and no truncation but of weights that together are below rounding.

    On a periodic axis the displacement x - y is the minimal image, in [-L/2, L/2). What lies beyond a walled axis is `walls`:
    "zero", nothing (the double integral over the box), or "mirror", the even images of the fields in both walls; k, which must
    be even along such an axis, then acts on the box of twice the length as on a circle.

    Parameters
    ----------
    first, second : the fields a and b, which may be the same
    k : an expression of the displacements x, y, z and their length r, or an array of its values: with odd extents, the middle
        being displacement zero; or, on a periodic grid and with `centred` false, of the grid's shape with displacement zero
        first (the order of an FFT)
    parameters : numbers in the expressions
    amplitude : g, a number or an expression of t and the parameters
    walls : "zero" or "mirror" for all walled axes, or a mapping from their names
    about : w_ref, see `Reference`; the kernel acts on w - w_ref
    method : "direct" (sums), "separable" (an axis at a time, where k is a product), "fft" (transforms of the whole grid),
        "overlap" (transforms of blocks that overlap), or "auto", the quickest by `trial`
    centred : of an array with the grid's shape, whether displacement zero stands in the middle (index n // 2)

    Raises
    ------
    ActionError, ConfigError, ExpressionError : not finite or not understood
    """

    report = ""
    """How `Kernel.from_function` came to this kernel."""

    def __init__(
        self,
        first: str,
        second: str,
        k: Any,
        parameters: Mapping[str, float] | None = None,
        amplitude: str | float = 1.0,
        walls: str | Mapping[str, str] = "zero",
        about: Any = None,
        method: str = "auto",
        centred: bool = False,
    ):
        self.fields = joined("Convolution", first, second)
        self.first, self.second = first, second
        self.profile = Profile("Convolution", k, parameters, centred)
        self.amplitude = Amplitude("Convolution", amplitude, self.profile.parameters)
        self.about = Reference(self.fields, about)
        self.walls, self.method = walls, checked_method("Convolution", method)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """What the chosen method costs on a grid."""
        layout, twice = Layout.of(grid, 0, dtype), len(self.fields)
        space, _, own = self._on(grid, layout)
        price = crossover.estimate(choose(self.method, own, space, try_out=False), own, space, twice)
        memory = price.memory + self.about.bytes_on(layout)
        return Estimate(twice * price.flops, twice * price.bytes, memory, price.given + self.profile.nbytes, price.making)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> Operator:
        """The operator on a grid.

        Raises
        ------
        GridError : k or w_ref do not fit the grid, or more memory than there is
        ActionError : k is not finite, or does not decay on a walled axis
        ConfigError : a method that this kernel does not have
        """
        space, stencil, own = self._on(grid, layout)
        method = choose(self.method, own, space)
        price = crossover.estimate(method, own, space, len(self.fields))
        price.require("Convolution", remedy="take a coarser grid or a shorter support")
        reference = self.about.padded(fields, grid, layout)
        a, b = fields.index(self.first), fields.index(self.second)
        bases = stencil_bases(space, stencil)

        acting = stencil.even_part() if a == b else stencil

        def symbol(transform: Modes) -> np.ndarray:
            return stencil_symbol(space, acting, transform)

        coupling = Coupling(a, b, self.amplitude, reference, bases, symbol, stencil.reach, stencil.weight)
        whole = SpectralSum((coupling,), space, grid.cell_volume, len(fields), method == "overlap")
        if method in ("fft", "overlap"):
            return whole
        mask = space.none(3)
        engine = make_engine(method, own, space)
        if a == b:
            links = [Link(a, a, mask, mask, engine, 0.5)]
        else:
            links = [Link(b, a, mask, mask, engine, 1.0), Link(a, b, mask, mask, engine.transposed(), 0.0)]
        return Linked(links, self.amplitude, reference, space, grid.cell_volume, own.weight, whole.symbol, bases)

    def symmetry(self, grid: Grid) -> tuple[tuple[bool, ...], bool]:
        """Along which axes the force's weights are even, and whether the first two may be exchanged.

        An expression is looked at where displacements are some numbers of cells only.
        """
        seen = self.profile.sampled(grid, ends_of("Convolution", self.walls, grid))
        if len(self.fields) == 1:
            seen = seen.even_part()
        return tuple(seen.is_even(axis) for axis in range(grid.dimension)), grid.dimension > 1 and seen.is_alike(0, 1)

    def _on(self, grid: Grid, layout: Layout) -> tuple[Space, Stencil, Stencil]:
        """The grid as engines see it, k there, and the stencil of the force: k, or k(x) + k(-x) for one field."""
        ends = ends_of("Convolution", self.walls, grid)
        stencil = self.profile.on(grid, ends)
        own = stencil + stencil.transposed() if len(self.fields) == 1 else stencil
        return space_of(layout, ends), stencil, own

    def __repr__(self) -> str:
        return f"Convolution({self.first!r}, {self.second!r}, {self.profile!r})"


def checked_method(kernel: str, method: str) -> str:
    """A method that exists.

    Raises
    ------
    ConfigError : there is none of this name
    """
    known = ("auto", *METHODS)
    if method not in known:
        raise ConfigError(
            f"method= of {kernel} is not known",
            expected=", ".join(known),
            given=repr(method),
            remedy=nearest(str(method), known),
        )
    return method


def space_of(layout: Layout, ends: tuple[int, ...]) -> Space:
    """A layout with the ends of its axes; axes that the grid lacks are circles."""
    z, y, x = (0,) * (3 - len(ends)) + ends
    return Space(layout, (z, y, x))
