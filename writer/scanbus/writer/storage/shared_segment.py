"""The segment that all lanes of small values share: one file for any number of lanes.

A lane with a file of its own costs a file to create, compare, sync, link and remove. So
the points of all lanes go into one file of records, as they come: a section of the file
is what it has of one lane. All sections end, and become durable, together.

====== =============================== =====================================
record head                            body
====== =============================== =====================================
file   ``uid``                         ,
lane   ``lane``, ``start``             description of the lane, JSON
points ``lane``, ``first``, ``count``, table of entries, times, then each
       ``rows``, ``sizes``             channel's points: values, and lengths
notes  ``lane``, ``stop``              account of the lane so far, JSON
index  ,                               where the points of each section are
end    ,                               list of sections, with their accounts
====== =============================== =====================================

``lane`` is the place of the section in the file. Long runs of missing points are in
no record. A killed writer leaves whole records, and at most one that is cut off.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy.typing as npt
import xxhash

from scanbus.bus.protocol import Entry
from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import VerificationError
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.steps import step
from scanbus.writer.storage.entry_values import (
    Block,
    EntryRow,
    missing_values,
    parts_of,
    stored_blocks,
    stored_row,
)
from scanbus.writer.storage.record_file import end_mark, pack_record
from scanbus.writer.storage.time_column import stored_times

__all__ = ["PLACE", "LaneSection", "SharedSegment"]

# Bytes buffered for all lanes before a write, unless a flush comes first; each entry
# counts with the memory of the objects that hold it.
_HELD_BYTES: Final = 16 << 20
_ENTRY_BYTES: Final = 500
# Shorter runs of missing points are stored as fill values, to have fewer records.
_FILLED_POINTS: Final = 1024
_FILLED_BYTES: Final = 1 << 16
# Smaller arrays are copied: a view of an entry keeps all of it in memory.
_COPIED_BYTES: Final = 1 << 12
_READ_BYTES: Final = 1 << 20
_ROW: Final = struct.Struct("<QQQ?")
PLACE: Final = struct.Struct("<QQQQ")
"""Place of a record with points: offset, size in bytes, first point, points."""


class SharedSegment:
    """One file with points of several lanes, being written.

    One scan writer owns it. Use it from one thread, then `close` and `verify`, in that
    order, from any thread.

    Parameters
    ----------
    path : pathlib.Path
        Path of the file, which must not exist.
    uid : str
        Uid of the scan.

    Raises
    ------
    FileExistsError, OSError
        If the file exists, or cannot be created.
    """

    def __init__(self, path: Path, uid: str) -> None:
        self._path = path
        self.digest = 0
        """Digest of the list of sections, once it is closed."""
        self._file: int | None = None
        self._size = 0
        self._digest = xxhash.xxh3_64()
        self._waiting: list[Any] = []
        self.held_bytes = 0
        self._sections: list[LaneSection] = []
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o666)
        self.add({"kind": "file", "uid": uid})

    @property
    def is_closed(self) -> bool:
        """Whether the file is closed."""
        return self._file is None

    @property
    def n_bytes(self) -> int:
        """Size of everything that was added, written or not."""
        return self._size + self.held_bytes

    def section(
        self, lane: LaneDescription, start: int, account: SegmentAccount
    ) -> LaneSection:
        """Begin the section of a lane that has none in this file yet.

        Parameters
        ----------
        start : int
            Its first point.
        account : SegmentAccount
            Records that were made since the lane's last section.
        """
        section = LaneSection(self, len(self._sections), lane, start, account)
        self._sections.append(section)
        return section

    def add(self, head: Mapping[str, Any], *parts: Any) -> tuple[int, int]:
        """Add a record to the next write; return its place and size."""
        packed = pack_record(head, *parts)
        n_bytes = sum(len(part) for part in packed)
        offset, self._size = self._size, self._size + n_bytes
        self._waiting += packed
        return offset, n_bytes

    def hold(self, n_bytes: int) -> None:
        """Count buffered bytes; write when there are many."""
        self.held_bytes += n_bytes + _ENTRY_BYTES
        if self.held_bytes >= _HELD_BYTES:
            with step("write"):
                self._write()

    def _write(self) -> None:
        """Write everything that is buffered; after an error the file is of no use."""
        for section in self._sections:
            section.emit()
        content = b"".join(self._waiting)
        self._waiting = []
        self.held_bytes = 0
        self._digest.update(content)
        view = memoryview(content)
        assert self._file is not None
        while view:
            view = view[os.write(self._file, view) :]

    def flush(self) -> None:
        """Write buffered points and accounts, to survive a kill of this process."""
        with step("flush"):
            self._write()

    def close(self) -> None:
        """End all sections, write everything and close the file."""
        for section in self._sections:
            section.emit()
        places = [section.places() for section in self._sections]
        offset, n_bytes = self.add({"kind": "index"}, b"".join(places))
        start = offset + n_bytes - sum(map(len, places))
        table = []
        for section, place in zip(self._sections, places, strict=True):
            if not section.is_void:
                table.append([*section.summary(), start, len(place)])
            start += len(place)
        packed: bytes = msgpack.packb(table)
        self.digest = xxhash.xxh3_64_intdigest(packed)
        offset, _ = self.add({"kind": "end"}, packed)
        self._waiting.append(end_mark(offset))
        self._write()
        assert self._file is not None
        descriptor, self._file = self._file, None
        os.close(descriptor)

    def verify(self) -> None:
        """Compare the closed file with what was written.

        Raises
        ------
        VerificationError
            If it differs.
        """
        digest = xxhash.xxh3_64()
        buffer = memoryview(bytearray(_READ_BYTES))
        with self._path.open("rb", buffering=0) as file:
            while n_read := file.readinto(buffer):
                digest.update(buffer[:n_read])
        if digest.digest() != self._digest.digest():
            raise VerificationError(str(self._path), "it is not what was written")

    def discard(self) -> None:
        """Give the file up, unless it is closed; it must not be used afterwards."""
        if self._file is not None:
            descriptor, self._file = self._file, None
            os.close(descriptor)


class LaneSection:
    """The points ``[start, stop)`` of one lane in a shared segment.

    The lane's writer owns it; :meth:`SharedSegment.section` makes it.
    """

    def __init__(
        self,
        file: SharedSegment,
        index: int,
        lane: LaneDescription,
        start: int,
        account: SegmentAccount,
    ) -> None:
        self._segment = file
        self._index = index
        self._lane = lane
        self.start = self.stop = start
        self.account = account
        self._n_notes = 0
        self._records: list[tuple[int, int, int, int]] = []
        # Contiguous points from `_first` on that are in no record yet.
        self._first = start
        self._rows: list[bytes] = []
        self._times: list[bytes] = []
        self._parts: list[list[Any]] = []
        self._runs: list[tuple[int, int, dict[str, Any], list[bytes]]] = []
        description = lane.model_dump_json().encode()
        head = {"kind": "lane", "lane": index, "start": start}
        file.add(head, description)

    @property
    def is_void(self) -> bool:
        """Whether it has no point."""
        return self.stop == self.start

    def put(self, entry: Entry) -> None:
        """Store the points of an entry.

        Raises
        ------
        PayloadError
            If a block cannot be unpacked; then nothing of the entry is stored.
        UnknownCodecError
            If a block's codec is unknown or its library is not installed.
        """
        blocks = stored_blocks(self._lane, entry)
        row = stored_row(entry, blocks)
        self.account.note_gaps(entry.gaps)
        self.restore(row, blocks, stored_times(entry))

    def restore(self, row: EntryRow, blocks: list[Block], times: Any) -> None:
        """Store unpacked points; see `EntryRow` for the row of their entry."""
        self._fill_up_to(row[0])
        self._rows.append(_ROW.pack(*row))
        self._hold(row[1], blocks, times.tobytes())

    def mark(self, kind: str, start: int, stop: int) -> None:
        """Record points in the account; reserve the place of ``missing`` ones."""
        self.account.note(kind, start, stop)
        if kind == "missing":
            self._fill_up_to(stop)

    def _hold(self, count: int, blocks: list[Block], times: bytes) -> None:
        parts = [part for block in blocks for part in parts_of(block)]
        if not self._parts:
            self._parts = [[] for _ in parts]
        n_bytes = len(times)
        for held, part in zip(self._parts, parts, strict=True):
            held.append(_bytes_of(part))
            n_bytes += part.nbytes
        self._times.append(times)
        self.stop += count
        self._segment.hold(n_bytes)

    def _fill_up_to(self, point: int) -> None:
        count = point - self.stop
        if count <= 0:
            return
        n_bytes = count * self._lane.point_bytes
        if self._parts and count <= _FILLED_POINTS and n_bytes <= _FILLED_BYTES:
            blocks = [missing_values(one, count) for one in self._lane.channels]
            self._hold(count, blocks, _NO_TIME * count)
            return
        self._end_run()
        self.stop = self._first = point

    def _end_run(self) -> None:
        """Make the points since the last long gap ready for the next write."""
        if not self._parts:
            return
        parts = [b"".join(held) for held in self._parts]
        first, count = self._first, self.stop - self._first
        head = {
            "kind": "points",
            "lane": self._index,
            "first": first,
            "count": count,
            "rows": len(self._rows),
            "sizes": [len(part) for part in parts],
        }
        tables = [b"".join(self._rows), b"".join(self._times)]
        self._runs.append((first, count, head, [*tables, *parts]))
        self._rows, self._times, self._parts = [], [], []
        self._first = self.stop

    def emit(self) -> None:
        """Make records of the account, if it has changed, and of all points.

        In this order: without the account, fill values look like points.
        """
        if self.account.n_notes > self._n_notes:
            self._n_notes = self.account.n_notes
            head = {"kind": "notes", "lane": self._index, "stop": self.stop}
            self._segment.add(head, self.account.to_json().encode())
        self._end_run()
        for first, count, head, parts in self._runs:
            place = self._segment.add(head, *parts)
            self._records.append((*place, first, count))
        self._runs = []

    def places(self) -> bytes:
        """Return where its points are in the file: one `PLACE` for each record."""
        return b"".join(PLACE.pack(*each) for each in self._records)

    def summary(self) -> list[Any]:
        """Return what the end of the file says of the section."""
        account = self.account.to_json()
        return [self._lane.name, self._index, self.start, self.stop, account]


_NO_TIME: Final = struct.pack("<d", float("nan"))


def _bytes_of(part: npt.NDArray[Any]) -> bytes | memoryview:
    if part.nbytes < _COPIED_BYTES or not part.flags.c_contiguous:
        return part.tobytes()
    return part.reshape(-1).view("u1").data
