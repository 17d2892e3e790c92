"""Kernels given as sparse matrices."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from scipy import sparse

from sftsolve.errors import ActionError, GridError
from sftsolve.grid import Grid
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import ASYMMETRY, Reference, check_finite, joined
from sftsolve.loops.sparse import SparseProduct
from sftsolve.state import Layout, State

log = logging.getLogger("sftsolve")


class Sparse:
    """The cost  int int A(x, y) a(x) b(y) = h^2d sum_ij A_ij a_i b_j  of a sparse matrix, without a factor 1/2.

    The force on a is -h^d sum_j A_ij b_j and on b -h^d sum_j A_ji a_j; both act where a is b, so that only A + A^T matters then
    (the talk behind arXiv:2503.08827, J_2(x, y)). A is a density: a coupling between single cells is A_ij h^2d.

    Parameters
    ----------
    first, second : the fields a and b, which may be the same
    matrix : a SciPy sparse matrix or array of any format, (N, N) over the cells in C order
    about : w_ref, see `Reference`; the kernel acts on w - w_ref

    Raises
    ------
    ActionError : not sparse, not square, values that are not finite real numbers
    """

    report = ""
    """How `Kernel.from_function` came to this kernel."""

    def __init__(self, first: str, second: str, matrix: Any, about: Any = None):
        self.fields = joined("Sparse", first, second)
        self.first, self.second = first, second
        known = sparse.issparse(matrix)
        entries: Any = matrix.tocsr() if known else None
        if entries is None or entries.ndim != 2 or entries.shape[0] != entries.shape[1]:
            raise ActionError(
                "Sparse takes a square sparse matrix",
                expected="a SciPy sparse matrix (N, N) over the cells of the grid in C order",
                given=f"{type(matrix).__name__} {getattr(matrix, 'shape', '')}",
                remedy="scipy.sparse.csr_array(A) makes one of an array; Dense takes arrays",
            )
        check_finite("the matrix of Sparse", entries.data)
        rows = sparse.csr_array(entries, dtype=np.float32 if entries.dtype == np.float32 else np.float64)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        self.matrix = rows
        self.about = Reference(self.fields, about)
        turned = sparse.csr_array(rows.T)
        self.products = (rows, turned) if len(self.fields) == 2 else (sparse.csr_array(rows + turned),)
        """What takes the second field to the force on the first, and the other way round; their sum where they are one."""
        if len(self.fields) == 1:
            difference = abs(rows - turned)
            if difference.nnz and difference.max() > ASYMMETRY * abs(rows).max():
                log.warning("the matrix of Sparse(%r, %r) is not symmetric: only A + A^T acts", first, second)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """Every entry is read once a force, with its column."""
        entries = sum(product.nnz for product in self.products)
        held = entries * (self.matrix.dtype.itemsize + 4.0) + 8.0 * len(self.products) * (grid.size + 1)
        layout = Layout.of(grid, 0, dtype)
        places, reference = 8.0 * math.prod(layout.padded), self.about.bytes_on(layout)
        # The operator has the data in common with the description, which holds columns and starts of rows of its own.
        given = 4.0 * entries + 4.0 * grid.size * len(self.products)
        if self.matrix is not self.products[0]:
            given += sum(array.nbytes for array in (self.matrix.data, self.matrix.indices, self.matrix.indptr))
        return Estimate(
            2.0 * entries, held + 24.0 * grid.size * len(self.products), held, given + reference, places + 12.0 * entries
        )

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundSparse:
        """The operator on a grid.

        Raises
        ------
        GridError : the matrix is not of the number of cells, or w_ref does not fit
        """
        if self.matrix.shape[0] != grid.size:
            raise GridError(
                "the matrix of Sparse does not fit the grid",
                expected=f"({grid.size}, {grid.size}), the number of cells of {grid.shape}",
                given=self.matrix.shape,
            )
        reference = self.about.padded(fields, grid, layout)
        return BoundSparse(self, (fields.index(self.first), fields.index(self.second)), reference, grid, layout)

    def __repr__(self) -> str:
        return f"Sparse({self.first!r}, {self.second!r}, {self.matrix.shape}, {self.matrix.nnz} entries)"


class BoundSparse:
    """`Sparse` on a grid."""

    def __init__(self, kernel: Sparse, index: tuple[int, int], reference: np.ndarray | None, grid: Grid, layout: Layout):
        self._kernel, self._volume = kernel, grid.cell_volume
        sides = (index, index[::-1])
        self._products = [
            SparseProduct(matrix, grid.cell_volume, target, source, reference, layout)
            for matrix, (target, source) in zip(kernel.products, sides, strict=False)
        ]

    def add_force(self, state: State, out: State, t: float) -> None:
        for product in self._products:
            product.apply(state.storage, out.storage, affine=True)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        for product in self._products:
            product.apply(direction.storage, out.storage, affine=False)

    def energy(self, state: State, t: float) -> float:
        share = 0.5 if len(self._products) == 1 else 1.0  # the one product is that of A + A^T
        return share * self._products[0].energy(state.storage)

    def symbol(self) -> None:
        return None

    def bound(self, t: float = 0.0) -> float:
        """h^d sqrt(|A|_1 |A|_inf), above the largest |eigenvalue| of F' (of A + A^T where a is b)."""
        size = abs(self._kernel.products[0])
        return float(np.sqrt(size.sum(axis=0).max() * size.sum(axis=1).max())) * self._volume
