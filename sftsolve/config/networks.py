"""The kinds of [network]: a model of its keys each, and the experiment that it describes.

An experiment knows the exact network and its theory, what to start from, and what a run of the theory is to be held
against. A new kind is one model with `kind` and `build`, added to `NetworkSection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field, model_validator
from scipy.integrate import solve_ivp

from sftsolve.action import Action
from sftsolve.config.section import Location, Section, refusal
from sftsolve.errors import ConfigError, StepError
from sftsolve.expression import evaluate, parse
from sftsolve.friction import Friction
from sftsolve.grid import Grid
from sftsolve.network import (
    ImageFilter,
    NoisyImages,
    RingNetwork,
    held_out_table,
    image_filter,
    load_noisy_images,
    psnr,
    ring_perceptron,
    ring_two_layer,
    square_offsets,
)
from sftsolve.output import Result

Rows = list[tuple[str, str]]

_EXACT = 1e-10  # relative tolerance of a network's own training


class Experiment(Protocol):
    """A network, its theory, and how a run of the theory is judged."""

    grid: Grid

    def action(self, friction: Friction | None) -> Action:
        """The network's field theory."""
        ...

    def initial(self) -> Mapping[str, Any]:
        """Values of the fields to start from, those that [initial] does not give."""
        ...

    def rows(self, result: Result) -> Rows:
        """What to print of a run: names and numbers with their units."""
        ...


class Denoising:
    """A locally wired filter that learns to remove noise from images, judged on images that it has not seen."""

    def __init__(self, network: ImageFilter, images: NoisyImages, start: str):
        self.network = network
        self.images = images
        self.start = start
        self.grid = network.grid()

    def action(self, friction: Friction | None) -> Action:
        return self.network.action(friction=friction)

    def initial(self) -> dict[str, np.ndarray]:
        w = self.network.identity() if self.start == "identity" else self.network.zeros()
        return dict(zip(self.network.fields, w, strict=True))

    def rows(self, result: Result) -> Rows:
        table = held_out_table(self.network, result.w[-1], self.images)
        sigma = table["gaussian_sigma"]
        return [
            ("held-out PSNR, noisy", f"{table['noisy']:.2f} dB"),
            (f"held-out PSNR, best Gaussian blur (sigma {sigma:.2f})", f"{table['gaussian']:.2f} dB"),
            ("held-out PSNR, best single convolution", f"{table['convolution']:.2f} dB"),
            ("held-out PSNR, learned", f"{table['learned']:.2f} dB"),
        ]

    def held_out_psnr(self, result: Result) -> np.ndarray:
        """PSNR in dB of the held-out images at every snapshot."""
        inputs, targets = self.images.held_out_inputs, self.images.held_out_targets
        return np.array([psnr(self.network.outputs(w, inputs), targets) for w in np.asarray(result.w)])


class RingTraining:
    """A toy network on a ring: its theory held against the network's own training."""

    def __init__(self, network: RingNetwork, theory: Mapping[str, Any]):
        self.network = network
        self.theory = dict(theory)
        self.grid = network.grid()

    def action(self, friction: Friction | None) -> Action:
        return self.network.action(**self.theory, friction=friction)

    def initial(self) -> dict[str, Any]:
        return {}

    @property
    def comparable(self) -> bool:
        """Whether the theory's time and fields are the network's own."""
        return self.theory["normalisation"] != "talk"

    def trained(self, result: Result) -> np.ndarray:
        """The network's weights (snapshot, field, 2N) at the run's times, trained from its first state.

        Training is the exact gradient flow, descent with vanishing steps: what it differs from the theory by is the theory's.

        Raises
        ------
        StepError : the flow cannot be followed to the end
        """
        network, normalisation = self.network, self.theory["normalisation"]
        start = np.asarray(result.w[0])

        def rate(_: float, w: np.ndarray) -> np.ndarray:
            return -network.gradient(w.reshape(start.shape), normalisation).ravel()

        span, atol = (result.tau[0], result.tau[-1]), _EXACT * float(np.max(np.abs(start)))
        flow = solve_ivp(rate, span, start.ravel(), method="DOP853", t_eval=result.tau, rtol=_EXACT, atol=atol)
        if not flow.success:
            raise StepError("the network's own training did not reach the end", given=flow.message, remedy="end before")
        return flow.y.T.reshape(-1, *start.shape)

    def errors(self, result: Result, trained: np.ndarray) -> np.ndarray:
        """Relative distance |Z_theory - Z_network| / |Z_network| of the outputs at every snapshot."""
        states = zip(np.asarray(result.w), trained, strict=True)
        pairs = ((self.network.outputs(theory), self.network.outputs(own)) for theory, own in states)
        return np.array([np.linalg.norm(theory - own) / np.linalg.norm(own) for theory, own in pairs])

    def rows(self, result: Result) -> Rows:
        if not self.comparable:
            return []
        trained = self.trained(result)
        error = self.errors(result, trained)[-1]
        states = {"by the theory": np.asarray(result.w)[[0, -1]], "by its own training": trained[[0, -1]]}
        costs = {name: [self.network.cost(w, self.theory["normalisation"]) for w in pair] for name, pair in states.items()}
        return [
            *((f"network's cost, {name}", f"{first:.6g} -> {last:.6g}") for name, (first, last) in costs.items()),
            (f"outputs, theory against training at tau = {result.tau[-1]:g}", f"{100 * error:.3g} % apart"),
        ]


class Noise(Section):
    """Gaussian noise that is added to the images."""

    amplitude: float = Field(ge=0, description="the standard deviation, in units of white")
    seed: int = Field(0, ge=0)


class ImageFilterSection(Section):
    """[network] kind = "image-filter": `sftsolve.network.image_filter` on noisy images."""

    kind: Literal["image-filter"]
    data: Location = Field(description="an HDF5 file with datasets images and labels")
    noise: Noise
    train_fraction: float = Field(0.8, gt=0, lt=1)
    offsets: list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None = None
    radius: int | None = Field(None, ge=0, le=100)
    kappa: float = Field(ge=0, description="the stiffness in pixels squared, >= 0")
    start: Literal["identity", "zero"] = "identity"

    @model_validator(mode="after")
    def _one_wiring(self) -> ImageFilterSection:
        if (self.offsets is None) == (self.radius is None):
            raise refusal("the wiring is not clear", expected="exactly one of offsets = [[dy, dx], ...] and radius = 1")
        return self

    def build(self) -> Experiment:
        images = load_noisy_images(Path(self.data), self.noise.amplitude, self.noise.seed, self.train_fraction)
        offsets = [(dy, dx) for dy, dx in self.offsets] if self.offsets is not None else square_offsets(self.radius or 0)
        return Denoising(image_filter(images.train_inputs, images.train_targets, offsets, self.kappa), images, self.start)


class RingSection(Section):
    """Keys that the networks on a ring share. `inputs` and `targets` are expressions of x and of l = 0, 1, ... examples - 1."""

    units: int = Field(ge=2, le=1_000_000, description="the number of outputs, >= 2")
    length: float = Field(1.0, gt=0)
    examples: int = Field(1, ge=1, le=1_000_000)
    inputs: str = Field(description="an expression of x and l")
    targets: str = Field(description="an expression of x and l")
    fields_order: int = 2
    derivatives_order: int = 2
    labels: str = "talk"
    normalisation: Literal["mean", "network", "talk"] = "mean"

    input_site: ClassVar[int] = 0

    @property
    def spacing(self) -> float:
        """Half the distance between two weights, a = length / 4N."""
        return self.length / (4 * self.units)

    def samples(self, text: str, site: int, key: str) -> np.ndarray:
        """The expression on the sites 4ai + site a, for every example: (examples, units)."""
        tree = parse(text, ("x", "l"), f"network.{key}")
        x = (4 * np.arange(self.units) + site) * self.spacing
        number = np.arange(self.examples, dtype=float)[:, None]
        with np.errstate(all="ignore"):
            values = np.broadcast_to(evaluate(tree, {"x": x, "l": number}), (self.examples, self.units))
        if not np.isfinite(values).all():
            raise ConfigError(f"network.{key} is not finite on the ring", expected="finite numbers at every site", given=text)
        return np.array(values)

    def experiment(self, network: RingNetwork) -> Experiment:
        keys = ("fields_order", "derivatives_order", "labels", "normalisation")
        return RingTraining(network, {key: getattr(self, key) for key in keys})


class RingPerceptronSection(RingSection):
    """[network] kind = "ring-perceptron"."""

    kind: Literal["ring-perceptron"]
    activation: list[float] | None = None
    input_site: ClassVar[int] = 2

    def build(self) -> Experiment:
        inputs, targets = self.samples(self.inputs, self.input_site, "inputs"), self.samples(self.targets, 0, "targets")
        return self.experiment(ring_perceptron(inputs, targets, activation=self.activation, spacing=self.spacing))


class RingTwoLayerSection(RingSection):
    """[network] kind = "ring-two-layer"."""

    kind: Literal["ring-two-layer"]
    activation: list[float] = Field(description="coefficients [r, q, p, ...] of sigma(z) = r + q z + p z**2 + ...")

    def build(self) -> Experiment:
        inputs, targets = self.samples(self.inputs, self.input_site, "inputs"), self.samples(self.targets, 0, "targets")
        return self.experiment(ring_two_layer(inputs, targets, activation=self.activation, spacing=self.spacing))


NetworkSection = Annotated[
    ImageFilterSection | RingPerceptronSection | RingTwoLayerSection,
    Field(discriminator="kind"),
]
