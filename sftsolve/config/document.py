"""From a TOML file and `key=value` overrides to a checked `Config`, and from that to a `Job` that `solve` can run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError, model_validator

from sftsolve.action import Action
from sftsolve.config.networks import Experiment, NetworkSection
from sftsolve.config.section import Section, Typed, explain, refusal
from sftsolve.config.sections import ActionSection, FrictionSection, GridSection, OutputSection, TimeSection
from sftsolve.config.values import Value
from sftsolve.errors import ConfigError, FileError, SftError
from sftsolve.grid import Grid

_LARGEST_FILE = 1 << 24


@dataclass(frozen=True)
class Job:
    """What a configuration asks for: ``solve(job.action, job.grid, **job.options)``, then a picture.

    `experiment` is the network behind the action, for a [network]; `picture` is None where none is wanted.
    """

    action: Action
    grid: Grid
    options: dict[str, Any] = field(repr=False)
    picture: Path | None
    experiment: Experiment | None


class Config(Section):
    """A whole configuration: [network], or [grid] and [action]; then how to start, how far to go and what to keep."""

    grid: GridSection | None = None
    action: ActionSection | None = None
    network: NetworkSection | None = None
    friction: FrictionSection | None = None
    initial: dict[str, Value] = {}
    velocity: dict[str, Value] = {}
    time: TimeSection = Field(description="a section [time] with the end at least")
    output: OutputSection
    later: ClassVar[Mapping[str, str]] = {
        "scan": "write a loop in Python, as scripts/scan_friction.py does; scans of files come in a later version",
        "report": "leave it out; reports come in a later version",
    }

    @model_validator(mode="after")
    def _one_theory(self) -> Config:
        given = [name for name in ("grid", "action", "network") if getattr(self, name) is not None]
        if given not in (["network"], ["grid", "action"]):
            shown = " and ".join(f"[{name}]" for name in given) or "none of them"
            raise refusal(f"the theory is not clear, there is {shown}", expected="[grid] and [action], or [network] alone")
        return self

    def build(self, name: str, text: str | None = None) -> Job:
        """Make the objects that `solve` takes.

        Parameters
        ----------
        name : what errors call the configuration
        text : the file word for word, to be kept with the results

        Raises
        ------
        SftError : parts that are well-formed each but do not fit together, or files that cannot be read
        """
        with _located("output", name):
            self.output.check()
        with _located("friction", name):
            friction = self.friction.build() if self.friction else None
        experiment = None
        if self.network is not None:
            with _located("network", name):
                experiment = self.network.build()
                grid, action = experiment.grid, experiment.action(friction)
        else:
            assert self.grid is not None and self.action is not None  # held by _one_theory
            with _located("grid", name):
                grid = self.grid.build()
            with _located("action", name):
                action = self.action.build(grid, friction)
        with _located("initial", name):
            initial = dict(experiment.initial()) if experiment else {}
            initial |= {key: value.on(grid) for key, value in self.initial.items()}
        with _located("velocity", name):
            velocity = {key: value.on(grid) for key, value in self.velocity.items()} or None
        options: dict[str, Any] = self.time.model_dump() | {
            "initial": initial,
            "velocity": velocity,
            "order": self.grid.order if self.grid else 2,
            "save_every": self.output.save_every,
            "save_at": self.output.times(),
            "scalars_every": self.output.scalars_every,
            "output": self.output.file,
            "config": text,
            "metadata": {"config": self.model_dump(mode="json", exclude_none=True)},
        }
        picture = Path(self.output.picture) if self.output.picture else None
        return Job(action, grid, options, picture, experiment)


def load(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Config, str]:
    """Read and check a configuration file; the Config and the file's text.

    Relative paths in the file start at its folder, those in `overrides` at the current directory. Without
    output.file the results go to `<stem>.h5` in the current directory, the picture beside them.

    Parameters
    ----------
    path : a TOML file
    overrides : assignments "dotted.key=value"; a value is TOML if it parses, else text

    Raises
    ------
    FileError : the file cannot be read
    ConfigError : not TOML, unknown keys, values of the wrong kind or out of range
    """
    path = Path(path)
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not well-formed TOML", expected="lines such as key = value", given=error) from None
    for assignment in overrides:
        _override(document, assignment)
    output = document.setdefault("output", {})
    if isinstance(output, dict):
        file = output.setdefault("file", Typed(f"{path.stem}.h5"))
        if isinstance(file, str):
            output.setdefault("picture", type(file)(Path(file).with_suffix(".png")) if file else "")
    return _check(document, path.name, path.parent.resolve()), text


def restore(settings: Mapping[str, Any], name: str) -> Config:
    """The Config of a run from what `Job.options["metadata"]` held, as read back from its file."""
    return _check(dict(settings["config"]), name, Path.cwd())


def _check(document: dict[str, Any], name: str, folder: Path) -> Config:
    try:
        return Config.model_validate(document, context={"folder": folder})
    except ValidationError as error:
        raise explain(error, document, name) from None


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            near = ", ".join(sorted(entry.name for entry in path.parent.glob("*.toml"))[:8]) if path.parent.is_dir() else ""
            remedy = f"the folder holds {near}" if near else "check the path"
            raise FileError("there is no such configuration file", expected="a TOML file", given=path, remedy=remedy)
        if path.stat().st_size > _LARGEST_FILE:
            raise FileError("this is too large for a configuration file", expected="a TOML file of a few kB", given=path)
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise FileError("the configuration file cannot be read", given=f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError("the configuration file is not text", expected="a TOML file in UTF-8", given=path) from None


def _override(document: dict[str, Any], assignment: str) -> None:
    """Set one dotted key in place."""
    key, equals, value = assignment.partition("=")
    steps = [step.strip() for step in key.split(".")]
    if not equals or not all(steps):
        raise ConfigError("an override is not understood", expected="section.key=value, such as time.end=2.0", given=assignment)
    place: Any = document
    for step in steps[:-1]:
        place = _enter(place, step, assignment)
    if isinstance(place, list):
        place[_index(place, steps[-1], assignment)] = _value(value)
    elif isinstance(place, dict):
        place[steps[-1]] = _value(value)
    else:
        raise ConfigError(f"{'.'.join(steps[:-1])} is a value and has no keys", expected="section.key=value", given=assignment)


def _enter(place: Any, step: str, assignment: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, assignment)]
    if isinstance(place, dict):
        return place.setdefault(step, {})
    raise ConfigError(f"{step} is below a value, which has no keys", expected="section.key=value", given=assignment)


def _index(place: list[Any], step: str, assignment: str) -> int:
    if not step.isdigit() or int(step) >= len(place):
        raise ConfigError(f"{step!r} is no entry of a list", expected=f"a number from 0 to {len(place) - 1}", given=assignment)
    return int(step)


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return Typed(text)
    return _typed(parsed["value"]) if len(parsed) == 1 else Typed(text)


def _typed(value: Any) -> Any:
    if isinstance(value, str):
        return Typed(value)
    if isinstance(value, dict):
        return {key: _typed(entry) for key, entry in value.items()}
    return [_typed(entry) for entry in value] if isinstance(value, list) else value


@contextmanager
def _located(section: str, name: str) -> Iterator[None]:
    """Say in which section of which file an error of another room arose."""
    try:
        yield
    except SftError as error:
        message = f"[{section}] of {name}: {error.message}"
        raise type(error)(message, expected=error.expected, given=error.given, remedy=error.remedy) from error
