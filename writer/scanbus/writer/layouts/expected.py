"""What the files of a scan will lack, told from its ledger before they are written.

The verdict is in the scan file, and names what the other layouts miss; masters are made
after it. So profiles are asked once with the values that the scan file will have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scanbus.schemas import ChannelDescription, Storage, Verdict
from scanbus.writer.layouts.profiles import lay_out
from scanbus.writer.model.computed_channels import (
    MAX_COMPUTED_POINTS,
    computed_channels,
)
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.scan_contents import ScanContents, data_path
from scanbus.writer.model.value_files import StoredArray, ValueFile

__all__ = ["layout_notes", "with_expected_values"]


def layout_notes(
    contents: ScanContents, verdict: Verdict, stamp: FileStamp
) -> tuple[str, ...]:
    """Return the sentences about the layouts of a scan, for the notes of its verdict.

    Parameters
    ----------
    contents : ScanContents
        The scan, with the verdict in its record.
    verdict : Verdict
        Its ledgers tell how many points there are.
    stamp : FileStamp
        Of no matter for the sentences.
    """
    if not contents.choice.names:
        return ()
    counts = {name: ledger.expected for name, ledger in verdict.channels.items()}
    return lay_out(with_expected_values(contents, counts), stamp).notes


def with_expected_values(
    contents: ScanContents, counts: Mapping[str, int]
) -> ScanContents:
    """Return contents with a scan file that has so many points of each channel."""
    prepared = contents.record.prepared
    if prepared is None or contents.values:
        return contents
    arrays = {
        data_path(lane, channel): _array(channel, counts.get(channel.name, 0))
        for lane in prepared.lanes
        if lane.storage is Storage.VALUES
        for channel in lane.channels
    }
    referenced = {
        channel.name: () for channel in prepared.channels if channel.is_reference
    }
    # Where they are not known, they are of no matter: only whether there are some.
    positions = {
        channel.name: np.zeros(counts.get(channel.name, 0))
        for _, channel in computed_channels(prepared)
        if counts.get(channel.name, 0) <= MAX_COMPUTED_POINTS
    }
    return replace(
        contents,
        values=(ValueFile("expected", arrays),),
        referenced={**referenced, **contents.referenced},
        positions={**positions, **contents.positions},
    )


def _array(channel: ChannelDescription, count: int) -> StoredArray:
    point = tuple(max(1, length) for length in channel.shape)
    size = 1 if channel.is_string else channel.numpy_dtype.itemsize
    return StoredArray((count, *point), count * math.prod(point) * size)
