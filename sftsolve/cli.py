"""The command line: `sftsolve run | check | info | plot`. No numerics here: it loads, calls, prints.

What is heavy is loaded on first use, so that --help and --version are quick.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

import sftsolve as sft
from sftsolve.errors import SftError

if TYPE_CHECKING:
    from sftsolve.config import Experiment, Job
    from sftsolve.output import Result, Stats

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Solve synaptic field theory: the training of a neural network as a damped field equation.",
)

REFUSED = 1
USER_ERROR = 2
INTERRUPTED = 130

Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]
ConfigFile = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration file (TOML).", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes, such as time.end=2.0.", show_default=False)
]
RunFile = Annotated[Path, typer.Argument(metavar="RUN", help="A result file (HDF5).", show_default=False)]


class _CurrentStderr(logging.StreamHandler):
    """Writes to what `sys.stderr` is at the time, which a progress bar replaces so that messages appear above it."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        pass


def main() -> None:
    """Entry point of the `sftsolve` command."""
    handler = _CurrentStderr()
    handler.setFormatter(logging.Formatter("sftsolve: %(message)s"))
    logging.getLogger("sftsolve").addHandler(handler)
    app()


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(f"sftsolve {sft.__version__}")
        raise typer.Exit


@app.command()
def run(
    file: ConfigFile,
    overrides: Overrides = None,
    debug: Debug = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run a theory that is ill-posed all the same.")] = False,
) -> None:
    """Solve the theory in FILE; write the fields (HDF5) and a picture, print a summary."""
    with _readable_errors(debug):
        config, text = _room("config").load(file, overrides or [])
        job = config.build(file.name, text)
        options = job.options | ({"allow_ill_posed": True} if force else {})
        result = sft.solve(job.action, job.grid, progress=not quiet, **options)
        picture = _picture(result, job)
        if not quiet:
            _print_rows(_summary(result, job.experiment, picture))
    if result.stats.status == "interrupted":  # the time loop has said where
        raise typer.Exit(INTERRUPTED)


@app.command()
def check(file: ConfigFile, overrides: Overrides = None, debug: Debug = False) -> None:
    """Say what running FILE would take and whether its theory is well-posed. Exit code 1 if `run` would refuse it."""
    with _readable_errors(debug):
        config, text = _room("config").load(file, overrides or [])
        job = config.build(file.name, text)
        options = {name: job.options[name] for name in ("initial", "order", "dynamics", "method", "rtol", "dtype")}
        between = any(job.options[name] is not None for name in ("save_every", "save_at", "scalars_every"))
        report = sft.check(job.action, job.grid, between=between, **options)
        print(report)
    if not report.fits or not (report.well_posed or job.options["allow_ill_posed"]):
        raise typer.Exit(REFUSED)


@app.command()
def info(file: RunFile, debug: Debug = False) -> None:
    """Say what a result file holds and where it comes from."""
    with _readable_errors(debug):
        result = sft.open(file)
        _print_rows(_contents(result))
        if "config" in result.meta:
            print(f"\n{result.meta['config'].rstrip()}")


@app.command()
def plot(
    file: RunFile,
    picture: Annotated[Path | None, typer.Argument(help="Where to write; RUN with .png by default.", show_default=False)] = None,
    fields: Annotated[bool, typer.Option("--fields", help="Draw the fields, not what a network learned.")] = False,
    debug: Debug = False,
) -> None:
    """Draw the picture of a run again, from its result file alone."""
    with _readable_errors(debug):
        result = sft.open(file)
        experiment = None if fields else _room("plot").experiment_of(result)
        print(_room("plot").save_picture(result, picture or file.with_suffix(".png"), experiment))


def _room(name: str) -> ModuleType:
    return import_module(f"sftsolve.{name}")


def _picture(result: Result, job: Job) -> str:
    """Draw the picture of a run; where it is, or why there is none."""
    if job.picture is None:
        return "none"
    if not _room("plot").available():
        return "none (pip install 'sftsolve[plot]')"
    return str(_room("plot").save_picture(result, job.picture, job.experiment))


def _summary(result: Result, experiment: Experiment | None, picture: str) -> list[tuple[str, str]]:
    stats, cost = result.stats, result.scalars["cost"]
    return [
        ("method", stats.method),
        ("steps", f"{stats.steps} ({stats.rejected} rejected)"),
        ("force evaluations", str(stats.force_evaluations)),
        ("wall time", f"{stats.wall_time:.3g} s"),
        *_energy(stats),
        ("cost", f"{cost[0]:.6g} -> {cost[-1]:.6g}"),
        *(experiment.rows(result) if experiment else []),
        ("file", str(result.path)),
        ("picture", picture),
    ]


def _energy(stats: Stats) -> list[tuple[str, str]]:
    residual = stats.energy_residual
    return [] if residual is None else [("energy balance", f"holds to {residual:.2g} of what was exchanged")]


def _contents(result: Result) -> list[tuple[str, str]]:
    stats, grid, meta = result.stats, result.grid, result.meta
    settings = meta.get("settings", {})
    program, *arguments = meta.get("argv", [""])
    return [
        ("fields", ", ".join(result.fields)),
        ("cells", f"{' x '.join(str(n) for n in grid.shape)} ({', '.join(grid.axes)})"),
        ("length", " x ".join(f"{side:g}" for side in grid.length)),
        *((f"boundary in {axis}", json.dumps(faces)) for axis, faces in grid.boundary.items()),
        *((key, str(settings[key])) for key in ("dynamics", "gamma", "clock", "rtol") if key in settings),
        ("snapshots", f"{len(result.t)}, t = {result.t[0]:g} to {result.t[-1]:g}, tau = {result.tau[0]:g} to {result.tau[-1]:g}"),
        *((f"{name}, first and last", f"{values[0]:.6g}, {values[-1]:.6g}") for name, values in result.scalars.items()),
        ("status", f"{stats.status} {stats.message}".rstrip()),
        ("method", stats.method),
        ("steps", f"{stats.steps} ({stats.rejected} rejected), {stats.force_evaluations} force evaluations"),
        ("wall time", f"{stats.wall_time:.3g} s"),
        *_energy(stats),
        ("command", " ".join([Path(program).name, *arguments])),
        ("started", f"{meta.get('started', '?')} on {meta.get('host', '?')}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in meta.get("versions", {}).items())),
    ]


def _print_rows(rows: list[tuple[str, str]]) -> None:
    console = Console()
    if not console.is_terminal:
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"{name:<{width}}  {value}")
        return
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


@contextmanager
def _readable_errors(debug: bool) -> Iterator[None]:
    """Every error ends the command with one message on stderr; with `debug` the traceback comes first."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        _stop("interrupted before there was anything to save", INTERRUPTED)
    except (Exception, MemoryError) as error:
        if debug:
            traceback.print_exc()
        _stop(_message(error), USER_ERROR)


def _message(error: BaseException) -> str:
    if isinstance(error, SftError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory\n  to do:    take a coarser grid, fewer fields or fewer snapshots"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error}\n  to do:    this is a fault of sftsolve; --debug shows where"


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"sftsolve: {message}", err=True)
    raise typer.Exit(code)
