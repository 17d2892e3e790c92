"""L with coefficients that vary from cell to cell: applied by compiled loops, solved by iteration or cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sftsolve.linear.krylov import ConjugateGradients
from sftsolve.linear.modes import Modes
from sftsolve.linear.multigrid import Multigrid
from sftsolve.linear.operators import Cells, Generated
from sftsolve.loops import cells as cell_loops
from sftsolve.loops import modes as loops
from sftsolve.loops.combine import combine
from sftsolve.parallel import slabs
from sftsolve.state import Layout


class Decay:
    """L w = -r w for one field.

    Parameters
    ----------
    reaction : r, of the grid's shape
    """

    def __init__(self, layout: Layout, reaction: np.ndarray):
        self._lower = reaction.reshape(1, *layout.shape).astype(layout.dtype)
        self._offset = np.array(layout.offset, np.int64)
        self._scratch = np.empty((slabs(reaction.size), 2))

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w on padded arrays (Z, Y, X)."""
        cell_loops.multiply(w[None], out[None], self._lower, self._offset, self._scratch)

    def precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = (1 - sigma L)^-1 right."""
        cell_loops.solve(right[None], out[None], self._lower, self._offset, sigma, self._scratch)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 0.0) -> int:
        """(1 - sigma L) out = right, exactly."""
        self.precondition(right, sigma, out)
        return 1


class Iterated:
    """What parts share that are solved by conjugate gradients.

    Parameters
    ----------
    count : number of fields
    mean_modes : modes of the L with the mean coefficients
    radius, deviation : bounds of the eigenvalues of -L and of |L - its mean|
    """

    modes = None

    def __init__(self, layout: Layout, count: int, mean_modes: Modes, radius: float, deviation: float):
        self.mean_modes, self.radius, self.deviation = mean_modes, radius, deviation
        self._layout, self._count = layout, count
        self._iterate: ConjugateGradients | None = None
        self._threads = slabs(count * int(np.prod(layout.shape)))
        self._type = np.dtype(layout.dtype).type

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w."""
        raise NotImplementedError

    def precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = nearly (I - sigma L)^-1 right."""
        raise NotImplementedError

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 1e-8) -> int:
        """(I - sigma L) out = right, see `LinearPart`."""
        if self._iterate is None:
            self._iterate = ConjugateGradients(self._layout, self._count)
        weight = self._type(-sigma)

        def shifted(w: np.ndarray, image: np.ndarray) -> None:
            self.apply(w, image)
            flat = image.reshape(-1)
            combine(flat, w.reshape(-1), (flat,), (weight,), self._threads)

        def precondition(w: np.ndarray, better: np.ndarray) -> None:
            self.precondition(w, sigma, better)

        return self._iterate.solve(shifted, precondition, right, out, guess, rtol)


class VaryingPart(Iterated):
    """A sum of operators, preconditioned by multigrid or by the modes of its mean.

    Parameters
    ----------
    local : stiffness, None for none
    cells : matrix between fields in every cell
    diagonal : modes of a further part with constant coefficients
    near : by field, an operator near to L that preconditions; None for the mean modes
    """

    def __init__(
        self,
        layout: Layout,
        mean_modes: Modes,
        bounds: tuple[float, float],
        local: Generated | None,
        cells: Cells | None,
        diagonal: Modes | None,
        near: Sequence[Multigrid | Decay] | None,
    ):
        super().__init__(layout, mean_modes.shape[0], mean_modes, *bounds)
        self._near = near
        self._local, self._cells, self._diagonal = local, cells, diagonal
        self._spectrum: np.ndarray | None = None
        self._extra: np.ndarray | None = None

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
            loops.multiply(spectrum, self._diagonal.table, self._diagonal.threads)
            self._diagonal.backward(spectrum, self._extra)
            out += self._extra

    def precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = (I - sigma M)^-1 right, nearly, with M near to L."""
        if self._near is not None:
            for own, source, target in zip(self._near, right, out, strict=True):
                own.precondition(source, sigma, target)
            return
        spectrum = self._transformed(self.mean_modes, right)
        loops.divide(spectrum, self.mean_modes.table, sigma, self.mean_modes.threads)
        self.mean_modes.backward(spectrum, out)

    def _transformed(self, modes: Modes, storage: np.ndarray) -> np.ndarray:
        if self._spectrum is None:
            self._spectrum = modes.empty()
        modes.forward(storage, self._spectrum)
        return self._spectrum


class FacePart(Iterated):
    """Fluxes through the faces of cells and reactions in them, field by field by multigrid; fields may be coupled in the cells.

    Parameters
    ----------
    fields : the operator of every field
    coupling : matrix between different fields in every cell, None for none
    """

    def __init__(
        self,
        layout: Layout,
        mean_modes: Modes,
        bounds: tuple[float, float],
        fields: Sequence[Multigrid | Decay],
        coupling: Cells | None,
    ):
        super().__init__(layout, len(fields), mean_modes, *bounds)
        self._fields, self._coupling = tuple(fields), coupling

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w."""
        for own, source, target in zip(self._fields, w, out, strict=True):
            own.apply(source, target)
        if self._coupling is not None:
            self._coupling.add(w, out)

    def precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = nearly (I - sigma D)^-1 right with D the L without coupling."""
        for own, source, target in zip(self._fields, right, out, strict=True):
            own.precondition(source, sigma, target)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 1e-8) -> int:
        """(I - sigma L) out = right, see `LinearPart`."""
        if self._coupling is not None:
            return super().solve(right, sigma, out, guess, rtol)
        return max(
            own.solve(source, sigma, target, guess, rtol) for own, source, target in zip(self._fields, right, out, strict=True)
        )


class CellPart:
    """L w = -R w without neighbours: a small system in every cell, solved exactly.

    Parameters
    ----------
    matrix : R, (field, field, *shape)
    """

    modes = None

    def __init__(self, layout: Layout, matrix: np.ndarray, mean_modes: Modes, bounds: tuple[float, float]):
        self.mean_modes = mean_modes
        self.radius, self.deviation = bounds
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
