"""The kinds of [[action.kernels]] that act by displacement: convolutions, shifts, powers of the Laplacian."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sftsolve.config.section import Location, Section, refusal
from sftsolve.config.values import Value
from sftsolve.grid import Grid
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.fractional import Fractional
from sftsolve.kernels.modulated import Modulated
from sftsolve.kernels.shift import Shift
from sftsolve.sources import read_dataset

Pair = Annotated[
    list[str], Field(min_length=2, max_length=2, description='the two fields that the kernel joins, such as ["w", "w"]')
]


class KernelOfPair(Section):
    """What kernels between two fields share: `about` is a table of values by field."""

    fields: Pair
    about: dict[str, Value] = {}

    def reference(self, grid: Grid) -> dict[str, Any] | None:
        """`about` as kernels take it."""
        return {name: value.on(grid) for name, value in self.about.items()} or None


class Invariant(KernelOfPair):
    """What kernels k(x - y) share: `expression`, or `file` and `dataset` with an array."""

    expression: str | None = None
    file: Location | None = None
    dataset: str | None = None
    parameters: dict[str, float] = {}
    amplitude: float | str = 1.0
    walls: str | dict[str, str] = "zero"
    method: str = "auto"
    centred: bool = False

    @model_validator(mode="after")
    def _one_profile(self) -> Invariant:
        given = (self.expression is not None, self.file is not None, self.dataset is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise refusal("k is not clear", expected='expression = "...", or file = "..." and dataset = "..."')
        return self

    def options(self, grid: Grid) -> dict[str, Any]:
        """The arguments of `Convolution` and `Modulated` that they share."""
        k: Any = self.expression
        if self.file is not None:
            k = read_dataset(Path(self.file), str(self.dataset))
        names = ("parameters", "amplitude", "walls", "method", "centred")
        return {"k": k, "about": self.reference(grid)} | {name: getattr(self, name) for name in names}


class ConvolutionSection(Invariant):
    """[[action.kernels]] kind = "convolution": `sftsolve.Convolution`."""

    kind: Literal["convolution"]

    def build(self, grid: Grid) -> Convolution:
        return Convolution(self.fields[0], self.fields[1], **self.options(grid))


class ModulatedSection(Invariant):
    """[[action.kernels]] kind = "modulated": `sftsolve.Modulated`; X, and Y if given, are datasets (l, *grid) in `masks`."""

    kind: Literal["modulated"]
    masks: Location = Field(description="an HDF5 file")
    X: str = Field(description="the name of the dataset X")
    Y: str | None = None

    def build(self, grid: Grid) -> Modulated:
        path = Path(self.masks)
        second = None if self.Y is None else read_dataset(path, self.Y)
        return Modulated(self.fields[0], self.fields[1], X=read_dataset(path, self.X), Y=second, **self.options(grid))


class ShiftSection(KernelOfPair):
    """[[action.kernels]] kind = "shift": `sftsolve.Shift`."""

    kind: Literal["shift"]
    displacement: list[int] | list[list[int]] = Field(description="whole numbers of cells in axis order, or a list of such")
    coefficient: Value | list[Value] = Field(1.0, validate_default=True)

    def build(self, grid: Grid) -> Shift:
        given = self.coefficient
        coefficient = [value.on(grid) for value in given] if isinstance(given, list) else given.on(grid)
        return Shift(self.fields[0], self.fields[1], self.displacement, coefficient, about=self.reference(grid))


class FractionalSection(KernelOfPair):
    """[[action.kernels]] kind = "fractional": `sftsolve.Fractional`."""

    kind: Literal["fractional"]
    exponent: float = Field(description="the power p of (-lap)^p")
    coefficient: float = 1.0
    amplitude: float | str = 1.0
    parameters: dict[str, float] = {}

    def build(self, grid: Grid) -> Fractional:
        first, second = self.fields
        options = {name: getattr(self, name) for name in ("coefficient", "amplitude", "parameters")}
        return Fractional(first, self.exponent, second=second, about=self.reference(grid), **options)
