"""Values of a field or of a source: a number, an expression, a dataset in a file, a random field."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag

from sftsolve.config.section import Location, Section, refusal
from sftsolve.errors import ConfigError
from sftsolve.grid import Grid
from sftsolve.sources import read_dataset


class NumberValue(Section):
    """The same number everywhere."""

    number: float

    def on(self, grid: Grid) -> float:
        return self.number


class ExpressionValue(Section):
    """An expression of the coordinates, parsed by `sftsolve.expression` and never run as Python."""

    expression: str

    def on(self, grid: Grid) -> str:
        return self.expression


class DatasetValue(Section):
    """An array of the grid's shape in an HDF5 file."""

    file: Location
    dataset: str = Field(description="the name of a dataset in the file")

    def on(self, grid: Grid) -> np.ndarray:
        return read_dataset(Path(self.file), self.dataset)


class RandomField(Section):
    """Parameters of a random field."""

    seed: int = Field(ge=0, description="a whole number >= 0, the seed of numpy.random.default_rng")
    amplitude: float = Field(gt=0, description="the field's root mean square, > 0")
    cutoff: float | None = Field(None, gt=0)


class RandomValue(Section):
    """A random field, see `random_field`."""

    random: RandomField

    def on(self, grid: Grid) -> np.ndarray:
        return random_field(grid, self.random.seed, self.random.amplitude, self.random.cutoff)


_KINDS = {"number": NumberValue, "expression": ExpressionValue, "file": DatasetValue, "random": RandomValue}
EXPECTED = 'a number, { expression = "..." }, { file = "...", dataset = "..." } or { random = { seed = ..., amplitude = ... } }'


def spelled_out(given: object) -> object:
    """The table that a plain number or a plain text stands for."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return {"number": given}
    if isinstance(given, str):
        return {"expression": given}
    if kind_of_value(given) is None:
        raise refusal("this is no value", expected=EXPECTED)
    return given


def kind_of_value(given: object) -> str | None:
    if isinstance(given, Mapping):
        return next((name for name in _KINDS if name in given), None)
    return next((name for name, kind in _KINDS.items() if isinstance(given, kind)), None)


Value = Annotated[
    Annotated[NumberValue, Tag("number")]
    | Annotated[ExpressionValue, Tag("expression")]
    | Annotated[DatasetValue, Tag("file")]
    | Annotated[RandomValue, Tag("random")],
    Discriminator(kind_of_value),
    BeforeValidator(spelled_out),
]


def random_field(grid: Grid, seed: int, amplitude: float, cutoff: float | None = None) -> np.ndarray:
    """A Gaussian random field of root mean square `amplitude` and mean zero, periodic on the box.

    With a cutoff it is a sum of the waves with 0 < |k| <= cutoff (per unit of length), the same on every grid that is
    fine enough to carry them; without one, independent noise in every cell.

    Raises
    ------
    ConfigError : the cutoff leaves no wave on this grid
    """
    rng = np.random.default_rng(seed)
    if cutoff is None:
        noise = rng.standard_normal(grid.shape)
        noise -= noise.mean()
        return noise * (amplitude / max(float(np.sqrt(np.mean(noise**2))), 1e-300))
    highest = [min(int(cutoff * side / (2 * math.pi)), (n - 1) // 2) for side, n in zip(grid.length, grid.shape, strict=True)]
    waves = [np.arange(-m, m + 1) * (2 * math.pi / side) for m, side in zip(highest, grid.length, strict=True)]
    squares = functools.reduce(np.add.outer, [k**2 for k in waves])
    noise = np.fft.fftshift(np.fft.fftn(rng.standard_normal(squares.shape)))
    coefficients = np.where((squares > 0) & (squares <= cutoff**2), noise, 0.0)
    power = float(np.sum(np.abs(coefficients) ** 2))
    if power == 0:
        longest = 2 * math.pi / max(grid.length)
        raise ConfigError("the random field has no wave", expected=f"a cutoff above {longest:g} and several cells", given=cutoff)
    field = coefficients * (amplitude / math.sqrt(power))
    for k, points in zip(waves, grid.coordinates, strict=True):
        # The first axis is summed and its points become the last one, so that after all axes their order is right again.
        field = np.tensordot(field, np.exp(1j * np.multiply.outer(k, points)), axes=(0, 0))
    return np.ascontiguousarray(field.real)
