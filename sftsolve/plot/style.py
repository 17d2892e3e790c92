"""Colours, scales and labels that all pictures share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sftsolve.errors import ConfigError, FileError
from sftsolve.output import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's palette, told apart by colour-blind readers (https://jfly.uni-koeln.de/color/).
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
SIGNED, POSITIVE, GREY = "RdBu_r", "viridis", "gray"
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, drawn without a display.

    Raises
    ------
    ConfigError : matplotlib is not installed
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            "pictures need matplotlib",
            expected="the extra `plot`",
            remedy="pip install 'sftsolve[plot]', or set output.picture=''",
        ) from None
    return Figure(figsize=(width, height), layout="constrained", dpi=_DPI)


def parts(figure: Figure | SubFigure, rows: int, columns: int, **options: Any) -> list[SubFigure]:
    """Divide a figure into rows and columns of figures, row by row."""
    return list(figure.subfigures(rows, columns, squeeze=False, **options).flat)


def picture_path(path: str | Path) -> Path:
    """Where a picture can be written, for a look beforehand: `path`, with .png where it names no format.

    Raises
    ------
    ConfigError : matplotlib is not installed
    FileError : there is no such folder, or no such format
    """
    path = Path(path)
    path = path if path.suffix else path.with_name(path.name + ".png")
    formats = new_figure(1.0, 1.0).canvas.get_supported_filetypes()
    if not path.parent.is_dir():
        raise FileError("the picture's folder does not exist", expected="an existing folder", given=path.parent)
    if path.suffix[1:].lower() not in formats:
        known = ", ".join(f".{name}" for name in sorted(formats))
        raise FileError("this kind of picture is not drawn", expected=f"a name in {known}", given=path)
    return path


def save(figure: Figure, path: Path) -> None:
    """Write the figure; the file's suffix says in which format.

    Raises
    ------
    FileError : it cannot be written there
    """
    try:
        figure.savefig(path)
    except OSError as error:
        raise FileError("the picture cannot be written", expected="a path such as run.png", given=f"{path}: {error}") from None


def shades(*arrays: np.ndarray) -> dict[str, Any]:
    """Colour map and limits that fit all `arrays`: diverging about zero where they change sign, else sequential."""
    low = min(float(np.min(array)) for array in arrays)
    high = max(float(np.max(array)) for array in arrays)
    if low < 0 < high:
        largest = max(-low, high)
        return {"cmap": SIGNED, "vmin": -largest, "vmax": largest}
    return {"cmap": POSITIVE, "vmin": low, "vmax": high if high > low else low + 1.0}


def clock(result: Result) -> tuple[np.ndarray, str]:
    """The snapshots' times and the axis label, in the clock of the run; physical time where there is no friction."""
    if result.meta.get("settings", {}).get("clock") == "t" or not np.isfinite(result.tau).all():
        return result.t, "time t"
    return result.tau, "training time tau"


def spans_decades(times: np.ndarray) -> bool:
    """Whether times are spaced like powers, so that a logarithmic axis shows them best."""
    later = times[times > 0]
    return len(later) > 4 and later[-1] / later[0] > 50 and later[len(later) // 2] < later[-1] / 4


def time_axis(axes: Axes, times: np.ndarray, label: str) -> None:
    """Label the horizontal axis, logarithmic where the times are."""
    axes.set_xlabel(label)
    if spans_decades(times):
        axes.set_xscale("log")


def plain(axes: Axes) -> None:
    """Take away ticks and frame, for images whose pixels speak for themselves."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
