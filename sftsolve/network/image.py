"""A locally wired filter on images: one weight per pixel and offset, a local field theory at every level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sftsolve.action import Action
from sftsolve.errors import ConfigError, GridError
from sftsolve.friction import Friction
from sftsolve.grid import Grid
from sftsolve.kernels.batched import BatchedMatrix
from sftsolve.kernels.pointwise import PointwiseMatrix
from sftsolve.network import checks
from sftsolve.network.descent import descend
from sftsolve.sources import BatchSchedule, MiniBatches

Array = np.ndarray[Any, np.dtype[np.float64]]

CHUNK_BYTES = 1 << 23  # examples held in float64 at a time, small enough to stay near the processor


class ImageFilter:
    """`Z(x) = sum_k w_k(x) X(x + delta_k)`, zero padding, trained on L pairs of images. Pixel spacing is 1.

        cost = sum_x [ 1/(2L) sum_l (Z_l - Y_l)^2 + kappa/2 sum_k |grad w_k|^2 ]

    with |grad w|^2 the sum of squared differences over the edges between neighbouring pixels (no flux through the
    image's border), which is sftsolve's discretisation at order 2. Weights `w` are arrays (field, ny, nx), one field per
    offset. The cost is quadratic: `action()` is exact, with mass matrix M_ab(x) = mean_l X_l(x+delta_a) X_l(x+delta_b).

    Attributes: inputs and targets (L, ny, nx), kept and not copied; offsets, fields "w0", "w1", ...; kappa; shape.
    """

    def __init__(self, inputs: ArrayLike, targets: ArrayLike, offsets: Sequence[tuple[int, int]], kappa: float):
        self.inputs, self.targets = checks.examples(inputs, targets, ("ny", "nx"))
        self.examples = len(self.inputs)
        image = (self.inputs.shape[1], self.inputs.shape[2])
        self.offsets = _offsets(offsets, image)
        self.kappa = checks.number("kappa", kappa, positive=False)
        self.fields = tuple(f"w{k}" for k in range(len(self.offsets)))
        self.shape = (len(self.offsets), *image)

    def __repr__(self) -> str:
        return f"ImageFilter(examples={self.examples}, shape={self.shape}, offsets={self.offsets}, kappa={self.kappa:g})"

    def zeros(self) -> Array:
        """Weights that all vanish, (field, ny, nx)."""
        return np.zeros(self.shape)

    def identity(self) -> Array:
        """The filter that returns its input: 1 on the offset (0, 0).

        Raises
        ------
        ConfigError : (0, 0) is not among the offsets
        """
        if (0, 0) not in self.offsets:
            raise ConfigError(
                "the identity filter needs the offset (0, 0)",
                expected="(0, 0) among the offsets",
                given=list(self.offsets),
                remedy="add it, or start from zeros()",
            )
        w = self.zeros()
        w[self.offsets.index((0, 0))] = 1.0
        return w

    def grid(self) -> Grid:
        """The pixels: shape (ny, nx), spacing 1, Neumann walls without flux."""
        wall = {"lower": {"derivative": 0.0}, "upper": {"derivative": 0.0}}
        ny, nx = self.shape[1:]
        return Grid(shape=(ny, nx), length=(float(ny), float(nx)), boundary={"y": wall, "x": wall})

    def outputs(self, w: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Z, shape (L, ny, nx), of the training inputs or of others."""
        weights = checks.weights(w, self.shape)
        images = self.inputs if inputs is None else checks.examples(inputs, inputs, ("ny", "nx"))[0]
        if images.shape[1:] != self.shape[1:]:
            raise GridError(
                "the images do not fit the filter", expected=f"shape (L, {self.shape[1]}, {self.shape[2]})", given=images.shape
            )
        result = np.empty(images.shape)
        for chunk in _chunks(images):
            result[chunk] = self._filter(weights, self._neighbours(images[chunk]))
        return result

    def cost(self, w: ArrayLike) -> float:
        """The cost, from the network's outputs on all examples."""
        weights = checks.weights(w, self.shape)
        squares = 0.0
        for chunk in _chunks(self.inputs):
            residual = self._filter(weights, self._neighbours(self.inputs[chunk])) - self.targets[chunk]
            squares += float(np.vdot(residual, residual))
        return squares / (2 * self.examples) + self._stiffness_cost(weights)

    def gradient(self, w: ArrayLike) -> Array:
        """dcost/dw, (field, ny, nx): forward and backward through all examples, independently of the mass matrix."""
        weights = checks.weights(w, self.shape)
        gradient = self._stiffness_gradient(weights)
        for chunk in _chunks(self.inputs):
            neighbours = self._neighbours(self.inputs[chunk])
            error = (self._filter(weights, neighbours) - self.targets[chunk]) / self.examples
            for total, neighbour in zip(gradient, neighbours, strict=True):
                total += np.einsum("lyx,lyx->yx", error, neighbour)
        return gradient

    def train(self, w: ArrayLike, learning_rate: float, steps: int, history: list[float] | None = None) -> Array:
        """Gradient descent `w <- w - learning_rate dcost/dw`, `steps` times; the final weights, a new array.

        Uses the mass matrix, so a step costs the same for any number of examples. `history`, a list, receives the
        steps + 1 costs. Raises ConfigError for arguments out of range, StepError where descent diverges.
        """
        mass, drive = self.mass_matrix, self.drive
        constant = float(self.target_square.sum())

        def gradient(weights: Array) -> Array:
            result = np.einsum("abyx,byx->ayx", mass, weights)
            result -= drive
            result += self._stiffness_gradient(weights)
            return result

        def cost(weights: Array) -> float:
            local = np.einsum("abyx,byx->ayx", mass, weights) / 2 - drive
            return float(np.vdot(weights, local)) + constant + self._stiffness_cost(weights)

        return descend(checks.weights(w, self.shape), gradient, cost, learning_rate=learning_rate, steps=steps, history=history)

    def action(self, friction: Friction | None = None, batches: BatchSchedule | None = None) -> Action:
        """The field theory on `grid()`: the same cost, constant included, with minus the same gradient as its force.

        c = Y2 + kappa/2 sum_k grad2(w_k), and a PointwiseMatrix of `mass_matrix` and `drive`. Y2 is `target_square`. With
        `batches`, a schedule of the training pairs, all three are those of the mini-batch that is shown at the time.

        Raises
        ------
        ConfigError : a schedule of other examples
        """
        stiffness = " + ".join(f"grad2({field})" for field in self.fields)
        squares: Any = self.target_square if batches is None else MiniBatches(self._squares_of, schedule=batches)
        if batches is None:
            kernel: Any = PointwiseMatrix(list(self.fields), self.mass_matrix, self.drive)
        elif batches.count != self.examples:
            raise ConfigError("the batches are of other examples", expected=f"{self.examples} examples", given=batches.count)
        else:
            kernel = BatchedMatrix(list(self.fields), batches, self._matrices_of)
        return Action(
            fields=list(self.fields),
            cost=f"Y2 + kappa/2*({stiffness})",
            parameters={"kappa": self.kappa},
            sources={"Y2": squares},
            kernels=[kernel],
            friction=friction,
        )

    def part(self, chosen: np.ndarray) -> ImageFilter:
        """The same filter on some of the training pairs, by their numbers."""
        return ImageFilter(self.inputs[chosen], self.targets[chosen], self.offsets, self.kappa)

    def _matrices_of(self, chosen: Array) -> tuple[Array, Array]:
        part = self.part(chosen)
        return part.mass_matrix, part.drive

    def _squares_of(self, chosen: Array) -> Array:
        return self.part(chosen).target_square

    @cached_property
    def mass_matrix(self) -> Array:
        """M_ab(x) = mean_l X_l(x+delta_a) X_l(x+delta_b), shape (field, field, ny, nx)."""
        # M_ab depends on the pair through delta_b - delta_a alone, up to a shift: 13 products of images for 9 offsets, not 45.
        ny, nx = self.shape[1:]
        differences = {(b[0] - a[0], b[1] - a[1]) for a in self.offsets for b in self.offsets}
        half = sorted(d for d in differences if d >= (0, 0) and d[0] < ny and abs(d[1]) < nx)
        correlation = {d: np.zeros(self.shape[1:]) for d in half}
        for chunk in _chunks(self.inputs):
            images = self.inputs[chunk].astype(np.float64)
            for d in half:
                here, there = _overlap(d, self.shape[1:])
                correlation[d][here] += np.einsum("lyx,lyx->yx", images[:, *here], images[:, *there])
        mass = np.zeros((len(self.offsets), *self.shape))
        for i, a in enumerate(self.offsets):
            for j, b in enumerate(self.offsets):
                d = (b[0] - a[0], b[1] - a[1])
                base, key = (a, d) if d >= (0, 0) else (b, (-d[0], -d[1]))
                if key in correlation:
                    here, there = _overlap(base, self.shape[1:])
                    mass[i, j][here] = correlation[key][there]
        mass /= self.examples
        return mass

    @cached_property
    def drive(self) -> Array:
        """b_a(x) = mean_l X_l(x+delta_a) Y_l(x), shape (field, ny, nx)."""
        drive = self.zeros()
        for chunk in _chunks(self.inputs):
            targets = self.targets[chunk].astype(np.float64)
            for total, neighbour in zip(drive, self._neighbours(self.inputs[chunk]), strict=True):
                total += np.einsum("lyx,lyx->yx", neighbour, targets)
        drive /= self.examples
        return drive

    @cached_property
    def target_square(self) -> Array:
        """1/(2L) sum_l Y_l(x)^2, shape (ny, nx): the cost of the filter that gives nothing."""
        total = np.zeros(self.shape[1:])
        for chunk in _chunks(self.targets):
            targets = self.targets[chunk].astype(np.float64)
            total += np.einsum("lyx,lyx->yx", targets, targets)
        return total / (2 * self.examples)

    def _neighbours(self, images: Array) -> list[Array]:
        """X(x + delta_k) for every offset: views of one padded float64 copy."""
        ny, nx = self.shape[1:]
        margin = max(max(abs(dy), abs(dx)) for dy, dx in self.offsets)
        padded = np.zeros((len(images), ny + 2 * margin, nx + 2 * margin))
        padded[:, margin : margin + ny, margin : margin + nx] = images
        return [padded[:, margin + dy : margin + dy + ny, margin + dx : margin + dx + nx] for dy, dx in self.offsets]

    def _filter(self, w: Array, neighbours: list[Array]) -> Array:
        result = w[0] * neighbours[0]
        for weight, neighbour in zip(w[1:], neighbours[1:], strict=True):
            result += weight * neighbour
        return result

    def _stiffness_cost(self, w: Array) -> float:
        return self.kappa / 2 * sum(float((np.diff(w, axis=axis) ** 2).sum()) for axis in (1, 2))

    def _stiffness_gradient(self, w: Array) -> Array:
        gradient = np.zeros_like(w)
        along_y = self.kappa * np.diff(w, axis=1)
        gradient[:, 1:] += along_y
        gradient[:, :-1] -= along_y
        along_x = self.kappa * np.diff(w, axis=2)
        gradient[:, :, 1:] += along_x
        gradient[:, :, :-1] -= along_x
        return gradient


def image_filter(inputs: ArrayLike, targets: ArrayLike, offsets: Sequence[tuple[int, int]], kappa: float) -> ImageFilter:
    """An `ImageFilter` for inputs X and targets Y of shape (L, ny, nx).

    Parameters
    ----------
    inputs, targets : (L, ny, nx), integers or floats; not copied, and worked on a block of examples at a time
    offsets : the displacements delta_k = (dy, dx) in pixels, one field each
    kappa : stiffness, in pixels squared, >= 0

    Raises
    ------
    GridError : shapes that do not match
    ConfigError : numbers that are not finite, offsets that repeat or reach beyond the image, kappa < 0
    """
    return ImageFilter(inputs, targets, offsets, kappa)


def _offsets(offsets: Sequence[tuple[int, int]], image: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    wanted = "different pairs (dy, dx) of integers that stay within the image"
    try:
        array = np.asarray(offsets)
    except ValueError:
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu" or len(array) == 0:
        raise ConfigError(
            "the offsets are malformed", expected=wanted, given=repr(offsets), remedy="for example [(0, 0), (0, 1), (1, 0)]"
        )
    pairs = tuple((int(dy), int(dx)) for dy, dx in array)
    beyond = [pair for pair in pairs if abs(pair[0]) >= image[0] or abs(pair[1]) >= image[1]]
    if beyond or len(set(pairs)) < len(pairs):
        fault = f"{beyond} reach beyond images of {image[0]} x {image[1]} pixels" if beyond else f"{pairs}, with repetitions"
        raise ConfigError("the offsets are out of range", expected=wanted, given=fault, remedy="leave those offsets out")
    return pairs


def _chunks(images: Array) -> Iterator[slice]:
    """Slices over the examples that keep a block in float64 within CHUNK_BYTES."""
    count = max(1, CHUNK_BYTES // (8 * images[0].size))
    return (slice(start, start + count) for start in range(0, len(images), count))


def _overlap(offset: tuple[int, int], image: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where x and x + offset both lie in the image: the slices of x, and those of x + offset."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(offset, image, strict=True))
    there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(offset, image, strict=True))
    return here, there
