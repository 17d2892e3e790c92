"""[[action.kernels]] without translation invariance: a model of its keys for each kind that is given by arrays or by A(x, y)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from scipy import sparse

from sftsolve.config.displacements import KernelOfPair
from sftsolve.config.section import Location, Section, refusal
from sftsolve.config.values import Value
from sftsolve.errors import FileError
from sftsolve.grid import Grid
from sftsolve.kernels.dense import ALTERNATIVES, Dense
from sftsolve.kernels.low_rank import LowRank
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.separable import Separable
from sftsolve.kernels.sparse import Sparse
from sftsolve.sources import read_dataset


class LowRankSection(KernelOfPair):
    """[[action.kernels]] kind = "low-rank": `sftsolve.LowRank` of dataset phi, and psi and weights if given, of an HDF5 file."""

    kind: Literal["low-rank"]
    file: Location = Field(description="an HDF5 file")
    dataset: str = Field(description="the name of the dataset phi, (rank, *grid)")
    psi: str | None = None
    weights: str | None = None

    def build(self, grid: Grid) -> LowRank:
        first, second = self.fields
        names = (self.dataset, self.psi, self.weights)
        phi, psi, weights = (None if name is None else read_dataset(Path(self.file), name) for name in names)
        return LowRank(first, second, phi, psi, weights, self.reference(grid))


class SparseSection(KernelOfPair):
    """[[action.kernels]] kind = "sparse": `sftsolve.Sparse` of a group of an HDF5 file: data, indices, indptr (CSR)."""

    kind: Literal["sparse"]
    file: Location = Field(description="an HDF5 file")
    group: str = Field(description="the name of a group with the datasets data, indices and indptr")

    def build(self, grid: Grid) -> Sparse:
        first, second = self.fields
        parts = tuple(read_dataset(Path(self.file), f"{self.group}/{name}") for name in ("data", "indices", "indptr"))
        try:
            matrix = sparse.csr_array(parts, shape=(len(parts[2]) - 1,) * 2)
            matrix.check_format(full_check=True)
        except (IndexError, TypeError, ValueError) as error:
            raise FileError(
                f"the group {self.group!r} of {self.file} holds no square sparse matrix",
                expected="data, indices and indptr as SciPy's csr_array has them",
                given=error,
            ) from None
        return Sparse(first, second, matrix, self.reference(grid))


class DenseSection(KernelOfPair):
    """[[action.kernels]] kind = "dense": `sftsolve.Dense` of an expression, or of a dataset (N, N) of an HDF5 file."""

    kind: Literal["dense"]
    expression: str | None = None
    file: Location | None = None
    dataset: str | None = None
    parameters: dict[str, float] = {}

    @model_validator(mode="after")
    def _one_matrix(self) -> DenseSection:
        given = (self.expression is not None, self.file is not None, self.dataset is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise refusal("A is not clear", expected='expression = "...", or file = "..." and dataset = "..."')
        return self

    def build(self, grid: Grid) -> Dense:
        first, second = self.fields
        kernel: Any = self.expression
        if self.file is not None:
            Estimate(0.0, 0.0, 8.0 * grid.size**2).require("Dense", remedy=ALTERNATIVES)
            kernel = read_dataset(Path(self.file), str(self.dataset))
        return Dense(first, second, kernel, self.parameters, self.reference(grid))


class SeparableSection(Section):
    """[[action.kernels]] kind = "separable": `sftsolve.Separable` of a dataset phi of an HDF5 file.

    phi is (rank, *grid) for one field and (rank, field, *grid) for several.
    """

    kind: Literal["separable"]
    fields: list[str] = Field(min_length=1, description='the fields, such as ["w"]')
    file: Location = Field(description="an HDF5 file")
    dataset: str = Field(description="the name of the dataset phi")
    function: str | list[str] = Field(description='an expression of s, such as "s**4/4", or a list of one for every function')
    parameters: dict[str, float | list[float]] = {}
    about: dict[str, Value] = {}

    def build(self, grid: Grid) -> Separable:
        fields = self.fields if len(self.fields) > 1 else self.fields[0]
        about = {name: value.on(grid) for name, value in self.about.items()} or None
        return Separable(fields, read_dataset(Path(self.file), self.dataset), self.function, self.parameters, about)
