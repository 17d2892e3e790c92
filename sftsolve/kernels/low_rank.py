"""Kernels of low rank: what training examples give any network."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.grid import Grid
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import Reference, as_bank, check_finite, check_shape, inner_products, joined
from sftsolve.loops.projection import Projection, dot
from sftsolve.state import Layout, State


class LowRank:
    """The cost  sum_r g_r <phi_r, a> <psi_r, b>,  with <phi, w> = int d^dx phi(x) w(x) and no factor 1/2.

    Its kernel is A(x, y) = sum_r g_r phi_r(x) psi_r(y), its force on a is -sum_r g_r phi_r <psi_r, b> and on b
    -sum_r g_r psi_r <phi_r, a>; both act where a is b. The Gauss-Newton form of any network is one such kernel, with one phi_r an
    example and output, acting on w - w_ref (arXiv:2503.08827 and its talk, J_2(x, y); Jacot, Gabriel and Hongler,
    arXiv:1806.07572, for the limit of wide networks).

    Parameters
    ----------
    first, second : the fields a and b, which may be the same
    phi : (rank, *grid.shape), kept in float64 or float32 as given and not copied where it is contiguous
    psi : the same for b; phi by default, which halves memory and time
    weights : g_r, (rank,), one by default; negative ones are allowed
    about : w_ref, see `Reference`; the kernel acts on w - w_ref

    Raises
    ------
    ActionError : arrays that do not fit each other, values that are not finite
    """

    report = ""
    """How `Kernel.from_function` came to this kernel."""

    def __init__(self, first: str, second: str, phi: Any, psi: Any = None, weights: Any = None, about: Any = None):
        self.fields = joined("LowRank", first, second)
        self.first, self.second = first, second
        self.phi = as_bank("phi of LowRank", phi, 1)
        self.psi = None if psi is None or psi is phi else as_bank("psi of LowRank", psi, 1)
        if self.psi is not None and self.psi.shape != self.phi.shape:
            raise ActionError(
                "psi of LowRank does not fit phi", expected=f"shape {self.phi.shape}", given=f"shape {self.psi.shape}"
            )
        self.weights = np.ones(self.rank) if weights is None else np.atleast_1d(np.asarray(weights))
        if self.weights.shape != (self.rank,):
            raise ActionError(
                "weights of LowRank do not fit phi", expected=f"{self.rank} numbers", given=f"shape {self.weights.shape}"
            )
        check_finite("weights of LowRank", self.weights)
        self.about = Reference(self.fields, about)

    @property
    def rank(self) -> int:
        """Number of functions phi_r."""
        return len(self.phi)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """Two passes over phi (and psi) a force."""
        banks = self.phi.nbytes + (0 if self.psi is None else self.psi.nbytes)
        sides = 2 if len(self.fields) == 2 or self.psi is not None else 1
        fields = 3 * 8.0 * grid.size * len(self.fields)
        reference = self.about.bytes_on(Layout.of(grid, 0, dtype))
        return Estimate(4.0 * sides * self.phi.size, 2.0 * banks + fields, float(banks), making=reference)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundLowRank:
        """The operator on a grid.

        Raises
        ------
        GridError : phi has another shape than the grid, or w_ref does not fit it
        """
        check_shape("phi of LowRank", self.phi.shape[1:], grid)
        reference = self.about.padded(fields, grid, layout)
        return BoundLowRank(self, (fields.index(self.first), fields.index(self.second)), reference, grid, layout)

    def __repr__(self) -> str:
        second = "" if self.psi is None else f", psi{self.psi.shape}"
        return f"LowRank({self.first!r}, {self.second!r}, phi{self.phi.shape}{second})"


class BoundLowRank:
    """`LowRank` on a grid: integrals of both fields, and the sums that they weight."""

    def __init__(self, kernel: LowRank, index: tuple[int, int], reference: np.ndarray | None, grid: Grid, layout: Layout):
        self._volume = grid.cell_volume
        self._phi = kernel.phi.reshape(kernel.rank, 1, -1)
        self._psi = None if kernel.psi is None else kernel.psi.reshape(kernel.rank, 1, -1)
        self._same, self._field = index[0] == index[1], index[0]
        a, b = (0, index[0], 0), (0, index[1], 0)
        self._weights = np.asarray(kernel.weights, np.float64)
        # One bank for both fields is read once for both; the integrals of a come first, those of b last.
        if self._psi is None:
            self._banks = [Projection(self._phi, self._volume, layout, [a] if self._same else [a, b])]
        else:
            self._banks = [Projection(bank, self._volume, layout, [part]) for bank, part in ((self._phi, a), (self._psi, b))]
        self._integrals = np.zeros((2, kernel.rank))
        self._factors = np.zeros((2, kernel.rank))
        self._shift = np.zeros((2, kernel.rank))
        if reference is not None:
            self._project(reference)
            self._shift[...] = self._integrals

    def add_force(self, state: State, out: State, t: float) -> None:
        self._project(state.storage)
        self._integrals -= self._shift
        self._expand(out)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._project(direction.storage)
        self._expand(out)

    def energy(self, state: State, t: float) -> float:
        self._project(state.storage)
        self._integrals -= self._shift
        np.multiply(self._integrals[0], self._weights, out=self._factors[0])
        return float(dot(self._factors[0], self._integrals[1]))

    def symbol(self) -> None:
        return None

    def damping(self) -> tuple[int, np.ndarray, np.ndarray] | None:
        """The part of F' that is sure to damp, -sum_r s_r phi_r <phi_r, .> on one field with s_r = 2 g_r > 0; None for none.

        (number of the field, phi (rank, cells), s). Between two fields or with another psi, half of the eigenvalues are positive.
        """
        kept = self._weights > 0.0
        if not self._same or self._psi is not None or not kept.any():
            return None
        phi = self._phi[:, 0]
        return self._field, phi if kept.all() else phi[kept], 2.0 * self._weights[kept]

    def bound(self, t: float = 0.0) -> float:
        """Largest |eigenvalue| of F', exact: that of a matrix of twice the rank, made of the functions' inner products."""
        return self._spectral_radius

    def _project(self, storage: np.ndarray) -> None:
        """<phi_r, a> and <psi_r, b>."""
        for side, bank in enumerate(self._banks):
            found = bank.project(storage)
            self._integrals[side] = found[0]
            if len(self._banks) == 1:
                self._integrals[1] = found[-1]

    def _expand(self, out: State) -> None:
        """Each field's force is weighted by the other's integrals."""
        np.multiply(self._integrals[::-1], self._weights, out=self._factors)
        if len(self._banks) == 1:
            if self._same:
                self._factors[:1] *= 2.0
                self._banks[0].expand(self._factors[:1], out.storage)
            else:
                self._banks[0].expand(self._factors, out.storage)
            return
        for side, bank in enumerate(self._banks):
            bank.expand(self._factors[side : side + 1], out.storage)

    @cached_property
    def _spectral_radius(self) -> float:
        """With P = (phi, psi), Q = (g psi, g phi) as rows, F' = -h^d P^T Q has the eigenvalues of -h^d Q P^T, and zero."""
        phi = self._phi[:, 0]
        psi = phi if self._psi is None else self._psi[:, 0]
        inner = [inner_products(one, other) for one, other in ((phi, phi), (phi, psi), (psi, psi))]
        g = self._weights[:, None]
        if self._same:
            matrix = np.block([[g * inner[1].T, g * inner[2]], [g * inner[0], g * inner[1]]])
            return float(np.abs(np.linalg.eigvals(matrix)).max()) * self._volume
        squares = np.linalg.eigvals((g * inner[0]) @ (g * inner[2]))
        return float(np.sqrt(np.abs(squares).max())) * self._volume
