"""The content of the simulated scan: seed, channel and point give every value."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.schemas import ChannelDescription, LaneDescription, Role, Storage

__all__ = ["points_of", "simulated_lanes"]

_MAX_HITS = 8


def simulated_lanes() -> tuple[LaneDescription, ...]:
    """Return a group of small values, a ragged channel and two small detectors.

    The segments are short, so that faults occur at their boundaries.
    """
    group = (
        _channel("th", "g", role=Role.AXIS, units="deg"),
        _channel("diode", "g", dtype="int32"),
        _channel("label", "g", dtype="string", max_point_bytes=64),
    )
    hits = _channel("hits", "hits", shape=(-1,), max_point_bytes=8 * _MAX_HITS)
    eiger = _detector("eiger", "uint16", (16, 12), "bitshuffle-lz4")
    pilatus = _detector("pilatus", "int32", (9, 7), "zstd")
    return (
        _lane(group, Storage.VALUES, 40, 40),
        _lane((hits,), Storage.VALUES, 25, 25),
        _lane((eiger,), Storage.FILES, 12, 4),
        _lane((pilatus,), Storage.FILES, 9, 1),
    )


def _channel(name: str, group: str, **more: Any) -> ChannelDescription:
    return ChannelDescription(name=name, group=group, device=name, **more)


def _detector(
    name: str, dtype: str, shape: tuple[int, ...], codec: str
) -> ChannelDescription:
    more = {"dtype": dtype, "shape": shape, "codec": codec}
    return _channel(name, name, role=Role.DETECTOR, **more)


def _lane(
    channels: tuple[ChannelDescription, ...],
    storage: Storage,
    points_per_segment: int,
    points_per_chunk: int,
) -> LaneDescription:
    return LaneDescription(
        name=channels[0].group,
        storage=storage,
        channels=channels,
        points_per_segment=points_per_segment,
        points_per_chunk=points_per_chunk,
    )


def points_of(
    seed: int, channel: ChannelDescription, start: int, stop: int
) -> list[str] | list[npt.NDArray[Any]]:
    """Return the points ``[start, stop)`` of a channel: strings, or an array for each.

    Examples
    --------
    >>> label = simulated_lanes()[0].channels[2]
    >>> points_of(7, label, 3, 5)
    ['7: point 3', '7: point 4']
    """
    if channel.is_string:
        return [f"{seed}: point {point}" for point in range(start, stop)]
    return [_numbers(seed, channel, point) for point in range(start, stop)]


def _numbers(seed: int, channel: ChannelDescription, point: int) -> npt.NDArray[Any]:
    random = np.random.default_rng((seed, zlib.crc32(channel.name.encode()), point))
    shape = channel.shape
    if channel.is_ragged:
        shape = (int(random.integers(_MAX_HITS + 1)),)
    if channel.numpy_dtype.kind == "f":
        return random.random(shape).astype(channel.numpy_dtype)
    return random.integers(1000, size=shape).astype(channel.numpy_dtype)
