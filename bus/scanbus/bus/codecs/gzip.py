"""Shuffle and deflate: the filters that every HDF5 library includes.

HDF5's shuffle (filter 2) stores the first bytes of all items, then the second bytes
and so on; deflate (filter 1) is a zlib stream. Compressed sizes may differ from those
of HDF5, depending on the version of zlib; each can read the other's streams.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from scanbus.bus.codecs.codec import Buffer, Filter, Octets, view_or_copy
from scanbus.schemas.errors import PayloadError

_SHUFFLE_ID = 2
_DEFLATE_ID = 1


@dataclass(frozen=True)
class GzipShuffleScheme:
    """HDF5's own pipeline of shuffle and deflate.

    Parameters
    ----------
    level : int
        1 (fast) to 9 (small).
    """

    level: int = 4

    def filters(self) -> tuple[Filter, ...]:
        """Return shuffle and deflate; HDF5 adds the item size to shuffle."""
        return (
            Filter(_SHUFFLE_ID, (), "shuffle"),
            Filter(_DEFLATE_ID, (self.level,), "deflate"),
        )

    def pack(self, data: Octets, itemsize: int) -> Buffer:
        """Return the zlib stream of the shuffled bytes."""
        planes = np.ascontiguousarray(data.reshape(-1, itemsize).T)
        return zlib.compress(planes.data, self.level)

    def unpack(
        self, payload: memoryview, n_bytes: int, itemsize: int, out: Octets | None
    ) -> Octets:
        """Return the inflated and unshuffled bytes; at most `n_bytes` are inflated."""
        inflated = _inflate(payload, n_bytes)
        if itemsize == 1:
            return view_or_copy(inflated, out)
        if out is None:
            out = np.empty(n_bytes, dtype=np.uint8)
        planes = np.frombuffer(inflated, dtype=np.uint8).reshape(itemsize, -1)
        out.reshape(-1, itemsize)[:] = planes.T
        return out

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:  # noqa: ARG002
        """Inflate at most `n_bytes`, as a zlib stream does not declare its size.

        HDF5's filter would inflate any size.
        """
        _inflate(payload, n_bytes)


def _inflate(payload: memoryview, n_bytes: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        # One byte more than expected: it reveals a stream that is too long, and
        # without it zlib may stop before it has verified the checksum at the end.
        inflated = stream.decompress(payload, n_bytes + 1)
    except zlib.error as error:
        raise PayloadError(f"gzip-shuffle: {error}") from error
    if len(inflated) != n_bytes or not stream.eof or stream.unused_data:
        raise PayloadError(
            f"gzip-shuffle: not one whole zlib stream of {n_bytes} bytes "
            f"(got {len(inflated)}, {len(stream.unused_data)} bytes after it)"
        )
    return inflated
