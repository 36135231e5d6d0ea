"""Channels that say something of each point of their device: times, numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import UnknownChannelError
from scanbus.subscriber.channel import ChannelReader
from scanbus.subscriber.joined import Ids

__all__ = ["ids_of", "stamp_channels", "stamp_name", "stamps_of"]


_MOST = np.iinfo(np.int64).max


def stamp_channels(
    channels: Iterable[ChannelDescription], device: str
) -> dict[str, str]:
    """Return the channels of a device that are stamps, by stamp."""
    return {
        each.stamp.value: each.name
        for each in channels
        if each.stamp is not None and each.device == device
    }


def stamp_name(
    channel: ChannelDescription, channels: Mapping[str, ChannelDescription], by: object
) -> str:
    """Return the name of the channel that has the numbers of another's points.

    Raises
    ------
    UnknownChannelError
        If the device has none.
    """
    found = stamp_channels(channels.values(), channel.device)
    name = found.get(by) if isinstance(by, str) else None
    if name is None:
        wanted = by if isinstance(by, str) else "numbers"
        raise UnknownChannelError(f"{wanted} of {channel.device}", tuple(channels))
    return name


def stamps_of(stamp: ChannelReader, start: int, stop: int) -> npt.NDArray[Any]:
    """Return the numbers of the points ``[start, stop)``, as far as they came."""
    channel = stamp.description
    found = np.full(stop - start, channel.missing_value, channel.numpy_dtype)
    reached = min(stop, stamp.view.extent().stop)
    if start < reached:
        for batch in stamp.batches(start, reached):
            found[batch.start - start : batch.stop - start] = batch.values
    return found


def ids_of(
    channel: ChannelReader, stamp: ChannelReader, is_over: Callable[[str], bool]
) -> Ids:
    """Return the numbers of a channel's points, of those that both channels have.

    Raises
    ------
    ValueError
        If they are not integers, or larger than those of 64 bits with a sign.
    NoLongerError
        If they are in the scan's file only.
    """
    if stamp.description.numpy_dtype.kind not in "iu":
        raise ValueError(f"{stamp.name}: {stamp.description.dtype} are not integers")
    over = is_over(channel.name) and is_over(stamp.name)  # Before what they have.
    n_points, n_stamps = channel.view.extent().stop, stamp.view.extent().stop
    stop = min(n_points, n_stamps)
    length = n_points if over else stop  # Points behind the last number have none.
    values, known = np.zeros(length, np.int64), np.zeros(length, bool)
    for batch in stamp.batches(0, stop):
        numbers = np.asarray(batch.values)
        is_there = np.ones(len(batch), bool)
        for first, last in batch.missing:
            is_there[first - batch.start : last - batch.start] = False
        if numbers[is_there].max(initial=0) > _MOST:
            raise ValueError(f"{stamp.name}: numbers beyond {_MOST} cannot be joined")
        values[batch.start : batch.stop] = np.where(is_there, numbers, 0)
        known[batch.start : batch.stop] = is_there
    return Ids(values, known, over)
