"""[action.sources]: what [initial] takes, and what changes in time: expressions of t, time series and mini-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from sftsolve.config.section import Location, Section, refusal
from sftsolve.config.values import (
    EXPECTED,
    DatasetValue,
    ExpressionValue,
    NumberValue,
    RandomValue,
    kind_of_value,
    spelled_out,
)
from sftsolve.grid import Grid
from sftsolve.sources import MiniBatches, TimeSeries


class SeriesValue(Section):
    """`sftsolve.TimeSeries` of a dataset (time, *grid) in an HDF5 file; the times are a dataset of it, or numbers."""

    file: Location
    dataset: str = Field(description="the name of a dataset (time, *grid) in the file")
    times: str | list[float]
    interpolation: Literal["linear", "cubic"] = "linear"

    def on(self, grid: Grid) -> TimeSeries:
        return TimeSeries(self.times, {"file": self.file, "dataset": self.dataset}, self.interpolation)


class BatchesValue(Section):
    """`sftsolve.MiniBatches` of a dataset (example, *grid) in an HDF5 file; sources with equal numbers show the same examples."""

    file: Location
    dataset: str = Field(description="the name of a dataset (example, *grid) in the file")
    batch_size: int = Field(ge=1)
    every: float = Field(1.0, gt=0)
    seed: int = Field(0, ge=0)
    shuffle: bool = True
    start: float = 0.0
    reduce: Literal["mean", "sum"] = "mean"

    def on(self, grid: Grid) -> MiniBatches:
        place, seed = {"file": self.file, "dataset": self.dataset}, self.seed if self.shuffle else None
        return MiniBatches(place, self.batch_size, every=self.every, seed=seed, start=self.start, reduce=self.reduce)


_MOVING = {"times": ("series", SeriesValue), "batch_size": ("batches", BatchesValue)}
_PLACE = 'file = "...", dataset = "..."'
_FORMS = f'{EXPECTED}, {{ {_PLACE}, times = "..." or [...] }} or {{ {_PLACE}, batch_size = n }}'


def _kind(given: object) -> str | None:
    for key, (tag, section) in _MOVING.items():
        if isinstance(given, section) or (isinstance(given, Mapping) and key in given):
            return tag
    return kind_of_value(given)


def _spell_out(given: object) -> object:
    if isinstance(given, Mapping) and _kind(given) is None:
        raise refusal("this is no source", expected=_FORMS)
    return spelled_out(given) if kind_of_value(given) == _kind(given) else given


SourceValue = Annotated[
    Annotated[NumberValue, Tag("number")]
    | Annotated[ExpressionValue, Tag("expression")]
    | Annotated[DatasetValue, Tag("file")]
    | Annotated[RandomValue, Tag("random")]
    | Annotated[SeriesValue, Tag("series")]
    | Annotated[BatchesValue, Tag("batches")],
    Discriminator(_kind),
    BeforeValidator(_spell_out),
]
