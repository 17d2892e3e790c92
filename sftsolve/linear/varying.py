"""L with coefficients that vary from cell to cell: applied by compiled loops, solved by iteration or cell by cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sftsolve.linear.conjugate import ConjugateGradients
from sftsolve.linear.modes import Modes
from sftsolve.linear.operators import Cells, Generated
from sftsolve.loops import cells as cell_loops
from sftsolve.loops import modes as loops
from sftsolve.parallel import slabs
from sftsolve.state import Layout

Solver = Callable[[np.ndarray, float, np.ndarray, bool, float], int]


class VaryingPart:
    """A sum of operators.

    Parameters
    ----------
    mean_modes : modes of the L with the mean coefficients, which preconditions
    radius, deviation : bounds of the eigenvalues of -L and of |L - its mean|
    local : stiffness, None for none
    cells : matrix between fields in every cell
    diagonal : modes of a further part with constant coefficients
    """

    modes = None

    def __init__(
        self,
        layout: Layout,
        mean_modes: Modes,
        radius: float,
        deviation: float,
        local: Generated | None,
        cells: Cells | None,
        diagonal: Modes | None,
    ):
        self.mean_modes, self.radius, self.deviation = mean_modes, radius, deviation
        self._local, self._cells, self._diagonal = local, cells, diagonal
        self._layout, self._count = layout, len(mean_modes.eigenvalues)
        self._spectrum: np.ndarray | None = None
        self._extra: np.ndarray | None = None
        self._iterate = ConjugateGradients(self.apply, self._precondition, layout, self._count)

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w; ghosts of w are lost."""
        if self._local is None:
            out.fill(0.0)
        else:
            self._local.apply(w, out)
        if self._cells is not None:
            self._cells.add(w, out)
        if self._diagonal is not None:
            if self._extra is None:
                self._extra = self._layout.zeros(self._count)
            spectrum = self._transformed(self._diagonal, w)
            loops.multiply(spectrum, self._diagonal.eigenvalues, self._diagonal.threads)
            self._diagonal.backward(spectrum, self._extra)
            out += self._extra

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 1e-8) -> int:
        """(I - sigma L) out = right, see `LinearPart`."""
        return self._iterate.solve(right, sigma, out, guess, rtol)

    def _precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        spectrum = self._transformed(self.mean_modes, right)
        loops.divide(spectrum, self.mean_modes.eigenvalues, sigma, self.mean_modes.threads)
        self.mean_modes.backward(spectrum, out)

    def _transformed(self, modes: Modes, storage: np.ndarray) -> np.ndarray:
        if self._spectrum is None:
            self._spectrum = modes.empty()
        modes.forward(storage, self._spectrum)
        return self._spectrum


class CellPart:
    """L w = -R w without neighbours: a small system in every cell, solved exactly.

    Parameters
    ----------
    matrix : R, (field, field, *shape)
    """

    modes = None

    def __init__(self, layout: Layout, matrix: np.ndarray, mean_modes: Modes, radius: float, deviation: float):
        self.mean_modes, self.radius, self.deviation = mean_modes, radius, deviation
        count = len(matrix)
        pairs = [(a, b) for a in range(count) for b in range(a + 1)]
        self._lower = np.stack([matrix[a, b].reshape(layout.shape) for a, b in pairs]).astype(layout.dtype)
        self._offset = np.array(layout.offset, np.int64)
        self._threads = slabs(matrix[0, 0].size)
        self._scratch = np.empty((self._threads, len(pairs) + count))

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w."""
        cell_loops.multiply(w, out, self._lower, self._offset, self._scratch)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 0.0) -> int:
        """(I - sigma L) out = right, see `LinearPart`."""
        cell_loops.solve(right, out, self._lower, self._offset, sigma, self._scratch)
        return 1
