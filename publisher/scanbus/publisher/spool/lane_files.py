"""The spooled entries of one lane: append-only files, removed when durable."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.spool.records import (
    Place,
    read_records,
    record_parts,
    unpack_payload,
)
from scanbus.schemas.errors import SpoolError

__all__ = ["LaneFiles"]

SEGMENT_BYTES = 64 * 2**20
_SUFFIX = ".spool"


@dataclass(slots=True)
class _File:
    """One file, open as long as it exists.

    Attributes
    ----------
    end : int
        Bytes of its records.
    stop : int
        The point after the last one of its entries.
    """

    path: Path
    descriptor: int
    end: int = 0
    stop: int = 0


class LaneFiles:
    """Writes entries, reads payloads back, removes files whose entries are durable.

    One thread appends and removes; any thread may load.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of this lane alone; made with the first entry.
    segment_bytes : int
        Size from which on a new file is begun.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._files: list[_File] = []
        self._places: dict[bytes, tuple[_File, Place]] = {}
        self._unsynced: list[_File] = []
        self._n_files = 0

    def recover(self) -> list[EncodedEntry]:
        """Return the entries in the files, without their payloads.

        The last file is cut at its first bad record, which a crash leaves at the end.

        Raises
        ------
        SpoolError
            If a file before the last one is damaged.
        """
        entries: list[EncodedEntry] = []
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        for path in paths:
            file = _File(path, os.open(path, os.O_RDWR))
            self._files.append(file)
            self._n_files = int(path.stem) + 1
            with path.open("rb") as stream:
                for entry, place in read_records(stream):
                    self._places[entry.id] = file, place
                    file.end, file.stop = place.offset + place.nbytes, entry.stop
                    entries.append(entry)
            if path.stat().st_size > file.end:
                if path != paths[-1]:
                    raise SpoolError(str(path), "damaged before its end")
                os.ftruncate(file.descriptor, file.end)
        return entries

    def append(self, entry: EncodedEntry) -> None:
        """Write an entry; it survives this process, but before `sync` no machine crash.

        Raises
        ------
        OSError
            If it cannot be written; the file is then as it was before.
        """
        file = self._current()
        parts, place = record_parts(entry, file.end)
        try:
            _write_all(file.descriptor, parts, file.end)
        except OSError:
            os.ftruncate(file.descriptor, file.end)
            raise
        with self._lock:
            file.end, file.stop = place.offset + place.nbytes, entry.stop
            self._places[entry.id] = file, place
            if file not in self._unsynced:
                self._unsynced.append(file)

    def _current(self) -> _File:
        if self._files and self._files[-1].end < self._segment_bytes:
            return self._files[-1]
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._n_files:08}{_SUFFIX}"
        file = _File(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._n_files += 1
        with self._lock:
            self._files.append(file)
        _sync_folder(self._folder)
        return file

    def load(self, entry: EncodedEntry) -> EncodedEntry:
        """Return an entry with its payload.

        Raises
        ------
        SpoolError
            If the entry was removed or is damaged.
        """
        if not entry.spooled_bytes:
            return entry
        with self._lock:
            found = self._places.get(entry.id)
            if found is None:
                raise SpoolError(str(self._folder), f"entry {entry.id!r} is missing")
            file, place = found
            body = os.pread(file.descriptor, place.nbytes, place.offset)
        payload = unpack_payload(body, place)
        if payload is None:
            raise SpoolError(str(file.path), f"entry {entry.id!r} is damaged")
        return EncodedEntry(entry.id, entry.stop, entry.header, payload)

    def sync(self) -> None:
        """Sync the entries written so far to the disk (fdatasync).

        Raises
        ------
        OSError
            If the disk lost them: a file is never synced again after that.
        """
        with self._lock:
            files, self._unsynced = self._unsynced, []
        for file in files:
            os.fdatasync(file.descriptor)

    def remove_durable(self, point: int) -> None:
        """Remove files whose entries all end at or before `point`, except the last."""
        with self._lock:
            while len(self._files) > 1 and self._files[0].stop <= point:
                file = self._files.pop(0)
                stale = [i for i, (holder, _) in self._places.items() if holder is file]
                for identifier in stale:
                    del self._places[identifier]
                if file in self._unsynced:
                    self._unsynced.remove(file)
                os.close(file.descriptor)
                file.path.unlink()

    def close(self) -> None:
        """Close all files; they stay on the disk."""
        with self._lock:
            for file in self._files:
                os.close(file.descriptor)
            self._files.clear()
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
