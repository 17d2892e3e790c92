"""Results: written as a run goes, read back as far as they are asked for."""

from sftsolve.output.description import RunDescription, Stats
from sftsolve.output.result import Result, open_result
from sftsolve.output.writer import HDF5Writer, MemoryWriter, Writer

__all__ = ["HDF5Writer", "MemoryWriter", "Result", "RunDescription", "Stats", "Writer", "open_result"]
