"""The numbers with which layouts compute, before the scan file has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scanbus.schemas import ScanPrepared
from scanbus.writer.model.computed_channels import (
    MAX_COMPUTED_POINTS,
    computed_channels,
)
from scanbus.writer.model.nexus_tree import Array
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.shared_sections import OpenFiles, Section

__all__ = ["sealed_numbers"]


def sealed_numbers(
    prepared: ScanPrepared, sections: Mapping[str, Sequence[Section]]
) -> dict[str, Array]:
    """Return the numbers of axes, keys and counters of a scan that is over.

    Parameters
    ----------
    sections : mapping
        Name of each lane of small values to its sections of shared segments, ascending.

    Returns
    -------
    dict
        Channel name to an array of shape (points,), float64, NaN where one is missing.

    Raises
    ------
    VerificationError, NameTakenError, OSError
        If a segment cannot be read.
    """
    found: dict[str, Array] = {}
    with OpenFiles() as files:
        sources: dict[str, LaneValues] = {}
        for lane, channel in computed_channels(prepared):
            if lane.name not in sources:
                sources[lane.name] = LaneValues(
                    lane, sections.get(lane.name, ()), files
                )
            source = sources[lane.name]
            if source.n_points > MAX_COMPUTED_POINTS:
                continue
            place = lane.channels.index(channel)
            blocks = [np.asarray(points.blocks[place]) for points in source]
            values = np.concatenate([np.empty(0, channel.numpy_dtype), *blocks])
            numbers = values.astype(np.float64)
            numbers[values == channel.missing_value] = np.nan
            found[channel.name] = numbers
    return found
