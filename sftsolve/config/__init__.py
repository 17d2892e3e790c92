"""Configuration files: TOML text -> checked sections -> Action, Grid and the arguments of `solve`."""

from sftsolve.config.document import Config, Job, load, restore
from sftsolve.config.networks import Denoising, Experiment, RingTraining

__all__ = ["Config", "Denoising", "Experiment", "Job", "RingTraining", "load", "restore"]
