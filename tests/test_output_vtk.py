"""ParaView's reader on result files: values, times and places of the points."""

from __future__ import annotations

import numpy as np
import pytest
from output_runs import SHAPES, make_run
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline
from vtkmodules.vtkIOHDF import vtkHDFReader


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_vtk_reads_values_times_and_points(tmp_path, shape, dtype):
    path = str(tmp_path / "run.h5")
    run = make_run(shape, tmp_path / "run.h5", dtype=dtype)
    reader = vtkHDFReader()
    assert reader.CanReadFile(path)
    reader.SetFileName(path)
    reader.UpdateInformation()
    times = reader.GetOutputInformation(0).Get(vtkStreamingDemandDrivenPipeline.TIME_STEPS())
    np.testing.assert_array_equal(times, run.t)
    for level, time in enumerate(times):
        reader.UpdateTimeStep(time)
        image = reader.GetOutput()
        assert image.GetDimensions() == (*shape[::-1], *[1] * (3 - len(shape)))
        arrays = image.GetPointData()
        assert {arrays.GetArrayName(number) for number in range(arrays.GetNumberOfArrays())} == {"a", "a_t", "b", "b_t"}
        for values, suffix in ((run.w, ""), (run.v, "_t")):
            for number, name in enumerate("ab"):
                found = vtk_to_numpy(arrays.GetArray(name + suffix))
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, values[level, number].astype(dtype).ravel())
        # Points run x first, as the values of the arrays do.
        points = np.array([image.GetPoint(number) for number in range(image.GetNumberOfPoints())])
        mesh = np.meshgrid(*run.grid.coordinates, indexing="ij")
        for column, coordinate in enumerate(reversed(mesh)):
            np.testing.assert_allclose(points[:, column], coordinate.ravel(), rtol=0, atol=1e-15)
        assert not points[:, len(shape) :].any()
