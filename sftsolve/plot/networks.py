"""Pictures of networks: what a denoising filter learned, and a ring's theory against its own training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sftsolve.config import Denoising, RingTraining
from sftsolve.network import best_convolution, best_gaussian, gaussian_blur, psnr
from sftsolve.output import Result
from sftsolve.plot import fields
from sftsolve.plot.style import GREY, LINES, new_figure, parts, plain, shades, time_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_SHOWN_IMAGES = 6


def draw_denoising(result: Result, experiment: Denoising) -> Figure:
    """Held-out images noisy, learned and clean; the filters on one colour scale; cost and PSNR against training time."""
    figure = new_figure(12.0, 8.2)
    upper, lower = parts(figure, 2, 1, height_ratios=[1.25, 1.0])
    images, filters = parts(upper, 1, 2, width_ratios=[1.45, 1.0])
    _images(images, result, experiment)
    _filters(filters, result, experiment)
    _learning(lower, result, experiment)
    return figure


def _images(part: SubFigure, result: Result, experiment: Denoising) -> None:
    inputs, targets = experiment.images.held_out_inputs, experiment.images.held_out_targets
    chosen = _spread(experiment.images.held_out_labels)
    learned = experiment.network.outputs(result.w[-1], inputs[chosen])
    panels = part.subplots(3, len(chosen), squeeze=False)
    kinds = (("noisy", inputs[chosen]), ("learned", learned), ("clean", targets[chosen]))
    for row, (name, pictures) in zip(panels, kinds, strict=True):
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(picture, cmap=GREY, vmin=0.0, vmax=1.0, interpolation="nearest")
            plain(axes)
        row[0].set_ylabel(name, fontsize="large")
    part.suptitle("images that were not trained on")


def _spread(labels: np.ndarray) -> np.ndarray:
    """Places of the first example of as many labels as are shown."""
    places = np.array([int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)])
    wanted = np.linspace(0, len(places) - 1, min(_SHOWN_IMAGES, len(places))).round().astype(int)
    return places[wanted]


def _filters(part: SubFigure, result: Result, experiment: Denoising) -> None:
    """Every weight field at its offset's place."""
    offsets = experiment.network.offsets
    rows, columns = sorted({dy for dy, _ in offsets}), sorted({dx for _, dx in offsets})
    weights = np.asarray(result.w[-1])
    scale = shades(weights)
    panels = part.subplots(len(rows), len(columns), squeeze=False)
    for axes in panels.flat:
        plain(axes)
    mesh: Any = None
    for (dy, dx), values in zip(offsets, weights, strict=True):
        axes = panels[rows.index(dy), columns.index(dx)]
        mesh = axes.imshow(values, interpolation="nearest", **scale)
        title = ", ".join(f"{name} {step:+d}" for name, step in (("dy", dy), ("dx", dx)) if step) or "centre"
        axes.set_title(title, fontsize="small" if len(columns) < 5 else 5.5)
    part.colorbar(mesh, ax=list(panels.flat), shrink=0.8, label="weight w(x)")
    part.suptitle("the learned filters, one field per offset")


def _learning(part: SubFigure, result: Result, experiment: Denoising) -> None:
    left, right = part.subplots(1, 2)
    tau = result.scalars["tau"]
    left.plot(tau, result.scalars["cost"], color=LINES[0], marker=".", ms=4)
    left.set(ylabel="cost (training images)", yscale="log")
    network, images = experiment.network, experiment.images
    inputs, targets = images.held_out_inputs, images.held_out_targets
    blurred = gaussian_blur(inputs, best_gaussian(images.train_inputs, images.train_targets))
    convolved = network.outputs(best_convolution(network), inputs)
    right.plot(result.tau, experiment.held_out_psnr(result), color=LINES[0], marker=".", ms=4, label="learned")
    for colour, style, name, outputs in (
        (LINES[1], "--", "best single convolution", convolved),
        (LINES[2], ":", "best Gaussian blur", blurred),
        (LINES[6], "-.", "noisy", inputs),
    ):
        right.axhline(psnr(outputs, targets), color=colour, ls=style, label=name)
    right.set_ylabel("PSNR of held-out images (dB)")
    right.legend(fontsize="small", frameon=False, loc="center left")
    for axes, times in ((left, tau), (right, result.tau)):
        time_axis(axes, times, "training time tau")
        axes.grid(alpha=0.3)


def draw_ring(result: Result, experiment: RingTraining) -> Figure:
    """The fields of theory and network at the end, their outputs, and how the theory's error grows."""
    if not experiment.comparable:
        return fields.draw(result)
    trained = experiment.trained(result)
    names = result.fields
    figure = new_figure(11.0, 2.6 * len(names) + 2.8)
    upper, lower = parts(figure, 2, 1, height_ratios=[2.6 * len(names), 2.7])
    (x,) = result.grid.coordinates
    final = np.asarray(result.w[-1])
    for axes, name, theory, own, start in zip(
        np.atleast_1d(upper.subplots(len(names), 1, sharex=True)), names, final, trained[-1], result.w[0], strict=True
    ):
        axes.plot(x, start, color="0.6", ls="--", lw=1.0, label="start")
        axes.plot(x, own, color=LINES[1], marker=".", ms=5, lw=0, label="network, trained")
        axes.plot(x, theory, color=LINES[0], lw=1.5, label="field theory")
        axes.set(ylabel=f"{name}(x)")
        axes.grid(alpha=0.3)
    axes.set_xlabel("x")
    axes.legend(fontsize="small", frameon=False)
    upper.suptitle(f"weights at training time tau = {result.tau[-1]:g}")
    _ring_errors(lower, result, experiment, trained)
    return figure


def _ring_errors(part: SubFigure, result: Result, experiment: RingTraining, trained: np.ndarray) -> None:
    left, right = part.subplots(1, 2)
    sites = 4 * experiment.network.spacing * np.arange(experiment.network.units)
    theory, own = (experiment.network.outputs(w) for w in (result.w[-1], trained[-1]))
    for colour, example in zip(LINES, range(len(own)), strict=False):
        left.plot(sites, own[example], color=colour, marker=".", ms=5, lw=0)
        left.plot(sites, theory[example], color=colour, lw=1.2, label=f"example {example}")
    left.set(xlabel="x", ylabel="output Z (line: theory)")
    left.legend(fontsize="small", frameon=False)
    right.plot(result.tau[1:], experiment.errors(result, trained)[1:], color=LINES[0], marker=".", ms=4)
    right.set(xlabel="training time tau", ylabel="relative error of the outputs", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
