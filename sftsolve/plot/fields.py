"""The general picture of a run: its fields on one, two or three axes, and its cost and energies over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sftsolve.output import Result
from sftsolve.plot.style import LINES, clock, new_figure, parts, shades, spans_decades, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MOST_FIELDS = 6
_SHOWN_TIMES = 4
_MAP_ROWS = 8  # fewer snapshots than this make no map of space and time
_ENERGIES = ("cost", "kinetic", "energy")


def draw(result: Result) -> Figure:
    """The picture of any run."""
    fields = result.fields[:_MOST_FIELDS]
    panel = {1: 2.6, 2: 2.7, 3: 2.7}[result.grid.dimension]
    figure = new_figure(11.0, panel * len(fields) + 2.8)
    upper, lower = parts(figure, 2, 1, height_ratios=[panel * len(fields), 2.6])
    for row, name in zip(parts(upper, len(fields), 1), fields, strict=True):
        _DRAWINGS[result.grid.dimension](row, result, name)
    if len(result.fields) > len(fields):
        upper.suptitle(f"{len(fields)} of {len(result.fields)} fields")
    _time_series(lower, result)
    return figure


def _line(row: SubFigure, result: Result, name: str) -> None:
    """One axis: a map of space and time, and profiles."""
    (x,) = result.grid.coordinates
    times, label = clock(result)
    values = result[name]
    *space_time, right = row.subplots(1, 1 if len(times) < _MAP_ROWS else 2, squeeze=False).flat
    for left in space_time:
        first = int(spans_decades(times))  # time zero has no place on a logarithmic axis
        mesh = left.pcolormesh(x, times[first:], values[first:], shading="nearest", rasterized=True, **shades(values))
        left.set(xlabel="x", ylabel=label, title=f"{name}(x), all times", yscale="log" if first else "linear")
        row.colorbar(mesh, ax=left, label=name)
    for number, style in zip(_chosen(len(times)), _styles(len(times)), strict=True):
        right.plot(x, values[number], label=f"{label.split()[-1]} = {times[number]:.4g}", **style)
    right.set(xlabel="x", ylabel=name, title=f"{name}(x)")
    right.legend(fontsize="small", frameon=False)


def _plane(row: SubFigure, result: Result, name: str) -> None:
    """Two axes: the field at a few times on one colour scale."""
    times, label = clock(result)
    chosen = _chosen(len(times))
    place = result.fields.index(name)
    maps = [np.asarray(result.w[number, place]) for number in chosen]
    scale = shades(*maps)
    panels = np.atleast_1d(row.subplots(1, len(chosen), sharey=True))
    for axes, number, values in zip(panels, chosen, maps, strict=True):
        mesh = _image(axes, result, ("y", "x"), values, scale)
        axes.set_title(f"{name}, {label.split()[-1]} = {times[number]:.4g}")
    row.colorbar(mesh, ax=list(panels), label=name, shrink=0.8)


def _volume(row: SubFigure, result: Result, name: str) -> None:
    """Three axes: central slices, the first and the last state."""
    times, label = clock(result)
    place = result.fields.index(name)
    nz, ny, nx = result.grid.shape
    first, last = np.asarray(result.w[0, place]), np.asarray(result.w[-1, place])
    symbol = label.split()[-1]
    slices = [
        (first[nz // 2], ("y", "x"), f"{name} at central z, {symbol} = {times[0]:.4g}"),
        (last[nz // 2], ("y", "x"), f"{name} at central z, {symbol} = {times[-1]:.4g}"),
        (last[:, ny // 2], ("z", "x"), f"central y, {symbol} = {times[-1]:.4g}"),
        (last[:, :, nx // 2], ("z", "y"), f"central x, {symbol} = {times[-1]:.4g}"),
    ]
    scale = shades(*(values for values, _, _ in slices))
    panels = row.subplots(1, len(slices))
    for axes, (values, names, title) in zip(panels, slices, strict=True):
        mesh = _image(axes, result, names, values, scale)
        axes.set_title(title, fontsize="medium")
    row.colorbar(mesh, ax=list(panels), label=name, shrink=0.8)


def _image(axes: Axes, result: Result, names: tuple[str, str], values: np.ndarray, scale: dict[str, Any]) -> Any:
    grid = result.grid
    vertical, horizontal = (grid.axes.index(name) for name in names)
    left, bottom = grid.origin[horizontal], grid.origin[vertical]
    sides = (left, left + grid.length[horizontal], bottom, bottom + grid.length[vertical])
    axes.set(xlabel=names[1], ylabel=names[0])
    return axes.imshow(values, origin="lower", extent=sides, aspect="equal", interpolation="nearest", **scale)


def _time_series(row: SubFigure, result: Result) -> None:
    """Cost and energies on the left, all other series but the step on the right."""
    label = clock(result)[1]
    times = result.scalars[label.split()[-1]]
    left, right = row.subplots(1, 2)
    for colour, name in zip(LINES, (name for name in _ENERGIES if name in result.scalars), strict=False):
        left.plot(times, result.scalars[name], color=colour, label=name)
    left.set_ylabel("cost and energies")
    left.legend(fontsize="small", frameon=False)
    if "force_rms" in result.scalars and np.any(result.scalars["force_rms"] > 0):
        right.plot(times, result.scalars["force_rms"], color=LINES[1])
        right.set(ylabel="force (root mean square)", yscale="log")
    else:
        right.remove()
    for axes in (left, right):
        time_axis(axes, times, label)
        axes.grid(alpha=0.3)


def _chosen(count: int) -> list[int]:
    """Which of `count` snapshots to show, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, _SHOWN_TIMES))})


def _styles(count: int) -> list[dict[str, Any]]:
    chosen = _chosen(count)
    styles: list[dict[str, Any]] = [{"color": LINES[place % len(LINES)], "lw": 1.2} for place in range(len(chosen))]
    styles[0] |= {"color": "0.55", "ls": "--"}
    styles[-1] |= {"color": LINES[0], "lw": 1.8}
    return styles


_DRAWINGS = {1: _line, 2: _plane, 3: _volume}
