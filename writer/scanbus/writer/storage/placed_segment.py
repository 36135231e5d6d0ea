"""A segment under its final name, and whether it is still there.

Somebody may remove or replace files while a scan runs. HDF5 reads fill values in the
place of a file that is missing, so a segment is looked for before a master names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scanbus.schemas.errors import VerificationError
from scanbus.writer.storage.regular_file import check_regular
from scanbus.writer.storage.segment_header import read_header

__all__ = ["PlacedSegment"]


def _in_header(path: Path) -> tuple[Any, ...]:
    return read_header(path).identity


class PlacedSegment:
    """Identity of a published segment, and the file that had it last.

    Parameters
    ----------
    identity : tuple
        As of its header: uid, lane, start, stop and digest.
    read : callable
        Returns the identity of a file.
    """

    def __init__(
        self,
        identity: tuple[Any, ...],
        read: Callable[[Path], tuple[Any, ...]] = _in_header,
    ) -> None:
        self._identity = identity
        self._read = read
        # Of the file whose header was read. Not that of a file just published: it may
        # have been replaced since.
        self._stamp: tuple[int, ...] | None = None

    def confirm(self, path: Path) -> None:
        """Check that the segment is at `path`; reads no data.

        Raises
        ------
        VerificationError
            If nothing is there, or another segment.
        NameTakenError
            If something else is there.
        OSError
            If the file system does not answer as it should.
        """
        try:
            stamp = _stamp(check_regular(path))
            if stamp == self._stamp:
                return
            # New, copied back, or on a file system that was mounted again.
            found = self._read(path)
        except FileNotFoundError as error:
            raise VerificationError(str(path), "it is not there any more") from error
        if found != self._identity:
            raise VerificationError(str(path), "another segment is in its place")
        self._stamp = stamp


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
