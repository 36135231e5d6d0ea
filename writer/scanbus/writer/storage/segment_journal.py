"""Journal of a temporary segment: where its points are, said without HDF5.

HDF5 changes the index of a file in place: a kill within a flush may leave one that
leads nowhere. The points are in the file nevertheless. So each flush first appends to
this journal what salvage needs to find and verify them. It is a file of records, see
:mod:`scanbus.writer.storage.record_file`:

======= ================================ ==========================================
record  head                             body
======= ================================ ==========================================
segment ``uid``, ``start``               description of the lane, JSON
chunk   ``index``, ``is_from_source``    a chunk whose place in the file says nothing
rows    ``rows``, ``sizes``              new times, new point numbers of late points,
                                         then the places of new chunks (frames), or
                                         the new values of each dataset (values)
======= ================================ ==========================================

A killed writer leaves whole records, and at most one that is cut off.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, checksum_of
from scanbus.schemas import MAX_ENTRY_BYTES, LaneDescription
from scanbus.writer.storage.record_file import is_intact, pack_record, records
from scanbus.writer.storage.regular_file import check_regular, open_regular

__all__ = ["JournalContents", "JournaledChunk", "SegmentJournal", "read_journal"]

_SUFFIX: Final = ".journal"
# Index, offset and stored size in bytes, XXH3, whether it was computed at the source.
_PLACE: Final = struct.Struct("<QQQQ?")
_PLACES: Final = np.dtype(
    [("index", "<u8"), ("offset", "<u8"), ("size", "<u8"), ("sum", "<u8"), ("own", "?")]
)
# Far more than a writer puts into one: points of an entry, and what was held before.
_MAX_RECORD_BYTES: Final = 2 * MAX_ENTRY_BYTES


class SegmentJournal:
    """The journal of one temporary segment, which owns it.

    The file is made by the first `write`: most segments of short scans need none.

    Parameters
    ----------
    path : pathlib.Path
        Path of the segment.
    n_parts : int
        Number of datasets with values; 0 for frames.
    """

    def __init__(
        self, path: Path, uid: str, lane: LaneDescription, start: int, n_parts: int = 0
    ) -> None:
        self._path = path.with_suffix(_SUFFIX)
        self._file: int | None = None
        self._size = 0
        head = {"kind": "segment", "uid": uid, "start": start}
        self._waiting: list[Any] = pack_record(head, lane.model_dump_json().encode())
        self._places: dict[int, bytes] = {}
        self._times: list[bytes] = []
        self._numbers: list[bytes] = []
        self._parts: list[list[bytes]] = [[] for _ in range(n_parts)]

    def note_chunk(
        self, index: int, offset: int, size: int, checksum: int, *, from_source: bool
    ) -> None:
        """Take the place of a chunk that is in the file, for the next write."""
        self._places[index] = _PLACE.pack(index, offset, size, checksum, from_source)

    def keep_chunk(self, index: int, packed: Any, *, from_source: bool) -> None:
        """Take a chunk itself; written at once if the file may have an older one.

        To be called before the older one is overwritten.
        """
        self._places.pop(index, None)
        head = {"kind": "chunk", "index": index, "is_from_source": from_source}
        self._waiting += pack_record(head, bytes(packed))
        if self._file is not None:
            self._append()

    def note_times(self, times: Times) -> None:
        """Take the times of the next rows."""
        self._times.append(times.tobytes())

    def note_numbers(self, numbers: npt.NDArray[np.int64]) -> None:
        """Take the point numbers of the next rows of a late lane."""
        self._numbers.append(numbers.tobytes())

    def note_values(self, part: int, values: npt.NDArray[Any]) -> None:
        """Take the next values of a dataset."""
        self._parts[part].append(values.tobytes())

    def write(self, n_rows: int) -> None:
        """Append what was taken, to survive a kill of this process.

        Parameters
        ----------
        n_rows : int
            Rows that the segment has now.

        Raises
        ------
        OSError
            If the file system refuses; the next write repeats it.
        """
        columns = self._parts or [[*self._places.values()]]
        taken = [self._times, self._numbers, *columns]
        parts = [b"".join(each) for each in taken]
        head = {"kind": "rows", "rows": n_rows, "sizes": [len(part) for part in parts]}
        self._append(pack_record(head, *parts))
        self._places.clear()
        for each in taken:
            each.clear()

    def _append(self, record: list[Any] | None = None) -> None:
        if self._file is None:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o666)
        content = memoryview(b"".join([*self._waiting, *(record or ())]))
        # At a known place: a write that failed is overwritten by the next one.
        offset = self._size
        while content:
            n_written = os.pwrite(self._file, content, offset)
            content, offset = content[n_written:], offset + n_written
        self._size = offset
        self._waiting = []

    def close(self) -> None:
        """Close the file, which stays; may be repeated."""
        if self._file is not None:
            descriptor, self._file = self._file, None
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the file: the segment is complete, and has all that it says."""
        if self._file is not None:
            self.close()
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class JournaledChunk:
    """A chunk that a journal knows.

    Attributes
    ----------
    offset, nbytes : int
        Its place in the segment, in bytes.
    checksum : int
        XXH3 of its bytes.
    from_source : bool
        Whether the checksum was computed at the source.
    content : bytes or None
        The chunk, if the journal has it itself.
    """

    offset: int
    nbytes: int
    checksum: int
    from_source: bool
    content: bytes | None = None

    def read(self, descriptor: int) -> bytes | None:
        """Return its bytes from the open segment; None if they are not these."""
        packed = self.content
        if packed is None:
            packed = os.pread(descriptor, self.nbytes, self.offset)
        return packed if checksum_of(packed) == self.checksum else None


class JournalContents:
    """What a journal says of a segment.

    Parameters
    ----------
    uid, description : str
        Uid of the scan; description of the lane, JSON.
    start : int
        First point.
    """

    def __init__(self, uid: str, description: str, start: int) -> None:
        self.uid = uid
        self.description = description
        self.start = start
        self.n_rows = 0
        self.chunks: dict[int, JournaledChunk] = {}
        """Index to chunk, of frames; all are within the file."""
        self._columns: list[list[bytes]] = []

    @property
    def times(self) -> Times:
        """Times of the rows, as far as they are known."""
        return np.frombuffer(self._joined(0), "<f8")

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Point numbers of the rows of a late lane."""
        return np.frombuffer(self._joined(1), "<i8")

    def values(self, part: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the values of a dataset, flat; ValueError if of another type."""
        return np.frombuffer(self._joined(2 + part), dtype)

    def _joined(self, column: int) -> bytes:
        return b"".join(self._columns[column]) if self._columns else b""

    def take_chunk(self, head: dict[str, Any], packed: bytes) -> None:
        """Take a chunk that the journal has itself."""
        is_own = bool(head["is_from_source"])
        chunk = JournaledChunk(0, len(packed), checksum_of(packed), is_own, packed)
        self.chunks[int(head["index"])] = chunk

    def take_rows(
        self, head: dict[str, Any], body: bytes, n_bytes: int, *, has_frames: bool
    ) -> None:
        """Take what is new since the record before; the segment has `n_bytes`."""
        self.n_rows = max(self.n_rows, int(head["rows"]))
        parts = list(_split(body, head["sizes"]))
        if len(parts[0]) % 8 or len(parts[1]) % 8:
            raise ValueError("half a time, or half a number")
        if has_frames:
            self._take_places(parts.pop(), n_bytes)
        self._columns = self._columns or [[] for _ in parts]
        for column, part in zip(self._columns, parts, strict=True):
            column.append(part)

    def _take_places(self, table: bytes, n_bytes: int) -> None:
        places = np.frombuffer(table, _PLACES).tolist()
        for index, offset, size, checksum, is_own in places:
            if size <= _MAX_RECORD_BYTES and offset + size <= n_bytes:
                self.chunks[index] = JournaledChunk(offset, size, checksum, is_own)


def _split(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    if sum(sizes) != len(body) or min(sizes) < 0:
        raise ValueError("a record of another size than its parts")
    place = 0
    for size in sizes:
        yield body[place : place + size]
        place += size


def read_journal(path: Path, *, has_frames: bool) -> JournalContents | None:
    """Return what the journal of a segment says; None if it has none, or an empty one.

    Up to the first record that is cut off or damaged.

    Parameters
    ----------
    path : pathlib.Path
        Path of the segment.

    Raises
    ------
    OSError, NameTakenError, ValueError, TypeError, LookupError
        If the journal or the segment cannot be read, or the journal is none.
    """
    try:
        descriptor = open_regular(path.with_suffix(_SUFFIX))
    except FileNotFoundError:
        return None
    try:
        n_bytes = check_regular(path).st_size
        found: JournalContents | None = None
        for record in records(descriptor, str(path)):
            size = record.stop - record.offset
            if size > _MAX_RECORD_BYTES or not is_intact(descriptor, record):
                break
            head = record.head
            body = os.pread(descriptor, record.stop - record.body, record.body)
            if head["kind"] == "segment":
                uid, start = str(head["uid"]), int(head["start"])
                found = JournalContents(uid, body.decode(), start)
            elif found is None:
                raise ValueError("a journal without a beginning")
            elif head["kind"] == "chunk":
                found.take_chunk(head, body)
            else:
                found.take_rows(head, body, n_bytes, has_frames=has_frames)
        return found
    finally:
        os.close(descriptor)
