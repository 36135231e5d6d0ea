"""The framing that the LZ4 and the bitshuffle filters of HDF5 share.

A header of 12 bytes, big-endian: size of the unpacked data (8 bytes), size of an
unpacked block (4 bytes). Then, per block, the size of the packed block (4 bytes) and
the packed block. DECTRIS detectors send the same framing.

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
    """Return the size of an unpacked block in bytes, as the header declares it.

    Parameters
    ----------
    codec : str
        Name of the codec, for error messages.
    payload : memoryview
        The whole payload.
    n_bytes : int
        The unpacked size that the header must declare.

    Raises
    ------
    PayloadError
        If the header is truncated, declares another size, or blocks of 0 bytes.
    """
    if len(payload) < HEADER.size:
        raise PayloadError(
            f"{codec}: {len(payload)} bytes, the header alone has {HEADER.size}"
        )
    declared, block_bytes = HEADER.unpack_from(payload)
    if declared != n_bytes:
        raise PayloadError(
            f"{codec}: expected {n_bytes} bytes, the header declares {declared}"
        )
    if block_bytes == 0:
        raise PayloadError(f"{codec}: the header declares blocks of 0 bytes")
    return int(block_bytes)


def packed_blocks(
    codec: str, payload: memoryview, n_blocks: int, tail_bytes: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each packed block, all within the payload.

    Parameters
    ----------
    codec : str
        Name of the codec, for error messages.
    payload : memoryview
        The whole payload.
    n_blocks : int
        Number of blocks that there must be.
    tail_bytes : int
        Number of bytes that must follow the last block.

    Raises
    ------
    PayloadError
        If a block ends beyond the payload, or more or fewer than `tail_bytes` bytes
        follow the last block.
    """
    end = len(payload) - tail_bytes
    position = HEADER.size
    unpack_from = BLOCK_SIZE.unpack_from
    for block in range(n_blocks):
        start = position + 4
        if start > end:
            raise PayloadError(f"{codec}: truncated before block {block} of {n_blocks}")
        (packed_bytes,) = unpack_from(payload, position)
        position = start + packed_bytes
        if position > end:
            raise PayloadError(
                f"{codec}: block {block} of {n_blocks} is truncated: {packed_bytes} "
                f"bytes declared, {end - start} left"
            )
        yield start, position
    if position != end:
        raise PayloadError(
            f"{codec}: {end - position} bytes follow the last of {n_blocks} blocks"
        )


def parts_of_blocks(
    codec: str,
    payload: memoryview,
    n_blocks: int,
    tail_bytes: int = 0,
    *,
    per_part: int,
) -> list[int]:
    """Check the same sizes; return the starts of parts of `per_part` blocks each.

    The last number is the end of the last block. A fast version of `packed_blocks`,
    as every frame that is received is checked.

    Raises
    ------
    PayloadError
        In the same cases as `packed_blocks`.
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
    # Positions only grow: if the last one is right, none was beyond the end.
    if position != len(payload) - tail_bytes:
        deque(packed_blocks(codec, payload, n_blocks, tail_bytes), maxlen=0)
    return edges
