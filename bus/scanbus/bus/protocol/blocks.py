"""Blocks: encode one channel's points of an entry as bytes, and decode them.

Points of fixed shape are a little-endian array in C order, packed by a codec as one
chunk. Variable points (strings, ragged series) are their lengths as uint32, followed by
all values. Frames by reference are runs in JSON; here they are strings, their URLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import ThreadPool, find_codec
from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import PayloadError
from scanbus.schemas.frame_references import parse_runs, runs_json

__all__ = ["Variable", "block_length", "decode_block", "encode_block", "pack_variable"]

_LENGTH = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class Variable:
    """Points of variable length in two arrays.

    Attributes
    ----------
    lengths : numpy.ndarray
        uint32, shape ``(count,)``: number of values of each point (of UTF-8 bytes for
        strings).
    values : numpy.ndarray
        Values of all points, concatenated; uint8 (UTF-8) for strings.
    """

    lengths: npt.NDArray[np.uint32]
    values: npt.NDArray[Any]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.lengths)

    def split(self) -> list[npt.NDArray[Any]]:
        """Return one array per point, views into `values`."""
        if not len(self.lengths):
            return []
        return np.split(self.values, np.cumsum(self.lengths)[:-1])

    def texts(self) -> list[str]:
        """Return one string per point; the values must be UTF-8."""
        return [part.tobytes().decode() for part in self.split()]


def pack_variable(channel: ChannelDescription, points: Sequence[Any]) -> Variable:
    """Return strings or one-dimensional arrays as a :class:`Variable`.

    Raises
    ------
    ValueError
        If a point is longer than declared, of another type, or a string with NUL.
    """
    if channel.is_string:
        parts = [_text_bytes(channel, point) for point in points]
    else:
        parts = [np.asarray(point, dtype=channel.numpy_dtype) for point in points]
        if any(part.ndim != 1 for part in parts):
            raise ValueError(f"{channel.name}: points must be one-dimensional")
    for part in parts:
        if part.nbytes > (channel.max_point_bytes or 0):
            raise ValueError(
                f"{channel.name}: a point has {part.nbytes} bytes, declared at most "
                f"{channel.max_point_bytes} (max_point_bytes)"
            )
    lengths = np.fromiter((len(part) for part in parts), _LENGTH, len(parts))
    empty = np.empty(0, channel.numpy_dtype)
    return Variable(lengths, np.concatenate(parts) if parts else empty)


def _text_bytes(channel: ChannelDescription, point: object) -> npt.NDArray[np.uint8]:
    if not isinstance(point, str):
        raise ValueError(f"{channel.name}: {type(point).__name__} instead of text")
    if "\0" in point:
        raise ValueError(f"{channel.name}: text with NUL cannot be stored in HDF5")
    try:
        return np.frombuffer(point.encode(), np.uint8)
    except UnicodeEncodeError as error:
        reason = f"text that is not Unicode ({error.reason})"
        raise ValueError(f"{channel.name}: {reason}") from error


def encode_block(
    channel: ChannelDescription,
    points: npt.NDArray[Any] | Variable,
    codec_name: str = "none",
) -> tuple[bytes | memoryview, ...]:
    """Return the bytes of a block in parts; they are concatenated when sent.

    Parameters
    ----------
    points : numpy.ndarray or Variable
        Shape ``(count, *shape)``, C-contiguous, little-endian, of the channel's dtype.
    codec_name : str
        Codec of points of fixed shape; variable points are never packed.

    Raises
    ------
    ValueError
        If dtype, shape or memory layout of `points` are different.
    """
    values = points.values if isinstance(points, Variable) else points
    if values.dtype != channel.numpy_dtype:
        raise ValueError(f"{channel.name}: {values.dtype} instead of {channel.dtype}")
    if isinstance(points, Variable):
        if channel.is_reference:
            return (runs_json(points.texts()),)
        return _octets(points.lengths), _octets(points.values)
    if points.shape[1:] != channel.shape:
        raise ValueError(
            f"{channel.name}: points have shape {points.shape[1:]}, declared "
            f"{channel.shape}"
        )
    return (find_codec(codec_name).encode(points),)


def _octets(values: npt.NDArray[Any]) -> memoryview:
    # numpy's view, as an empty memoryview cannot be cast.
    return np.ascontiguousarray(values).view(np.uint8).data


def block_length(parts: Sequence[bytes | memoryview]) -> int:
    """Return the size of all parts together, in bytes."""
    return sum(memoryview(part).nbytes for part in parts)


def decode_block(
    channel: ChannelDescription,
    block: memoryview,
    count: int,
    codec_name: str = "none",
    threads: ThreadPool | None = None,
) -> npt.NDArray[Any] | Variable:
    """Return the points of a block: an array ``(count, *shape)`` or a `Variable`.

    Arrays of codec ``none`` are read-only views of the block.

    Parameters
    ----------
    threads : ThreadPool, optional
        Threads that share the unpacking.

    Raises
    ------
    PayloadError
        If the bytes do not fit the channel's description.
    """
    if channel.is_reference:
        return _decode_references(channel, block, count)
    if channel.is_variable:
        return _decode_variable(channel, block, count)
    shape = (count, *channel.shape)
    unpacker = find_codec(codec_name).with_threads(threads)
    points = unpacker.decode(block, channel.numpy_dtype, shape)
    if channel.numpy_dtype.kind == "b" and np.any(points.view("u1") > 1):
        raise PayloadError(f"{channel.name}: a bool value that is neither 0 nor 1")
    return points


def _decode_references(
    channel: ChannelDescription, block: memoryview, count: int
) -> Variable:
    try:
        return pack_variable(channel, parse_runs(bytes(block), count))
    except ValueError as error:
        raise PayloadError(f"{channel.name}: {error}") from error


def _decode_variable(
    channel: ChannelDescription, block: memoryview, count: int
) -> Variable:
    lengths_bytes = count * _LENGTH.itemsize
    if len(block) < lengths_bytes:
        raise PayloadError(f"{channel.name}: the block ends within its lengths")
    lengths = np.frombuffer(block[:lengths_bytes], _LENGTH)
    itemsize = channel.numpy_dtype.itemsize
    if int(lengths.sum(dtype=np.uint64)) * itemsize != len(block) - lengths_bytes:
        raise PayloadError(f"{channel.name}: the lengths do not fit the block")
    longest = int(lengths.max(initial=0)) * itemsize
    if longest > (channel.max_point_bytes or 0):
        raise PayloadError(
            f"{channel.name}: a point has {longest} bytes, declared at most "
            f"{channel.max_point_bytes}"
        )
    values = np.frombuffer(block[lengths_bytes:], channel.numpy_dtype)
    variable = Variable(lengths, values)
    if channel.is_string:
        _check_texts(channel, variable)
    return variable


def _check_texts(channel: ChannelDescription, variable: Variable) -> None:
    try:
        texts = variable.texts()
    except UnicodeDecodeError as error:
        raise PayloadError(f"{channel.name}: text is not UTF-8") from error
    if any("\0" in text for text in texts):
        raise PayloadError(f"{channel.name}: text with NUL")
