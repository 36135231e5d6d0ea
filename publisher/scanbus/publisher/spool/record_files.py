"""Append-only files of records in one folder, removed from the front when durable."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from pathlib import Path
from typing import TypeVar

from scanbus.bus.protocol import checksum_of
from scanbus.publisher.spool.losses import FilePart, Loss, ordered
from scanbus.publisher.spool.marks import Mark
from scanbus.publisher.spool.records import (
    HEAD_BYTES,
    Head,
    Record,
    Stretch,
    owner_of,
    packed_head,
    scan_records,
)
from scanbus.publisher.spool.regular_files import (
    check_folder,
    open_regular,
    sync_folder,
)
from scanbus.schemas.errors import SpoolError

__all__ = ["RecordFiles"]

_T = TypeVar("_T")

SEGMENT_BYTES = 64 * 2**20
# First record and first point: they are known although the first record is damaged.
_NAME = re.compile(r"(\d{10,})-(\d{15,})\.spool(\.\d+)?")


@dataclass(slots=True)
class _File:
    """One file, open as long as it exists.

    Attributes
    ----------
    sequence, point : int
        Number and first point of its first record, from its name.
    end : int
        Bytes of its records.
    stop : int
        The point after its last one.
    is_damaged : bool
        Whether it holds what could not be read: it is never removed.
    """

    path: Path
    descriptor: int
    sequence: int
    point: int
    end: int = 0
    stop: int = 0
    is_damaged: bool = False

    def read(self, offset: int, nbytes: int) -> bytes:
        return os.pread(self.descriptor, nbytes, offset)


@dataclass(frozen=True, slots=True)
class _Place:
    file: _File
    offset: int
    head: Head


class RecordFiles:
    """Writes records, reads them back, removes files whose points are durable.

    One thread appends, syncs and removes; any thread may load.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of these files alone; made with the first record.
    session : bytes
        Names the publisher.
    segment_bytes : int
        Size from which on a new file is begun.
    """

    def __init__(
        self, folder: Path, session: bytes, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._folder = folder
        self._owner = owner_of(session, folder.name)
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._files: list[_File] = []
        self._places: dict[int, _Place] = {}
        self._unsynced: list[_File] = []
        self._must_begin = True
        # The first record that was not removed; the next one.
        self._first = self._next = Mark()
        self._has_loss = False

    @property
    def mark(self) -> Mark:
        """What was written, and what was removed."""
        first, written = self._first, self._next
        return Mark(first.sequence, first.point, written.next_sequence, written.stop)

    @property
    def stop(self) -> int:
        """The point after the last one."""
        return self._next.stop

    @property
    def is_damaged(self) -> bool:
        """Whether anything in its files is damaged or missing."""
        return self._has_loss or any(file.is_damaged for file in self._files)

    # ------------------------------------------------------------------- recover

    def recover(
        self, mark: Mark | None, decode: Callable[[Head, bytes], tuple[int, _T]]
    ) -> Iterator[_T | Loss]:
        """Yield all records in order, and what is missing between them.

        Files are not changed; what is appended next goes to a new one.

        Parameters
        ----------
        mark : Mark, optional
            What must be there.
        decode : callable
            Returns the first point of a record, and what is yielded for it.

        Raises
        ------
        SpoolError
            If a file cannot be opened, or holds records of another lane or scan.
        """
        items: dict[int, tuple[int, _T]] = {}
        parts = list(chain.from_iterable(self._parts(decode, items)))
        firsts = {sequence: first for sequence, (first, _) in items.items()}
        self._first = self._next = mark = mark or self._mark_of_names()
        for each in ordered(parts, firsts, mark, self._folder):
            if isinstance(each, Loss):
                self._has_loss = True
                self._next = Mark(0, 0, each.sequence, each.stop)
                yield each
            else:
                head = each.head
                self._next = Mark(0, 0, head.sequence + 1, head.stop)
                yield items[head.sequence][1]

    def _mark_of_names(self) -> Mark:
        first = self._files[0] if self._files else None
        return Mark() if first is None else Mark(first.sequence, first.point)

    def _parts(
        self,
        decode: Callable[[Head, bytes], tuple[int, _T]],
        items: dict[int, tuple[int, _T]],
    ) -> list[list[FilePart]]:
        """Read all files; return what is in each, in the order of its records."""
        found: list[tuple[int, list[FilePart]]] = []
        for file in self._opened():
            parts = [
                self._noted(file, part, decode, items)
                for part in scan_records(file.read, file.end)
            ]
            # Not by names: files may have changed places.
            heads = [one.part.head for one in parts if one.part.head is not None]
            found.append((heads[0].sequence if heads else file.sequence, parts))
        return [parts for _, parts in sorted(found, key=lambda pair: pair[0])]

    def _opened(self) -> list[_File]:
        if not check_folder(self._folder):
            return []
        for path in sorted(self._folder.iterdir()):
            name = _NAME.fullmatch(path.name)
            if name is None:
                raise SpoolError(str(path), "it is no file of a spool")
            try:
                descriptor = open_regular(path)
            except OSError as error:
                raise SpoolError(str(path), str(error.strerror)) from error
            file = _File(path, descriptor, int(name[1]), int(name[2]))
            file.end = os.fstat(descriptor).st_size
            self._files.append(file)
        return self._files

    def _noted(
        self,
        file: _File,
        part: Record | Stretch,
        decode: Callable[[Head, bytes], tuple[int, _T]],
        items: dict[int, tuple[int, _T]],
    ) -> FilePart:
        if part.head is not None and part.head.owner != self._owner:
            raise SpoolError(str(file.path), "it holds records of another lane or scan")
        if isinstance(part, Stretch):
            file.is_damaged = file.is_damaged or not part.is_torn
            return FilePart(file.path, part)
        file.stop = max(file.stop, part.head.stop)
        if part.head.sequence not in items:
            items[part.head.sequence] = decode(part.head, part.body)
            first, _ = items[part.head.sequence]
            self._places[first] = _Place(file, part.offset, part.head)
        return FilePart(file.path, replace(part, body=b""))

    # -------------------------------------------------------------------- append

    def append(self, first: int, stop: int, *body: bytes | memoryview) -> None:
        """Write a record; it survives this process, but before `sync` no machine crash.

        Parameters
        ----------
        first, stop : int
            Its points.

        Raises
        ------
        OSError
            If it cannot be written; the file is then as it was before.
        """
        sequence = self._next.next_sequence
        file = self._current()
        packed, head = packed_head(self._owner, sequence, stop, *body)
        try:
            _write_all(file.descriptor, [packed, *body], file.end)
        except OSError:
            os.ftruncate(file.descriptor, file.end)
            raise
        place = _Place(file, file.end + HEAD_BYTES, head)
        with self._lock:
            file.end, file.stop = place.offset + head.nbytes, stop
            self._next = Mark(0, 0, sequence + 1, stop)
            self._places[first] = place
            if file not in self._unsynced:
                self._unsynced.append(file)

    def _current(self) -> _File:
        if not self._must_begin and self._files[-1].end < self._segment_bytes:
            return self._files[-1]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sequence, point = self._next.next_sequence, self._next.stop
        path = self._folder / f"{sequence:010}-{point:015}.spool"
        if path.exists():  # A torn record, or a damaged seal, is all in it.
            path = path.with_name(f"{path.name}.{len(self._files)}")
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        file = _File(path, descriptor, sequence, point)
        self._must_begin = False
        with self._lock:
            self._files.append(file)
        sync_folder(self._folder)
        return file

    # ---------------------------------------------------------------------- rest

    def load(self, first: int) -> bytes:
        """Return the body of the record whose first point this is.

        Raises
        ------
        SpoolError
            If it was removed, is damaged or cannot be read; its file then stays.
        """
        with self._lock:
            place = self._places.get(first)
            if place is None:
                raise SpoolError(str(self._folder), f"point {first} is missing")
            try:
                body = place.file.read(place.offset, place.head.nbytes)
            except OSError as error:
                place.file.is_damaged = True
                raise SpoolError(str(place.file.path), str(error.strerror)) from error
            if len(body) == place.head.nbytes and checksum_of(body) == (
                place.head.checksum
            ):
                return body
            place.file.is_damaged = True
        reason = f"damaged at byte {place.offset - HEAD_BYTES}"
        raise SpoolError(str(place.file.path), reason)

    def sync(self) -> None:
        """Sync the records written so far to the disk (fdatasync).

        Raises
        ------
        OSError
            If the disk lost them: a file is never synced again after that.
        """
        with self._lock:
            files, self._unsynced = self._unsynced, []
        for file in files:
            os.fdatasync(file.descriptor)

    def durable_files(self, point: int) -> int:
        """Return how many files at the front end at or before `point`.

        The last file stays, and all stay if anything is damaged.
        """
        if self.is_damaged:
            return 0
        durable = takewhile(lambda file: file.stop <= point, self._files[:-1])
        return sum(1 for _ in durable)

    def mark_without(self, n_files: int) -> Mark:
        """Return the mark as it is when the first files are removed."""
        first = self._files[n_files]
        return replace(self.mark, sequence=first.sequence, point=first.point)

    def remove(self, n_files: int) -> None:
        """Remove the first files."""
        with self._lock:
            self._first = self.mark_without(n_files)
            removed, self._files = self._files[:n_files], self._files[n_files:]
            for file in removed:
                stale = [i for i, place in self._places.items() if place.file is file]
                for first in stale:
                    del self._places[first]
                if file in self._unsynced:
                    self._unsynced.remove(file)
                os.close(file.descriptor)
                file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close all files; they stay on the disk."""
        with self._lock:
            # Ctrl-C may come in between: none may be closed twice.
            while self._files:
                os.close(self._files.pop().descriptor)
            self._places.clear()


def _write_all(descriptor: int, parts: list[bytes | memoryview], offset: int) -> None:
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    while left:
        written = os.pwritev(descriptor, left, offset)
        offset += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left:
            left[0] = left[0][written:]
