"""Channels with whose values profiles compute: axes, keys of frames, counters. Pure."""

from __future__ import annotations

from typing import Final

from scanbus.schemas import (
    ChannelDescription,
    LaneDescription,
    Role,
    ScanPrepared,
    Storage,
)

__all__ = ["MAX_COMPUTED_POINTS", "computed_channels"]

MAX_COMPUTED_POINTS: Final = 2**20
"""Of longer scans nothing is computed: values are looked at as a whole."""
_KEYS: Final = ("image_key", "image_key_control")
_MAX_CHANNELS: Final = 32


def computed_channels(
    prepared: ScanPrepared,
) -> list[tuple[LaneDescription, ChannelDescription]]:
    """Return channels with one number per point: axes and keys first, not too many."""
    found = [
        (lane, channel)
        for lane in prepared.lanes
        if lane.storage is Storage.VALUES
        for channel in lane.channels
        if not channel.shape and not channel.is_string
        if channel.numpy_dtype.kind in "iuf"
    ]
    found.sort(key=lambda each: _rank(each[1]))
    return found[:_MAX_CHANNELS]


def _rank(channel: ChannelDescription) -> int:
    if channel.role is Role.AXIS or channel.name in _KEYS:
        return 0
    return 1
