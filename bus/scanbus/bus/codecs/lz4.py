"""LZ4 blocks without shuffling, as HDF5 filter 32004 stores them.

A block that LZ4 cannot make smaller is stored uncompressed; readers recognise it by its
size. The filter's default block size is 1 GiB, so a frame is one block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import lz4.block
import numpy as np

from scanbus.bus.codecs.block_table import (
    BLOCK_SIZE,
    HEADER,
    packed_blocks,
    read_header,
)
from scanbus.bus.codecs.codec import Buffer, Filter, Octets, view_or_copy
from scanbus.schemas.errors import PayloadError

_LZ4_ID = 32004


@dataclass(frozen=True)
class Lz4Scheme:
    """The HDF5 filter for LZ4.

    Parameters
    ----------
    block_bytes : int
        Largest size of an unpacked block; the default is that of the filter.
    """

    block_bytes: int = 1 << 30

    def filters(self) -> tuple[Filter, ...]:
        """Return the filter; option 0 selects its default block size."""
        return (Filter(_LZ4_ID, (0,), "lz4"),)

    def pack(self, data: Octets, itemsize: int) -> Buffer:  # noqa: ARG002
        """Return header and blocks; blocks that LZ4 cannot make smaller stay raw."""
        block_bytes = min(self.block_bytes, data.size)
        blocks = (
            _pack_block(data[start : start + block_bytes])
            for start in range(0, data.size, block_bytes)
        )
        header = HEADER.pack(data.size, block_bytes)
        return b"".join([header, *chain.from_iterable(blocks)])

    def unpack(
        self,
        payload: memoryview,
        n_bytes: int,
        itemsize: int,  # noqa: ARG002
        out: Octets | None,
    ) -> Octets:
        """Return the unpacked blocks; every size is checked before LZ4 is called."""
        block_bytes, table = _table(payload, n_bytes)
        if len(table) == 1:
            return view_or_copy(_unpack_block(payload[slice(*table[0])], n_bytes), out)
        if out is None:
            out = np.empty(n_bytes, dtype=np.uint8)
        for block, (start, end) in enumerate(table):
            target = out[block * block_bytes : (block + 1) * block_bytes]
            view_or_copy(_unpack_block(payload[start:end], target.size), target)
        return out

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:  # noqa: ARG002
        """Check the header and the size of each block."""
        _table(payload, n_bytes)


def _table(payload: memoryview, n_bytes: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the size of an unpacked block, and start and end of each packed one."""
    block_bytes = min(read_header("lz4", payload, n_bytes), n_bytes)
    n_blocks = -(-n_bytes // block_bytes)
    return block_bytes, list(packed_blocks("lz4", payload, n_blocks))


def _pack_block(block: Octets) -> tuple[bytes, Buffer]:
    packed = lz4.block.compress(block.data, store_size=False)
    stored = packed if len(packed) < block.size else block.data
    return BLOCK_SIZE.pack(len(stored)), stored


def _unpack_block(packed: memoryview, n_bytes: int) -> Buffer:
    if len(packed) == n_bytes:
        return packed
    try:
        # Calls LZ4_decompress_safe, which stays within input and n_bytes of output.
        unpacked: bytes = lz4.block.decompress(packed, uncompressed_size=n_bytes)
    except lz4.block.LZ4BlockError as error:
        raise PayloadError(f"lz4: {error}") from error
    if len(unpacked) != n_bytes:
        raise PayloadError(
            f"lz4: a block of {n_bytes} bytes unpacks to {len(unpacked)}"
        )
    return unpacked
