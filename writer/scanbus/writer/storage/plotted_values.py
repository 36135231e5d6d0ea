"""Read from the scan file what the plots of a scan depend on: positions, and a mesh.

The order of a mesh cannot be expressed by a virtual dataset if it is a snake, so the
values of its counters are read here and stored in the master once more, as a grid.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import h5py
import numpy as np

from scanbus.schemas import ChannelDescription, LaneDescription, Role, Storage
from scanbus.writer.model.nexus_tree import Array
from scanbus.writer.model.scan_contents import ScanContents, data_path
from scanbus.writer.model.trajectory import Mesh, Positions, find_trajectory
from scanbus.writer.storage.hdf5 import open_hdf5

__all__ = ["MAX_GRID_BYTES", "with_plotted_values"]

MAX_GRID_BYTES: Final = 64 * 2**20
"""Largest total size of the grids in a scan master, in bytes."""
# Of longer scans the trajectory is not known: positions are looked at as a whole.
_MAX_POINTS: Final = 2**20
# Pairs of axes are compared, so their number is bounded.
_MAX_AXES: Final = 6

_Channels = list[tuple[LaneDescription, ChannelDescription]]


def with_plotted_values(folder: Path, contents: ScanContents) -> ScanContents:
    """Return contents with the trajectory of the axes, and the values of a mesh.

    Without a scan file, or where it cannot be read, the trajectory is not known.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    """
    prepared = contents.record.prepared
    if prepared is None or contents.values_file is None:
        return contents
    scalars = [
        (lane, channel)
        for lane in prepared.lanes
        if lane.storage is Storage.VALUES
        for channel in lane.channels
        if not channel.shape and channel.numpy_dtype.kind in "iuf"
        if not channel.is_string
    ]
    axes = [each for each in scalars if each[1].role is Role.AXIS][:_MAX_AXES]
    if not axes:
        return contents
    try:
        with open_hdf5(folder / contents.values_file) as file:
            return _read(file, contents, axes, scalars)
    except (OSError, KeyError):
        return contents  # Whoever reads the values hears of it; a plot is not one.


def _read(
    file: h5py.File, contents: ScanContents, axes: _Channels, scalars: _Channels
) -> ScanContents:
    datasets = [file[data_path(lane, channel)] for lane, channel in axes]
    if max(map(len, datasets)) > _MAX_POINTS:
        return contents
    positions = {
        channel.name: _positions(channel, dataset)
        for (_, channel), dataset in zip(axes, datasets, strict=True)
    }
    trajectory = find_trajectory(positions)
    grids: dict[str, Array] = {}
    if trajectory.mesh is not None:
        counters = [each for each in scalars if each[1].role is not Role.AXIS]
        grids = _grids(file, trajectory.mesh, counters)
    return replace(contents, trajectory=trajectory, grids=grids)


def _positions(channel: ChannelDescription, dataset: h5py.Dataset) -> Positions:
    values = dataset[()]
    positions: Positions = values.astype(np.float64)
    positions[values == channel.missing_value] = np.nan
    return positions


def _grids(file: h5py.File, mesh: Mesh, counters: _Channels) -> dict[str, Array]:
    """Return the values of counters as grids, as many as a master may hold."""
    n_slow, n_fast = mesh.shape
    found: dict[str, Array] = {}
    n_bytes = 0
    for lane, channel in counters:
        n_bytes += n_slow * n_fast * 8
        if n_bytes > MAX_GRID_BYTES:
            break
        dataset = file[data_path(lane, channel)]
        if 0 < len(dataset) <= len(mesh.places):
            found[channel.name] = mesh.arranged(dataset[()], channel.missing_value)
    return found
