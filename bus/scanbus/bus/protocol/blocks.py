"""One channel's points as the bytes of an entry's block, and back.

Fixed shapes are C-order little-endian arrays, packed by a codec as one chunk. Variable
ones (text, series of differing length) are the lengths, uint32, then all values.
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

__all__ = ["Variable", "block_length", "decode_block", "encode_block", "pack_variable"]

_LENGTH = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class Variable:
    """Points of differing length, not split up yet.

    Attributes
    ----------
    lengths : numpy.ndarray
        uint32, shape ``(count,)``: values of each point (bytes, for text).
    values : numpy.ndarray
        All values one after the other; uint8 of UTF-8 for text.
    """

    lengths: npt.NDArray[np.uint32]
    values: npt.NDArray[Any]

    def __len__(self) -> int:
        """Return how many points there are."""
        return len(self.lengths)

    def split(self) -> list[npt.NDArray[Any]]:
        """Return one array per point, views into `values`."""
        if not len(self.lengths):
            return []
        return np.split(self.values, np.cumsum(self.lengths)[:-1])

    def texts(self) -> list[str]:
        """Return one text per point; the values must be UTF-8."""
        return [part.tobytes().decode() for part in self.split()]


def pack_variable(channel: ChannelDescription, points: Sequence[Any]) -> Variable:
    """Return texts or one-dimensional arrays as a :class:`Variable`.

    Raises
    ------
    ValueError
        If a point is longer than declared, of another type, or text with NUL.
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
                f"{channel.name}: a point of {part.nbytes} bytes, declared at most "
                f"{channel.max_point_bytes} (max_point_bytes)"
            )
    lengths = np.fromiter((len(part) for part in parts), _LENGTH, len(parts))
    empty = np.empty(0, channel.numpy_dtype)
    return Variable(lengths, np.concatenate(parts) if parts else empty)


def _text_bytes(channel: ChannelDescription, point: object) -> npt.NDArray[np.uint8]:
    if not isinstance(point, str):
        raise ValueError(f"{channel.name}: {type(point).__name__} instead of text")
    if "\0" in point:
        raise ValueError(f"{channel.name}: text with NUL cannot stand in HDF5")
    return np.frombuffer(point.encode(), np.uint8)


def encode_block(
    channel: ChannelDescription,
    points: npt.NDArray[Any] | Variable,
    codec_name: str = "none",
) -> tuple[bytes | memoryview, ...]:
    """Return the parts of a block; joined, they are its bytes.

    Parameters
    ----------
    points : numpy.ndarray or Variable
        Shape ``(count, *shape)``, C-contiguous, little-endian, of the channel's type.

    Raises
    ------
    ValueError
        If it is not.
    """
    values = points.values if isinstance(points, Variable) else points
    if values.dtype != channel.numpy_dtype:
        raise ValueError(f"{channel.name}: {values.dtype} instead of {channel.dtype}")
    if isinstance(points, Variable):
        return _octets(points.lengths), _octets(points.values)
    if points.shape[1:] != channel.shape:
        raise ValueError(
            f"{channel.name}: points of shape {points.shape[1:]}, declared "
            f"{channel.shape}"
        )
    return (find_codec(codec_name).encode(points),)


def _octets(values: npt.NDArray[Any]) -> memoryview:
    # By way of numpy: a memoryview of nothing cannot be cast.
    return np.ascontiguousarray(values).view(np.uint8).data


def block_length(parts: Sequence[bytes | memoryview]) -> int:
    """Return the bytes of all parts together."""
    return sum(memoryview(part).nbytes for part in parts)


def decode_block(
    channel: ChannelDescription,
    block: memoryview,
    count: int,
    codec_name: str = "none",
    threads: ThreadPool | None = None,
) -> npt.NDArray[Any] | Variable:
    """Return the points of a block: an array ``(count, *shape)``, or variable ones.

    Arrays of codec ``none`` are read-only views of the block.

    Parameters
    ----------
    threads : ThreadPool, optional
        Threads that may help to unpack.

    Raises
    ------
    PayloadError
        If the bytes are not what the channel declares.
    """
    if channel.is_variable:
        return _decode_variable(channel, block, count)
    shape = (count, *channel.shape)
    unpacker = find_codec(codec_name).with_threads(threads)
    points = unpacker.decode(block, channel.numpy_dtype, shape)
    if channel.numpy_dtype.kind == "b" and np.any(points.view("u1") > 1):
        raise PayloadError(f"{channel.name}: a truth value that is neither 0 nor 1")
    return points


def _decode_variable(
    channel: ChannelDescription, block: memoryview, count: int
) -> Variable:
    head = count * _LENGTH.itemsize
    if len(block) < head:
        raise PayloadError(f"{channel.name}: the block ends within its lengths")
    lengths = np.frombuffer(block[:head], _LENGTH)
    itemsize = channel.numpy_dtype.itemsize
    if int(lengths.sum(dtype=np.uint64)) * itemsize != len(block) - head:
        raise PayloadError(f"{channel.name}: the lengths do not fit the block")
    longest = int(lengths.max(initial=0)) * itemsize
    if longest > (channel.max_point_bytes or 0):
        raise PayloadError(
            f"{channel.name}: a point of {longest} bytes, declared at most "
            f"{channel.max_point_bytes}"
        )
    variable = Variable(lengths, np.frombuffer(block[head:], channel.numpy_dtype))
    if channel.is_string:
        _check_texts(channel, variable)
    return variable


def _check_texts(channel: ChannelDescription, variable: Variable) -> None:
    try:
        texts = variable.texts()
    except UnicodeDecodeError as error:
        raise PayloadError(f"{channel.name}: text that is no UTF-8") from error
    if any("\0" in text for text in texts):
        raise PayloadError(f"{channel.name}: text with NUL")
