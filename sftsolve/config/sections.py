"""The sections of a configuration file, one model each; a model's fields are the section's keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from sftsolve.action import Action
from sftsolve.config.kernels import KernelSection
from sftsolve.config.section import Location, Section, refusal
from sftsolve.config.sources import SourceValue
from sftsolve.errors import ConfigError, FileError
from sftsolve.friction import FLRW, Friction
from sftsolve.grid import Grid

PICTURES = (".png", ".pdf", ".svg")


class GridSection(Section):
    """[grid]: the arguments of `Grid`, and the order of accuracy in space."""

    shape: list[int] = Field(description="the number of cells per axis: [nx], [ny, nx] or [nz, ny, nx]")
    length: list[float] = Field(description="the side lengths in the order of the shape")
    origin: list[float] | None = None
    boundary: str | dict[str, Any] = "periodic"
    order: int = 2

    def build(self) -> Grid:
        return Grid(shape=self.shape, length=self.length, origin=self.origin, boundary=self.boundary)


def _as_text(given: object) -> object:
    """A bare number is an expression too."""
    return str(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else given


class ActionSection(Section):
    """[action]: fields, the cost density, and what it is made of."""

    fields: list[str] = Field(min_length=1, description='a list of field names, such as ["w"]')
    cost: Annotated[str, BeforeValidator(_as_text)] = Field(description='the cost density, such as "D/2*grad2(w) + w**4/4"')
    parameters: dict[str, float] = {}
    sources: dict[str, SourceValue] = {}
    kernels: list[KernelSection] = []

    def build(self, grid: Grid, friction: Friction | None) -> Action:
        return Action(
            fields=self.fields,
            cost=self.cost,
            parameters=self.parameters,
            sources={name: value.on(grid) for name, value in self.sources.items()},
            kernels=[kernel.build(grid) for kernel in self.kernels],
            friction=friction,
        )


class ExpansionSection(Section):
    """{ hubble = ... }, { power = ..., t0 = ... } or { scale_factor = [[t, ...], [a, ...]] }: the arguments of `FLRW`."""

    hubble: float | None = None
    power: float | None = None
    t0: float | None = None
    scale_factor: list[list[float]] | None = None


class DescentSection(Section):
    """{ eta = ..., momentum = ..., nesterov = ... }: the arguments of `Friction.matching_descent`."""

    eta: float
    momentum: float = 0.0
    nesterov: bool = False


class FrictionSection(Section):
    """[friction]: exactly one of the arguments of `Friction`, of an expanding space, or of a descent to follow."""

    gamma: float | None = None
    eta: float | None = None
    hubble: float | None = None
    schedule: dict[str, Any] | None = None
    flrw: ExpansionSection | None = None
    matching_descent: DescentSection | None = None

    def build(self) -> Friction:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                "friction needs exactly one of its keys",
                expected="one of " + ", ".join(type(self).model_fields),
                given=", ".join(given) or "none of them",
            )
        if self.flrw is not None:
            return FLRW(**dict(self.flrw))
        if self.matching_descent is not None:
            return Friction.matching_descent(**dict(self.matching_descent))
        return Friction(gamma=self.gamma, eta=self.eta, hubble=self.hubble, schedule=self.schedule)


class TimeSection(Section):
    """[time]: how far, in which clock, by which method, how exactly, and in what steps at most."""

    end: float = Field(gt=0, description="the time at which to stop, > 0, in the clock")
    clock: Literal["tau", "t"] = "tau"
    method: str = "auto"
    rtol: float = Field(1e-6, gt=0, lt=1)
    atol: float | dict[str, float] = 1e-9
    dynamics: Literal["damped", "gradient-flow", "slow-manifold"] = "damped"
    first_step: float | None = Field(None, gt=0)
    max_step: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, gt=0)
    allow_ill_posed: bool = False
    dtype: Literal["float64", "float32"] = "float64"


class LogTimes(Section):
    """`count` times from log[0] to log[1], evenly spaced in their logarithm."""

    log: list[float] = Field(min_length=2, max_length=2, description="[first, last]")
    count: int = Field(ge=2, description="a whole number >= 2")


def _check_times(given: object) -> object:
    if not isinstance(given, (list, Mapping, LogTimes)):
        raise refusal("these are no times", expected="a list of times, or { log = [first, last], count = n }")
    return given


SaveTimes = Annotated[
    Annotated[list[float], Tag("list")] | Annotated[LogTimes, Tag("log")],
    Discriminator(lambda given: "list" if isinstance(given, list) else "log"),
    BeforeValidator(_check_times),
]


class OutputSection(Section):
    """[output]: where results go and how often. `picture = ""` draws none."""

    file: Location = Field(min_length=1)
    picture: Location = ""
    save_every: float | None = Field(None, gt=0)
    save_at: SaveTimes | None = None
    scalars_every: float | None = Field(None, gt=0)
    later: ClassVar[Mapping[str, str]] = {
        "checkpoint_every": "leave it out; runs that can be resumed come in a later version",
    }

    def check(self) -> None:
        """Look at the paths before anything is computed.

        Raises
        ------
        FileError : a folder that does not exist, or a picture of a kind that is not drawn
        """
        for path in (Path(self.file), Path(self.picture)) if self.picture else (Path(self.file),):
            if not path.parent.is_dir():
                raise FileError("the output's folder does not exist", expected="an existing folder", given=path.parent)
        if self.picture and Path(self.picture).suffix not in PICTURES:
            raise FileError("this kind of picture is not drawn", expected=f"a name in {', '.join(PICTURES)}", given=self.picture)

    def times(self) -> list[float] | dict[str, Any] | None:
        """`save_at` as `solve` takes it."""
        return self.save_at.model_dump() if isinstance(self.save_at, LogTimes) else self.save_at
