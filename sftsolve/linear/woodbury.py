"""Low-rank kernels in the linear part: L w = L0 w - sum_r s_r phi_r <phi_r, w> for one field, s_r > 0.

With Z = (1 - sigma L0)^-1 phi and the matrix G = <phi, Z> of the functions' integrals (Sherman, Morrison and Woodbury; Hager,
SIAM Review 31 (1989) 221, equation 2),

    (1 - sigma L)^-1 R = y - Z ( 1/(sigma s) + G )^-1 <phi, y>,      y = (1 - sigma L0)^-1 R

Z takes as many solves as there are functions, and their memory again. It is made once a sigma has cost as many iterations of
conjugate gradients, preconditioned with L0, as Z would take: these see at most rank + 1 different eigenvalues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg

from sftsolve.kernels.protocol import memory_limit
from sftsolve.kernels.reference import inner_products
from sftsolve.linear.krylov import ConjugateGradients
from sftsolve.linear.modes import Modes
from sftsolve.loops.combine import combine
from sftsolve.loops.projection import Projection
from sftsolve.parallel import slabs
from sftsolve.state import Layout

# Residual, relative to phi, of the solves that make Z.
_EXACT = 1e-10


class Nothing:
    """L0 = 0 with its trivial modes, for theories whose only linear part is of low rank."""

    modes = None
    radius = deviation = 0.0
    exact = True

    def __init__(self, mean_modes: Modes):
        self.mean_modes = mean_modes

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = 0."""
        out.fill(0.0)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 0.0) -> int:
        """out = right."""
        np.copyto(out, right)
        return 0


class LowRankPart:
    """A linear part and a low-rank damping of one field.

    Parameters
    ----------
    base : L0, a linear part
    phi : functions, (rank, cells), float64 or float32
    strengths : s_r > 0; for the kernel sum_r g_r <phi_r, a>^2 they are 2 g_r
    field : number of the field
    volume : weight of a cell in the integrals
    layout, count : of the padded arrays (count, Z, Y, X)
    """

    modes = None

    def __init__(self, base: Any, phi: np.ndarray, strengths: np.ndarray, field: int, volume: float, layout: Layout, count: int):
        self._base, self._layout, self._count, self._field = base, layout, count, field
        self._strengths, self._volume = np.asarray(strengths, float), volume
        self._bank = phi.reshape(len(phi), 1, -1)
        self._project = Projection(self._bank, volume, layout, [(0, field, 0)])
        roots = np.sqrt(self._strengths)
        self._gram = volume * inner_products(self._bank[:, 0], self._bank[:, 0])
        own = float(np.linalg.eigvalsh(roots[:, None] * self._gram * roots)[-1])
        self.radius, self.deviation = base.radius + own, base.deviation + own
        self.mean_modes = base.mean_modes
        self._direct = base.modes is not None or getattr(base, "exact", False)
        self._iterate = ConjugateGradients(layout, count)
        self._threads = slabs(count * int(np.prod(layout.shape)))
        self._type = np.dtype(layout.dtype).type
        self._factors = np.zeros((1, len(phi)))
        self._sigma, self._spent = np.nan, 0
        self._inverse: np.ndarray | None = None
        self._weights = np.zeros((1, len(phi)))
        self._back: Projection | None = None

    @property
    def rank(self) -> int:
        """Number of functions."""
        return len(self._bank)

    @property
    def prepared(self) -> bool:
        """Whether Z of the last sigma is at hand."""
        return self._inverse is not None

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w."""
        self._base.apply(w, out)
        np.multiply(self._project.project(w), self._strengths, out=self._factors)
        self._project.expand(self._factors, out)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 1e-8) -> int:
        """(I - sigma L) out = right, see `LinearPart`."""
        self._hold(sigma)
        if self._direct and self.prepared:
            self.precondition(right, sigma, out)
            return 1
        weight = self._type(-sigma)

        def shifted(w: np.ndarray, image: np.ndarray) -> None:
            self.apply(w, image)
            flat = image.reshape(-1)
            combine(flat, w.reshape(-1), (flat,), (weight,), self._threads)

        def precondition(w: np.ndarray, better: np.ndarray) -> None:
            self.precondition(w, sigma, better)

        count = self._iterate.solve(shifted, precondition, right, out, guess, rtol)
        self._spent += count
        return count

    def precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = (I - sigma L0)^-1 right, nearly; (I - sigma L)^-1 right once Z is there."""
        self._base_inverse()(right, sigma, out)
        if self._inverse is None or self._back is None or sigma != self._sigma:
            return
        weights = self._weights
        np.dot(self._inverse, self._project.project(out)[0], out=weights[0])
        weights[1:] = weights[0]
        self._back.expand(weights, out)

    def prepare(self, sigma: float) -> None:
        """Make Z for this sigma: as many solves of L0 as there are functions."""
        self._sigma = sigma
        if isinstance(self._base, Nothing):
            self._keep(sigma, self._bank, [self._field], self._gram)
        else:
            self._keep(sigma, *self._solved(sigma))

    def _solved(self, sigma: float) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Z by function, field and cell; the fields; G."""
        source, image = self._layout.zeros(self._count), self._layout.zeros(self._count)
        # Which fields answer to this one; the others' Z is zero.
        self._layout.interior(source)[self._field] = np.random.default_rng(0).standard_normal(self._shape)
        self._base.solve(source, sigma, image, False, 1e-2)
        fields = [f for f in range(self._count) if f == self._field or self._layout.interior(image)[f].any()]
        bank = np.empty((self.rank, len(fields), self._bank.shape[2]))
        for number, phi in enumerate(self._bank[:, 0]):
            self._layout.interior(source)[self._field] = phi.reshape(self._shape)
            self._base.solve(source, sigma, image, False, _EXACT)
            for slot, f in enumerate(fields):
                bank[number, slot] = self._layout.interior(image)[f].reshape(-1)
        return bank, fields, self._volume * inner_products(self._bank[:, 0], bank[:, fields.index(self._field)])

    def _keep(self, sigma: float, bank: np.ndarray, fields: list[int], gram: np.ndarray) -> None:
        self._inverse = linalg.inv(np.diag(1.0 / (sigma * self._strengths)) + 0.5 * (gram + gram.T))
        self._weights = np.zeros((len(fields), self.rank))
        self._back = Projection(bank, self._volume, self._layout, [(0, f, number) for number, f in enumerate(fields)])

    def _hold(self, sigma: float) -> None:
        """Forget what belongs to another sigma; make Z when that pays."""
        if sigma != self._sigma:
            self._sigma, self._spent = sigma, 0
            self._inverse = self._back = None
        if sigma > 0.0 and not self.prepared and self._pays():
            self.prepare(sigma)

    def _pays(self) -> bool:
        if isinstance(self._base, Nothing):
            return True
        return self._spent >= self.rank and 8.0 * self._count * self._bank.size <= memory_limit()

    def _base_inverse(self) -> Callable[[np.ndarray, float, np.ndarray], Any]:
        """One cycle or the like of L0 where it has that, else its solve."""
        nearly = getattr(self._base, "precondition", None)
        return self._base.solve if self._direct or nearly is None else nearly

    @property
    def _shape(self) -> tuple[int, ...]:
        return self._layout.shape[3 - self._layout.dimension :]
