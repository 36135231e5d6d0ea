"""Read from the scan file the numbers that profiles compute with: axes and keys.

All else a profile only refers to. A width of rotation, or how many frames are darks,
follows from these.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from scanbus.schemas import ChannelDescription, Role, Storage
from scanbus.writer.model.nexus_tree import Array
from scanbus.writer.model.scan_contents import ScanContents, data_path
from scanbus.writer.storage.hdf5 import open_hdf5

__all__ = ["KEYS", "with_layout_values"]

KEYS: Final = ("image_key", "image_key_control")
"""Channels that say what each frame is, in NXtomo's words."""
# Of longer scans nothing is computed: positions are looked at as a whole.
_MAX_POINTS: Final = 2**20
_MAX_CHANNELS: Final = 16


def with_layout_values(folder: Path, contents: ScanContents) -> ScanContents:
    """Return contents with the positions of scanned axes, if other layouts want them.

    Without a scan file, or where it cannot be read, they are not known.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    """
    prepared = contents.record.prepared
    name = contents.values_file
    if prepared is None or name is None or not contents.choice.names:
        return contents
    wanted = [
        (data_path(lane, channel), channel)
        for lane in prepared.lanes
        if lane.storage is Storage.VALUES
        for channel in lane.channels
        if _is_wanted(channel)
    ]
    found: dict[str, Array] = {}
    try:
        with open_hdf5(folder / name) as file:
            for path, channel in wanted[:_MAX_CHANNELS]:
                dataset = file[path]
                if len(dataset) <= _MAX_POINTS:
                    found[channel.name] = _positions(channel, dataset[()])
    except (OSError, KeyError):
        return contents  # Whoever reads the values hears of it.
    return replace(contents, positions=found)


def _is_wanted(channel: ChannelDescription) -> bool:
    if channel.shape or channel.is_string or channel.numpy_dtype.kind not in "iuf":
        return False
    return channel.role is Role.AXIS or channel.name in KEYS


def _positions(channel: ChannelDescription, values: Array) -> Array:
    positions: Array = values.astype(np.float64)
    positions[values == channel.missing_value] = np.nan
    return positions
