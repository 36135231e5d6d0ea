"""Read from the scan file the numbers that profiles compute with.

All else a profile only refers to. A width of rotation, or how many frames are darks,
follows from these.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scanbus.schemas import ChannelDescription
from scanbus.writer.model.computed_channels import (
    MAX_COMPUTED_POINTS,
    computed_channels,
)
from scanbus.writer.model.nexus_tree import Array
from scanbus.writer.model.scan_contents import ScanContents, data_path
from scanbus.writer.storage.hdf5 import open_hdf5

__all__ = ["with_layout_values"]


def with_layout_values(folder: Path, contents: ScanContents) -> ScanContents:
    """Return contents with the numbers with which layouts compute, if there are any.

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
    found: dict[str, Array] = {}
    try:
        with open_hdf5(folder / name) as file:
            for lane, channel in computed_channels(prepared):
                dataset = file[data_path(lane, channel)]
                if len(dataset) <= MAX_COMPUTED_POINTS:
                    found[channel.name] = _positions(channel, dataset[()])
    except (OSError, KeyError):
        return contents  # Whoever reads the values hears of it.
    return replace(contents, positions=found)


def _positions(channel: ChannelDescription, values: Array) -> Array:
    positions: Array = values.astype(np.float64)
    positions[values == channel.missing_value] = np.nan
    return positions
