"""The kinds of [[action.kernels]]: a model of its keys each. A new kind is one model with `kind` and `build`, added here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sftsolve.config.displacements import ConvolutionSection, FractionalSection, ModulatedSection, ShiftSection
from sftsolve.config.matrices import DenseSection, LowRankSection, SeparableSection, SparseSection
from sftsolve.config.section import Location, Section
from sftsolve.grid import Grid
from sftsolve.kernels.pointwise import PointwiseMatrix
from sftsolve.sources import read_dataset


class PointwiseMatrixSection(Section):
    """[[action.kernels]] kind = "pointwise-matrix": datasets M (field, field, *grid) and b (field, *grid) of an HDF5 file."""

    kind: Literal["pointwise-matrix"]
    fields: list[str] = Field(description="the names of the fields that the matrix joins")
    file: Location = Field(description="an HDF5 file")
    matrix: str = Field(description="the name of the dataset M")
    drive: str = Field(description="the name of the dataset b")

    def build(self, grid: Grid) -> PointwiseMatrix:
        path = Path(self.file)
        return PointwiseMatrix(self.fields, read_dataset(path, self.matrix), read_dataset(path, self.drive))


KernelSection = Annotated[
    ConvolutionSection
    | DenseSection
    | FractionalSection
    | LowRankSection
    | ModulatedSection
    | PointwiseMatrixSection
    | SeparableSection
    | ShiftSection
    | SparseSection,
    Field(discriminator="kind"),
]
