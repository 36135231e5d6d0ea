"""Convert a channel's stored points back to the bytes sent over the bus.

Value segments store points of variable length concatenated; the scan file stores them
padded, or as strings. Both are converted to an entry's block: lengths, then values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.writer.model.scan_contents import data_path, length_path
from scanbus.writer.storage.value_segment import flat_name, length_name

__all__ = ["Column", "scan_file_column", "segment_column"]


class Column(Protocol):
    """The stored points of one channel."""

    def __len__(self) -> int:
        """Return the number of points."""
        ...

    def block(self, first: int, count: int) -> tuple[bytes, ...]:
        """Return the parts of the block of points ``[first, first + count)``."""
        ...


class _Window:
    """Read-ahead buffer for the rows of a dataset, because entries are small."""

    def __init__(self, dataset: h5py.Dataset, window_bytes: int) -> None:
        self._dataset = dataset
        row_bytes = dataset.dtype.itemsize
        for length in dataset.shape[1:]:
            row_bytes *= length
        self._least = window_bytes // max(1, row_bytes)
        self._start = 0
        self._rows: Any = dataset[:0]

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def rows(self, start: int, stop: int) -> Any:
        if start < self._start or stop > self._start + len(self._rows):
            self._start = start
            self._rows = self._dataset[start : max(stop, start + self._least)]
        return self._rows[start - self._start : stop - self._start]


class _FixedColumn:
    def __init__(
        self, dataset: h5py.Dataset, channel: ChannelDescription, window_bytes: int
    ) -> None:
        _expect(dataset, channel.numpy_dtype, (len(dataset), *channel.shape))
        self._window = _Window(dataset, window_bytes)

    def __len__(self) -> int:
        return len(self._window)

    def block(self, first: int, count: int) -> tuple[bytes, ...]:
        return (self._window.rows(first, first + count).tobytes(),)


class _FlatColumn:
    def __init__(
        self,
        flat: h5py.Dataset,
        lengths: h5py.Dataset,
        channel: ChannelDescription,
        window_bytes: int,
    ) -> None:
        _expect(flat, channel.numpy_dtype, flat.shape[:1])
        _expect(lengths, np.dtype("<u4"), lengths.shape[:1])
        self._flat = _Window(flat, window_bytes)
        self._lengths: npt.NDArray[np.uint32] = lengths[()]
        self._edges = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._lengths)

    def block(self, first: int, count: int) -> tuple[bytes, ...]:
        start, stop = self._edges[first], self._edges[first + count]
        values = self._flat.rows(int(start), int(stop))
        return self._lengths[first : first + count].tobytes(), values.tobytes()


class _PaddedColumn:
    def __init__(
        self,
        padded: h5py.Dataset,
        lengths: h5py.Dataset,
        channel: ChannelDescription,
        window_bytes: int,
    ) -> None:
        _expect(padded, channel.numpy_dtype, padded.shape[:2])
        _expect(lengths, np.dtype("<u4"), padded.shape[:1])
        self._padded = _Window(padded, window_bytes)
        self._lengths = _Window(lengths, window_bytes)
        self._width = padded.shape[1]

    def __len__(self) -> int:
        return len(self._padded)

    def block(self, first: int, count: int) -> tuple[bytes, ...]:
        lengths = self._lengths.rows(first, first + count)
        rows = self._padded.rows(first, first + count)
        values = rows[np.arange(self._width) < lengths[:, None]]
        return lengths.tobytes(), values.tobytes()


class _TextColumn:
    def __init__(self, dataset: h5py.Dataset, window_bytes: int) -> None:
        if h5py.check_string_dtype(dataset.dtype) is None or dataset.ndim != 1:
            raise ValueError(f"{dataset.dtype} instead of text")
        self._window = _Window(dataset, window_bytes)

    def __len__(self) -> int:
        return len(self._window)

    def block(self, first: int, count: int) -> tuple[bytes, ...]:
        texts: list[bytes] = list(self._window.rows(first, first + count))
        lengths = np.fromiter(map(len, texts), np.dtype("<u4"), count)
        return lengths.tobytes(), b"".join(texts)


def _expect(
    dataset: h5py.Dataset, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    if dataset.dtype != dtype or dataset.shape != shape:
        raise ValueError(
            f"{dataset.shape} of {dataset.dtype} instead of {shape} of {dtype}"
        )


def scan_file_column(
    file: h5py.File,
    lane: LaneDescription,
    channel: ChannelDescription,
    window_bytes: int,
) -> Column:
    """Return a channel's points in a scan file.

    Parameters
    ----------
    window_bytes : int
        Size of the read-ahead buffer of each dataset.

    Raises
    ------
    KeyError, ValueError
        If they are missing, or differ from the declared type or shape.
    """
    dataset = file[data_path(lane, channel)]
    if channel.is_string:
        return _TextColumn(dataset, window_bytes)
    if channel.is_ragged:
        lengths = file[length_path(lane, channel)]
        return _PaddedColumn(dataset, lengths, channel, window_bytes)
    return _FixedColumn(dataset, channel, window_bytes)


def segment_column(
    group: Mapping[str, Any], channel: ChannelDescription, window_bytes: int
) -> Column:
    """Return a channel's points in a value segment; raise as `scan_file_column`.

    Parameters
    ----------
    group : mapping
        Name to dataset, or array.
    """
    if channel.is_variable:
        flat, lengths = group[flat_name(channel)], group[length_name(channel)]
        return _FlatColumn(flat, lengths, channel, window_bytes)
    return _FixedColumn(group[channel.name], channel, window_bytes)
