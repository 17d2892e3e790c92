"""Powers of the Laplacian, diagonal in the modes of the box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sftsolve.errors import ActionError, GridError
from sftsolve.grid import Grid
from sftsolve.kernels.amplitude import Amplitude, number, numbers
from sftsolve.kernels.convolution import space_of
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import Reference, joined
from sftsolve.kernels.spectral import Coupling, SpectralSum
from sftsolve.kernels.transforms import Basis, Transform
from sftsolve.kernels.workspaces import whole_grid_bytes
from sftsolve.loops.convolution import PERIODIC
from sftsolve.state import Layout

# Modes of an axis by the conditions on its lower and upper face.
WAVES = {
    ("derivative", "derivative"): "cosine",
    ("value", "value"): "sine",
    ("derivative", "value"): "cosine-4",
    ("value", "derivative"): "sine-4",
}


class Fractional:
    """The cost  D int a (-lap)^p b  with the fractional Laplacian of power p, without a factor 1/2.

    (-lap)^p multiplies the mode of wave vector k by |k|^2p, the continuum's symbol and not that of a difference formula. The
    force on a is -D (-lap)^p b and on b -D (-lap)^p a; both act where a is b: ``Fractional("w", 1, D/2)`` is the spectral form of
    the cost ``D/2*grad2(w)``. On walled axes it is the power of the Laplacian with the fields' own conditions, zero value or zero
    derivative (the "spectral" one of Lischke et al., arXiv:1801.09767). Powers below zero leave out the
    mode of k = 0.

    Parameters
    ----------
    first : the field a
    exponent : p, not zero
    coefficient : D
    second : the field b, a by default
    amplitude : a further factor, a number or an expression of t and the parameters
    about : w_ref, see `Reference`; the kernel acts on w - w_ref

    Raises
    ------
    ActionError, ExpressionError : not finite or not understood
    """

    def __init__(
        self,
        first: str,
        exponent: float,
        coefficient: float = 1.0,
        second: str | None = None,
        amplitude: str | float = 1.0,
        parameters: Mapping[str, float] | None = None,
        about: Any = None,
    ):
        self.first, self.second = first, first if second is None else second
        self.fields = joined("Fractional", self.first, self.second)
        self.exponent = number("the exponent of Fractional", exponent)
        if self.exponent == 0.0:
            raise ActionError(
                "the exponent of Fractional is zero", expected="p such as 0.5", remedy="write a*b in the cost instead"
            )
        self.coefficient = number("the coefficient of Fractional", coefficient)
        self.amplitude = Amplitude("Fractional", amplitude, numbers("Fractional", parameters, ("t",)))
        self.about = Reference(self.fields, about)
        self._shifted = about is not None

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """A forward and an inverse transform a field, and a table of the modes."""
        twice, axes = len(self.fields), sum(1 for n in grid.shape if n > 1)
        flops = 5.0 * grid.size * np.log2(max(grid.size, 2))
        layout = Layout.of(grid, 0, dtype)
        held = whole_grid_bytes(self._bases(grid), layout, twice, 1)
        # The table of modes is made in double precision, from a square and a power of it.
        making = 16.0 * grid.size
        traffic = twice * (4.0 * axes + 5.0) * 8.0 * grid.size
        return Estimate(twice * flops, traffic, held + self.about.bytes_on(layout), making=making)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> SpectralSum:
        """The operator on a grid.

        Raises
        ------
        GridError : walls that the two fields do not share or that hold data, w_ref that does not fit, too little memory
        """
        self.estimate(grid).require("Fractional", remedy="take a coarser grid")
        bases = self._bases(grid)
        spacing = (1.0,) * (3 - grid.dimension) + grid.spacing

        def symbol(transform: Transform) -> np.ndarray:
            waves = [transform.frequencies(axis) / h for axis, h in enumerate(spacing)]
            square = sum(part**2 for part in np.ix_(*waves))
            assert isinstance(square, np.ndarray)
            return self.coefficient * np.where(square > 0, square, np.inf if self.exponent < 0 else 0.0) ** self.exponent

        space = space_of(layout, (PERIODIC,) * grid.dimension)
        reference = self.about.padded(fields, grid, layout)
        a, b = fields.index(self.first), fields.index(self.second)
        coupling = Coupling(a, b, self.amplitude, reference, bases, symbol)
        return SpectralSum((coupling,), space, grid.cell_volume, len(fields))

    def _bases(self, grid: Grid) -> tuple[Basis, Basis, Basis]:
        """Modes of the three axes; one that the grid lacks is a circle of one cell."""
        found = [Basis.periodic(1)] * (3 - grid.dimension)
        found += [self._basis(grid, axis, n) for axis, n in zip(grid.axes, grid.shape, strict=True)]
        return found[0], found[1], found[2]

    def _basis(self, grid: Grid, axis: str, n: int) -> Basis:
        if grid.periodic(axis):
            return Basis.periodic(n)
        kinds = set()
        for name in self.fields:
            lower, upper = (grid.condition(axis, side, name) for side in ("lower", "upper"))
            kinds.add((lower.key, upper.key))
            if (lower.data or upper.data) and not self._shifted:
                raise GridError(
                    f"Fractional has no meaning for data on the walls of axis {axis}",
                    expected="zero value or zero derivative",
                    given=f"{lower.description()} and {upper.description()}",
                    remedy="let it act about= a field that takes these data",
                )
        if len(kinds) > 1 or not kinds <= set(WAVES):
            raise GridError(
                f"Fractional has no modes for the walls of axis {axis}",
                expected=f"the same conditions, of value or derivative, for {' and '.join(self.fields)}",
                given=" and ".join(sorted(str(kind) for kind in kinds)),
            )
        return Basis(WAVES[kinds.pop()], n, n)

    def __repr__(self) -> str:
        second = "" if self.second == self.first else f", second={self.second!r}"
        return f"Fractional({self.first!r}, {self.exponent:g}, {self.coefficient:g}{second})"
