"""Sources J(x, t), K(x, t): what training data become.

An array, a number, an expression, a data set in an HDF5 file or a function of the grid; in time also expressions of t, series
of frames and mini-batches. `make_source` tells them apart by what was given.
"""

from sftsolve.sources.arrays import as_array, on_grid, open_dataset, read_dataset
from sftsolve.sources.batches import BatchSchedule, MiniBatches
from sftsolve.sources.bound import BoundSources, bytes_of, forms, moving
from sftsolve.sources.expressions import ExpressionSource, function_of_time, rate_of_time
from sftsolve.sources.make import make_source
from sftsolve.sources.moving import Form, Moving, TimeSource, rate_of
from sftsolve.sources.redshift import REDSHIFT, Redshift, redshifted
from sftsolve.sources.separation import TIME
from sftsolve.sources.series import TimeSeries
from sftsolve.sources.static import ArraySource, FileSource, FunctionSource, Source, evaluate_on
from sftsolve.sources.steps import slope

__all__ = [
    "REDSHIFT",
    "TIME",
    "Redshift",
    "redshifted",
    "ArraySource",
    "BatchSchedule",
    "BoundSources",
    "ExpressionSource",
    "FileSource",
    "Form",
    "FunctionSource",
    "MiniBatches",
    "Moving",
    "Source",
    "TimeSeries",
    "TimeSource",
    "as_array",
    "bytes_of",
    "evaluate_on",
    "forms",
    "function_of_time",
    "make_source",
    "moving",
    "on_grid",
    "open_dataset",
    "rate_of",
    "rate_of_time",
    "read_dataset",
    "slope",
]
