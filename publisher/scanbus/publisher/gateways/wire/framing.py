"""Give packed pixels the framing with which HDF5 stores them, where it is left out.

Senders call the same compression by several names, and some leave out the sizes that
stand before the blocks. Whether they do is seen by the sizes themselves; the codec
checks them again. Pure.
"""

from __future__ import annotations

import struct
from typing import Final

import lz4.block

from scanbus.publisher.gateways.wire.json_part import shown
from scanbus.schemas.errors import MessageError

__all__ = ["framed", "framed_lz4"]

_CODECS: Final = {
    "none": "none",
    "": "none",
    "bslz4": "bitshuffle-lz4",
    "bitshuffle_lz4": "bitshuffle-lz4",
    "bitshuffle-lz4": "bitshuffle-lz4",
    "bszstd": "bitshuffle-zstd",
    "bitshuffle_zstd": "bitshuffle-zstd",
    "lz4": "lz4",
}
# What fits into a header. How much a blob may unpack to is checked afterwards.
_MAX_BYTES = 2**60
_TOTAL = struct.Struct(">Q")
_HEADER = struct.Struct(">QI")
_LZ4_HEADER = struct.Struct(">QII")
_LZ4_TOTAL = struct.Struct(">I")


def framed(
    where: str, name: object, blob: bytes, n_bytes: int, itemsize: int
) -> tuple[str, bytes]:
    """Return codec and payload for pixels that a sender has packed.

    Parameters
    ----------
    where : str
        Which message, for errors.
    name : object
        The sender's name for its compression; None for plain pixels.
    blob : bytes
        The packed pixels: as HDF5 stores them, or without header (what
        ``bitshuffle.compress_lz4`` returns; a bare block of LZ4), or a block of LZ4
        after its size in 4 bytes, as bsread sends it.
    n_bytes, itemsize : int
        Size of all pixels and of one, unpacked, in bytes.

    Raises
    ------
    MessageError
        If the compression is unknown, or the pixels are too many.
    """
    codec = None
    if name is None or isinstance(name, str):
        codec = _CODECS.get((name or "none").lower())
    if codec is None:
        raise MessageError(where, f"compression {shown(name)} is unknown")
    if n_bytes > _MAX_BYTES:
        raise MessageError(where, f"{n_bytes} bytes are too many for a frame")
    has_total = len(blob) > _HEADER.size and _TOTAL.unpack_from(blob)[0] == n_bytes
    if codec == "none" or has_total:
        return codec, blob
    if codec == "lz4":
        is_sized = len(blob) > 4 and _LZ4_TOTAL.unpack_from(blob)[0] == n_bytes
        return framed_lz4(where, blob[4:] if is_sized else blob, n_bytes)
    block_bytes = max(8192 // itemsize // 8 * 8, 128) * itemsize
    return codec, _HEADER.pack(n_bytes, block_bytes) + blob


def framed_lz4(where: str, blob: bytes, n_bytes: int) -> tuple[str, bytes]:
    """Return codec and payload for a bare block of LZ4 that unpacks to `n_bytes`.

    Raises
    ------
    MessageError
        If it is too large, or does not unpack.
    """
    if n_bytes >= 2**31:  # LZ4's own limit; the framing has 32 bits for it.
        raise MessageError(where, f"{n_bytes} bytes are too many for a block of LZ4")
    if len(blob) != n_bytes:
        return "lz4", _LZ4_HEADER.pack(n_bytes, n_bytes, len(blob)) + blob
    # HDF5's filter takes a block that is as large as its content for the content.
    try:
        return "none", lz4.block.decompress(blob, uncompressed_size=n_bytes)
    except lz4.block.LZ4BlockError as error:
        raise MessageError(where, f"lz4: {error}") from error
