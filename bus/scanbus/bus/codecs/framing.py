"""The frame that the LZ4 and the bitshuffle filters of HDF5 share.

Twelve bytes of header, big-endian: size of the unpacked data (8 bytes), size of an
unpacked block (4 bytes). Then per block the size of the packed block (4 bytes) and
the packed block. DECTRIS detectors send the same frame.

References
----------
"HDF5 LZ4 filter", https://support.hdfgroup.org/services/filters/HDF5_LZ4.pdf
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

from scanbus.schemas.errors import PayloadError

HEADER = struct.Struct(">QI")
BLOCK_SIZE = struct.Struct(">I")


def read_header(codec: str, payload: memoryview, n_bytes: int) -> int:
    """Return the declared block size in bytes.

    Parameters
    ----------
    codec : str
        For messages.
    payload : memoryview
        The whole frame.
    n_bytes : int
        The unpacked size that it must declare.

    Raises
    ------
    PayloadError
        If the header is cut, declares another size, or no block size.
    """
    if len(payload) < HEADER.size:
        raise PayloadError(f"{codec}: {len(payload)} bytes are no header")
    declared, block_bytes = HEADER.unpack_from(payload)
    if declared != n_bytes:
        raise PayloadError(f"{codec}: expected {n_bytes} bytes, {declared} declared")
    if block_bytes == 0:
        raise PayloadError(f"{codec}: blocks of 0 bytes declared")
    return int(block_bytes)


def packed_blocks(
    codec: str, payload: memoryview, n_blocks: int, tail_bytes: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield where each packed block starts and ends, never outside of the payload.

    Parameters
    ----------
    codec : str
        For messages.
    payload : memoryview
        The whole frame.
    n_blocks : int
        How many blocks there must be.
    tail_bytes : int
        How many bytes must follow the last block.

    Raises
    ------
    PayloadError
        If a block reaches beyond the end, or if anything else follows the last.
    """
    end = len(payload) - tail_bytes
    position = HEADER.size
    unpack_from = BLOCK_SIZE.unpack_from
    for block in range(n_blocks):
        start = position + 4
        if start > end:
            raise PayloadError(f"{codec}: cut before block {block} of {n_blocks}")
        (packed_bytes,) = unpack_from(payload, position)
        position = start + packed_bytes
        if position > end:
            raise PayloadError(
                f"{codec}: block {block} of {n_blocks} is cut: {packed_bytes} bytes "
                f"declared, {end - start} left"
            )
        yield start, position
    if position != end:
        raise PayloadError(
            f"{codec}: {end - position} bytes behind the last of {n_blocks} blocks"
        )


def parts_of_blocks(
    codec: str,
    payload: memoryview,
    n_blocks: int,
    tail_bytes: int = 0,
    *,
    per_part: int,
) -> list[int]:
    """Walk the same table; return where every part of `per_part` blocks begins.

    Every frame on its way is walked so. What the last number says is where the last
    block ends.

    Raises
    ------
    PayloadError
        As `packed_blocks`.
    """
    position = HEADER.size
    edges = [position]
    unpack_from = BLOCK_SIZE.unpack_from
    try:
        for start in range(0, max(n_blocks, 1), per_part):
            for _ in range(min(per_part, n_blocks - start)):
                position += unpack_from(payload, position)[0] + 4
            edges.append(position)
    except struct.error:
        position = -1
    # Positions only grow: where the last is right, none was beyond the end.
    if position != len(payload) - tail_bytes:
        deque(packed_blocks(codec, payload, n_blocks, tail_bytes), maxlen=0)
    return edges
