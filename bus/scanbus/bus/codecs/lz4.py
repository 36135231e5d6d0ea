"""LZ4 blocks without shuffling, as HDF5 filter 32004 stores them.

A block that LZ4 cannot make smaller is stored as it is; a reader sees that from its
size. The filter's default block is 1 GiB, so a frame is one block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import lz4.block
import numpy as np

from scanbus.bus.codecs.codec import Buffer, Filter, Octets, deliver
from scanbus.bus.codecs.framing import BLOCK_SIZE, HEADER, packed_blocks, read_header
from scanbus.schemas.errors import PayloadError

_LZ4_ID = 32004


@dataclass(frozen=True)
class Lz4Scheme:
    """The HDF5 filter for LZ4.

    Parameters
    ----------
    block_bytes : int
        Largest unpacked block; the default is the filter's.
    """

    block_bytes: int = 1 << 30

    def filters(self) -> tuple[Filter, ...]:
        """Return the one filter; 0 stands for its default block size."""
        return (Filter(_LZ4_ID, (0,), "lz4"),)

    def pack(self, data: Octets, itemsize: int) -> Buffer:  # noqa: ARG002
        """Return header and blocks, raw where LZ4 does not gain."""
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
            return deliver(_unpack_block(payload[slice(*table[0])], n_bytes), out)
        if out is None:
            out = np.empty(n_bytes, dtype=np.uint8)
        for block, (start, end) in enumerate(table):
            target = out[block * block_bytes : (block + 1) * block_bytes]
            deliver(_unpack_block(payload[start:end], target.size), target)
        return out

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:  # noqa: ARG002
        """Walk the table of blocks."""
        _table(payload, n_bytes)


def _table(payload: memoryview, n_bytes: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the bytes of an unpacked block, and where each packed one stands."""
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
        # LZ4_decompress_safe into n_bytes: it reads and writes no further.
        unpacked: bytes = lz4.block.decompress(packed, uncompressed_size=n_bytes)
    except lz4.block.LZ4BlockError as error:
        raise PayloadError(f"lz4: {error}") from error
    if len(unpacked) != n_bytes:
        raise PayloadError(
            f"lz4: a block of {n_bytes} bytes unpacks to {len(unpacked)}"
        )
    return unpacked
