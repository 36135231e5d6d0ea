"""The folder of one scan in the spool, and its lock.

The process that publishes the scan holds a lock (``flock``) on a file in the folder;
the system releases it when that process dies. So two processes never publish one scan.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from types import MappingProxyType
from typing import Any, Self

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.spool.lane_files import LaneFiles
from scanbus.publisher.spool.losses import Loss
from scanbus.publisher.spool.marks import Mark, Marks, packed_json, unpacked_json
from scanbus.publisher.spool.record_files import RecordFiles
from scanbus.publisher.spool.records import Head
from scanbus.publisher.spool.regular_files import (
    check_folder,
    open_regular,
    read_regular,
)
from scanbus.schemas import (
    Event,
    ScanAnnounced,
    ScanPrepared,
    parse_announcement,
    parse_event,
)
from scanbus.schemas.errors import DocumentError, SpoolError

__all__ = ["NEW_PREFIX", "LeftScan", "ScanSpool", "check_spool", "find_scans"]

FORMAT = 3
"""Version of the files; those of another one are left alone."""
_SCAN, _EVENTS, _LOCK, _LANES = "scan.json", "events", "lock", "lanes"
# Prefixes of folders that are being made or removed, and of those that lost records; no
# uid begins with a dot.
NEW_PREFIX, _REMOVED, _DAMAGED = ".new-", ".removed-", ".damaged-"
_NEW_S = 60.0
# No name of a lane.
_EVENT_MARK = "/"
_NO_BEGINS: Mapping[str, int] = MappingProxyType({})
_Identity = tuple[ScanAnnounced, str, bytes, str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class LeftScan:
    """What a dead publisher left of a scan: in its spool, or on the bus.

    Attributes
    ----------
    announced : ScanAnnounced
        Announcement of the scan, with its identity.
    announcement : str
        Id of the announcement on the bus.
    session : bytes
        Names its publisher in the headers of its entries.
    events : list
        Its events, in order; a loss where some cannot be read.
    entries : dict
        Entries by name of their lane, those of a spool without payloads; a loss where
        some cannot be read.
    losses : list of str
        What else is damaged.
    begins : dict
        Lane to the point before which an earlier scan has all: it was closed, and this
        one continues it.
    """

    announced: ScanAnnounced
    announcement: str
    session: bytes
    events: list[Event | Loss] = field(default_factory=list)
    entries: dict[str, list[EncodedEntry | Loss]] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    begins: dict[str, int] = field(default_factory=dict)


class ScanSpool:
    """The folder of one scan, locked by this process.

    One thread writes; any thread may load payloads.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self._session = b""
        self._lanes: dict[str, LaneFiles] = {}
        self._events: RecordFiles | None = None
        self._marks = Marks(folder)
        self._n_events = 0

    @classmethod
    def make(cls, root: Path, uid: str) -> Self:
        """Make and lock the folder of a new scan.

        Raises
        ------
        SpoolError
            If it exists already, or cannot be made or locked.
        """
        folder = root / uid
        if folder.exists():
            raise SpoolError(
                str(folder), "a scan of that uid was not finished: resume it"
            )
        # Renamed when it is locked: others do not look at names with a dot.
        new = root / f"{NEW_PREFIX}{uid}"
        try:
            new.mkdir(mode=0o700, parents=True)
            lock = _locked(new, os.O_CREAT)
            new.rename(folder)
        except OSError as error:
            raise SpoolError(str(folder), error.strerror or str(error)) from error
        if lock is None:
            raise SpoolError(str(folder), "another process uses it")
        return cls(folder, lock)

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """Lock a dead publisher's folder; return None if another process has it.

        Raises
        ------
        SpoolError
            If it is no folder of a scan, or cannot be locked.
        """
        check_folder(folder)
        try:
            lock = _locked(folder)
        except OSError as error:
            path = str(folder / _LOCK)
            raise SpoolError(path, error.strerror or str(error)) from error
        return None if lock is None else cls(folder, lock)

    # --------------------------------------------------------------------- write

    def write_identity(
        self,
        announced: ScanAnnounced,
        announcement: str,
        session: bytes,
        *,
        parent: str = "",
        begins: Mapping[str, int] = _NO_BEGINS,
    ) -> None:
        """Write the identity of the scan, and sync it to the disk.

        Parameters
        ----------
        parent : str
            Uid of the scan that was closed, and that this one continues.
        begins : mapping
            Lane to the point before which that scan has all, or one before it.

        Raises
        ------
        SpoolError
            If it cannot be written.
        """
        self._session = session
        data = packed_json(
            {
                "format": FORMAT,
                "announced": announced.to_json().decode(),
                "announcement": announcement,
                "session": session.hex(),
                "parent": parent,
                "begins": dict(begins),
            }
        )
        new = self.folder / f"{_SCAN}.new"
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self.folder / _SCAN)
        except OSError as error:
            raise SpoolError(str(self.folder), str(error.strerror)) from error

    def append_event(self, event: Event) -> None:
        """Write an event, and sync it to the disk.

        Raises
        ------
        OSError
            If it cannot be written; the file is then as it was before.
        """
        files = self._event_files()
        files.append(self._n_events, self._n_events + 1, event.to_json())
        self._n_events += 1
        files.sync()
        self._marks.write(_EVENT_MARK, files.mark)

    def append_events(self, events: Iterable[Event]) -> None:
        """Write the first events of a scan, and sync them to the disk.

        Raises
        ------
        SpoolError
            If they cannot be written.
        """
        try:
            for event in events:
                self.append_event(event)
        except OSError as error:
            raise SpoolError(str(self.folder), str(error.strerror)) from error

    def _event_files(self) -> RecordFiles:
        if self._events is None:
            self._events = RecordFiles(self.folder / _EVENTS, self._session)
        return self._events

    def lane(self, name: str) -> LaneFiles:
        """Return the files of a lane."""
        files = self._lanes.get(name)
        if files is None:
            folder = self.folder / _LANES / name
            files = self._lanes[name] = LaneFiles(folder, self._session)
        return files

    def append(self, lane: str, entry: EncodedEntry) -> None:
        """Write an entry; it survives this process, but before `sync` no machine crash.

        Raises
        ------
        OSError
            If it cannot be written; the file is then as it was before.
        """
        files = self.lane(lane)
        files.append(entry)
        # Not written: the next mark says it, too. The entry must not be written again.
        self._marks.write(lane, files.records.mark)

    def sync(self) -> None:
        """Sync the files of all lanes to the disk; see ``RecordFiles.sync``."""
        for files in list(self._lanes.values()):
            files.records.sync()

    def remove_durable(self, lane: str, point: int) -> None:
        """Remove files of a lane whose entries all end at or before `point`."""
        records = self.lane(lane).records
        count = records.durable_files(point)
        # Marked first: a file that is missing otherwise counts as lost.
        if count and self._marks.write(lane, records.mark_without(count), sync=True):
            records.remove(count)

    # ------------------------------------------------------------------- recover

    def recover(self) -> LeftScan | None:
        """Return the content of the folder; None if the scan was never announced.

        Raises
        ------
        SpoolError
            If its identity or a file cannot be read, or is of another version.
        """
        stored = self._identity()
        if stored is None:
            return None
        marks = self._marks.read()
        update: dict[str, Any] = {"scan": stored[0].scan, "parent": stored[3]}
        if stored[3]:  # It goes on as another scan, because its own one was closed.
            update["original_uid"] = ""
        events = [
            each.model_copy(update=update) if isinstance(each, ScanPrepared) else each
            for each in self._recovered_events(marks)
        ]
        scan = LeftScan(*stored[:3], events, begins=stored[4])
        if self._marks.is_damaged:
            scan.losses.append(
                f"{self.folder / 'marks.a'}: damaged; whether anything was cut off is "
                "not known"
            )
        for name in self._lane_names(marks):
            scan.entries[name] = self.lane(name).recover(marks.get(name))
        return scan

    def _identity(self) -> _Identity | None:
        path = self.folder / _SCAN
        try:
            stored: Any = unpacked_json(read_regular(path))
            if stored["format"] != FORMAT:
                reason = f"format {stored['format']} is not the one that is known"
                raise SpoolError(str(path), f"{reason}, {FORMAT}")
            self._session = bytes.fromhex(stored["session"])
            announced = parse_announcement(stored["announced"].encode())
            begins = {
                str(lane): int(begin)
                for lane, begin in dict(stored.get("begins", {})).items()
            }
        except FileNotFoundError:
            if self._has_records():
                raise SpoolError(str(path), "it is missing") from None
            return None
        except OSError as error:
            raise SpoolError(str(path), str(error.strerror)) from error
        except (ValueError, KeyError, TypeError, DocumentError) as error:
            raise SpoolError(str(path), str(error)) from error
        parent = str(stored.get("parent", ""))
        return announced, stored["announcement"], self._session, parent, begins

    def _has_records(self) -> bool:
        known = {_LOCK, f"{_SCAN}.new"}
        return any(path.name not in known for path in self.folder.iterdir())

    def _recovered_events(self, marks: dict[str, Mark]) -> list[Event | Loss]:
        files = self._event_files()
        try:
            events = list(files.recover(marks.get(_EVENT_MARK), _decoded_event))
        except DocumentError as error:
            raise SpoolError(str(self.folder / _EVENTS), str(error)) from error
        self._n_events = files.stop
        return events

    def _lane_names(self, marks: dict[str, Mark]) -> list[str]:
        folder = self.folder / _LANES
        found = {path.name for path in folder.iterdir()} if check_folder(folder) else ()
        return sorted({*found, *marks} - {_EVENT_MARK})

    # ----------------------------------------------------------------------- end

    def finish(self) -> Path | None:
        """Remove the folder of a judged scan; if it is damaged, set it aside.

        Returns
        -------
        pathlib.Path or None
            Where it was set aside. Nobody resumes it; an operator may look into it.
        """
        if not self._is_damaged():
            self.remove()
            return None
        with suppress(OSError):
            name = f"{_DAMAGED}{self.folder.name}"
            self.folder = self.folder.rename(self.folder.with_name(name))
        self.close()
        return self.folder

    def _is_damaged(self) -> bool:
        records = [files.records for files in self._lanes.values()]
        records += [] if self._events is None else [self._events]
        return self._marks.is_damaged or any(each.is_damaged for each in records)

    def remove(self) -> None:
        """Remove the folder: everything in it is durable, or moved elsewhere."""
        # Renamed first, which is atomic: a process that finds half of the folder would
        # send half a scan again.
        removed = self.folder.with_name(_REMOVED + self.folder.name)
        try:
            self.folder.rename(removed)
        except OSError:
            removed = self.folder
        self.close()
        shutil.rmtree(removed, ignore_errors=True)

    def leave(self) -> None:
        """Leave the lock to the parent of this process, with which it would live on."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def close(self) -> None:
        """Close the files and release the lock; the folder stays."""
        for files in self._lanes.values():
            files.records.close()
        if self._events is not None:
            self._events.close()
        self._marks.close()
        self.leave()


def find_scans(
    root: Path, is_wanted: Callable[[str], bool] = lambda _uid: True
) -> Iterator[ScanSpool | SpoolError]:
    """Yield the folders of dead publishers, each locked by this process.

    Other files and folders are left alone. For a scan's folder that cannot be locked
    there is an error; one that another process has locked is passed over.

    Parameters
    ----------
    is_wanted : callable
        Returns whether a scan is wanted, by its uid; others are not locked.
    """
    for folder in _folders(root):
        if folder.name.startswith((_REMOVED, NEW_PREFIX)):
            _remove_rest(folder)
        elif folder.name.startswith(".") or not is_wanted(folder.name):
            continue
        elif _is_of_scan(folder):
            try:
                spool = ScanSpool.take(folder)
            except SpoolError as error:
                yield error
                continue
            if spool is not None:
                yield spool


def check_spool(root: Path) -> None:
    """Check that a folder is a spool, or an empty one.

    Raises
    ------
    SpoolError
        If there is none, or it holds anything but scans.
    """
    if not root.is_dir():
        raise SpoolError(str(root), "there is no such folder")
    found = list(_folders(root))
    if found and not any(_is_of_scan(each) for each in found):
        raise SpoolError(str(root), "it is no publisher's spool: no scan is in it")


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir()) if root.exists() else []
    except OSError as error:
        raise SpoolError(str(root), str(error.strerror)) from error


def _is_of_scan(folder: Path) -> bool:
    return any((folder / name).exists() for name in (_LOCK, _SCAN))


def _remove_rest(folder: Path) -> None:
    """Remove what a process left that died while it made or removed a folder."""
    age_s = time() - folder.lstat().st_mtime if folder.exists() else 0.0
    if folder.name.startswith(_REMOVED) or age_s > _NEW_S:
        shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path, flags: int = 0) -> int | None:
    """Return the descriptor of a folder's lock; None if another process has it."""
    path = folder / _LOCK
    descriptor = open_regular(path, os.O_RDWR | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had it may have removed the folder meanwhile.
        is_there = path.stat().st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        is_there = False
    if is_there:
        return descriptor
    os.close(descriptor)
    return None


def _decoded_event(head: Head, body: bytes) -> tuple[int, Event]:
    return head.stop - 1, parse_event(body)
