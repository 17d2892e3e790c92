"""Pictures of runs, from the result alone (extra `plot`: matplotlib)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sftsolve.config import Denoising, Experiment, RingTraining, restore
from sftsolve.output import Result
from sftsolve.plot import fields, networks
from sftsolve.plot.style import picture_path, save

__all__ = ["available", "experiment_of", "picture_path", "save_picture"]

_DRAWINGS: dict[type, Callable[[Result, Any], Any]] = {
    Denoising: networks.draw_denoising,
    RingTraining: networks.draw_ring,
}


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def save_picture(result: Result, path: str | Path, experiment: Experiment | None = None) -> Path:
    """Draw a run and write the picture to `path`; the path.

    Parameters
    ----------
    result : the run, in memory or opened from a file
    path : where to write; the suffix says in which format, .png where there is none
    experiment : the network behind the run, for a picture of what it learned

    Raises
    ------
    ConfigError : matplotlib is not installed
    FileError : the picture cannot be written
    """
    path = picture_path(path)
    drawing = _DRAWINGS.get(type(experiment))
    figure = fields.draw(result) if drawing is None else drawing(result, experiment)
    save(figure, path)
    return path


def experiment_of(result: Result) -> Experiment | None:
    """The network behind a run, made again from the configuration that its file holds; None where there is none.

    Raises
    ------
    FileError : the network's data are no longer where they were
    """
    settings = result.meta.get("settings", {})
    if "config" not in settings:
        return None
    config = restore(settings, str(result.path))
    return config.network.build() if config.network is not None else None
