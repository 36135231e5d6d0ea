"""Unpack files of gzip and bzip2, up to a size.

A packed file does not say how large it becomes, and a few kilobytes may become any
size: so it is unpacked in pieces, until it ends or is too large for memory.
"""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from scanbus.schemas.errors import SourceError

__all__ = ["MAX_UNPACKED_BYTES", "unpacked_file"]

# Of all frames of a file: thirty of a detector with 16 megapixels of 32 bits.
MAX_UNPACKED_BYTES = 2**31
_OPENERS: tuple[tuple[bytes, Callable[[Path], BinaryIO]], ...] = (
    (b"\x1f\x8b", lambda path: cast("BinaryIO", gzip.open(path))),
    (b"BZh", lambda path: cast("BinaryIO", bz2.open(path))),
)
_PIECE_BYTES = 2**22


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
    opened = [each for magic, each in _OPENERS if start.startswith(magic)]
    if not opened:
        return None
    content = bytearray()
    with opened[0](path) as stream:
        while piece := stream.read(_PIECE_BYTES):
            content += piece
            if len(content) > most:
                raise SourceError(
                    str(path),
                    f"the file unpacks to more than {most} bytes: unpack it, or split "
                    "it into files of fewer frames",
                )
    return bytes(content)
