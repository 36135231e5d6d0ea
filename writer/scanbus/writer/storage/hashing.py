"""Hash files with SHA-256, in pieces, while they are read for something else too."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from scanbus.writer.storage.regular_file import open_regular

__all__ = ["Hasher", "hash_file", "hash_range", "new_hasher"]

# The bytes are in a processor's cache when they are hashed.
_READ_BYTES: Final = 2**20


class Hasher(Protocol):
    """What bytes are fed to, as by `hashlib`."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in hexadecimal."""
        ...


def new_hasher() -> Hasher:
    """Return a hasher of the kind that manifests have."""
    return hashlib.sha256()


def hash_range(
    stream: BinaryIO,
    hasher: Hasher,
    start: int,
    stop: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Feed the bytes ``[start, stop)`` of a file to a hasher; by default to its end.

    Parameters
    ----------
    progress : callable
        Called with the number of bytes just hashed.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    place = start
    while stop is None or place < stop:
        wanted = _READ_BYTES if stop is None else min(_READ_BYTES, stop - place)
        piece = os.pread(stream.fileno(), wanted, place)
        if not piece:
            return
        hasher.update(piece)
        place += len(piece)
        progress(len(piece))


def hash_file(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises
    ------
    NameTakenError
        If it is no regular file.
    OSError
        If it cannot be read.
    """
    hasher = new_hasher()
    with os.fdopen(open_regular(path), "rb", buffering=0) as stream:
        hash_range(stream, hasher, 0, progress=progress)
    return hasher.hexdigest()
