"""Unpack files of gzip and bzip2, up to a size.

A packed file does not say how large it becomes, and a few kilobytes may become any
size: so it is unpacked in pieces, until it ends or is too large for memory.
"""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import TypeAlias

from scanbus.schemas.errors import SourceError

__all__ = ["MAX_UNPACKED_BYTES", "unpacked_file", "unpacked_head"]

# Of all frames of a file: thirty of a detector with 16 megapixels of 32 bits.
MAX_UNPACKED_BYTES = 2**31
_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_PIECE_BYTES = 2**22
_PackedFile: TypeAlias = gzip.GzipFile | bz2.BZ2File


def unpacked_file(
    path: Path, start: bytes, most: int = MAX_UNPACKED_BYTES
) -> bytes | None:
    """Return the content of a file of gzip or bzip2; None for any other.

    Parameters
    ----------
    start : bytes
        Its first bytes, which tell what it is.
    most : int
        Largest size of its content, in bytes.

    Raises
    ------
    SourceError
        If its content is larger.
    EOFError, OSError, zlib.error
        If it is truncated or damaged.
    """
    stream = _opened(path, start)
    if stream is None:
        return None
    with stream:
        return _read(path, stream, most)


def unpacked_head(path: Path, start: bytes, n_bytes: int) -> bytes:
    """Return the first bytes of the content of a file, packed or not.

    Parameters
    ----------
    start : bytes
        Its first bytes, which tell what it is.
    n_bytes : int
        How many are wanted; there may be fewer.

    Raises
    ------
    EOFError, OSError, zlib.error
        If it is truncated or damaged before.
    """
    with _opened(path, start) or path.open("rb") as stream:
        return stream.read(n_bytes)


def _opened(path: Path, start: bytes) -> _PackedFile | None:
    if start.startswith(_GZIP):
        return gzip.open(path)
    return bz2.open(path) if start.startswith(_BZIP2) else None


def _read(path: Path, stream: _PackedFile, most: int) -> bytes:
    content = bytearray()
    while piece := stream.read(_PIECE_BYTES):
        content += piece
        if len(content) > most:
            raise SourceError(
                str(path),
                f"the file unpacks to more than {most} bytes: unpack it, or split it "
                "into files of fewer frames",
            )
    return bytes(content)
