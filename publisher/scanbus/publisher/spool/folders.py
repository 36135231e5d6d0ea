"""The folder of one scan in the spool, and its lock.

The process that publishes the scan holds a lock (``flock``) on a file in the folder;
the system releases it when that process dies. So two processes never publish one scan.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.spool.lane_files import LaneFiles
from scanbus.schemas import (
    Event,
    ScanAnnounced,
    ScanIdentity,
    ScanPrepared,
    parse_announcement,
    parse_event,
)
from scanbus.schemas.errors import DocumentError, SpoolError

__all__ = ["ScanSpool", "SpooledScan", "find_scans"]

_SCAN, _EVENTS, _LOCK, _LANES = "scan.json", "events.jsonl", "lock", "lanes"
# Prefix of folders that are being removed; no uid begins with it.
_REMOVED = ".removed-"


@dataclass(frozen=True, slots=True)
class SpooledScan:
    """The content of a scan's folder in the spool.

    Attributes
    ----------
    announced : ScanAnnounced
        Announcement of the scan, with its identity.
    announcement : str
        Id of the announcement on the bus.
    session : bytes
        Names its publisher in the headers of its entries.
    events : list
        Its events, in order.
    entries : dict
        Entries by name of their lane, without payloads.
    """

    announced: ScanAnnounced
    announcement: str
    session: bytes
    events: list[Event] = field(default_factory=list)
    entries: dict[str, list[EncodedEntry]] = field(default_factory=dict)


class ScanSpool:
    """The folder of one scan, locked by this process.

    One thread writes; any thread may load payloads.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self._lanes: dict[str, LaneFiles] = {}
        self._events: int | None = None

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
        try:
            folder.mkdir(mode=0o700, parents=True)
            lock = _locked(folder)
        except OSError as error:
            raise SpoolError(str(folder), error.strerror or str(error)) from error
        if lock is None:
            raise SpoolError(str(folder), "another process uses it")
        return cls(folder, lock)

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """Lock a dead publisher's folder; return None if another process has it."""
        lock = _locked(folder)
        return None if lock is None else cls(folder, lock)

    def write_identity(
        self, announced: ScanAnnounced, announcement: str, session: bytes
    ) -> None:
        """Write the identity of the scan, and sync it to the disk.

        Raises
        ------
        SpoolError
            If it cannot be written.
        """
        text = json.dumps(
            {
                "announced": announced.to_json().decode(),
                "announcement": announcement,
                "session": session.hex(),
            }
        )
        new = self.folder / f"{_SCAN}.new"
        try:
            with new.open("w") as file:
                file.write(text)
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
        if self._events is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._events = os.open(self.folder / _EVENTS, flags, 0o600)
        end = os.fstat(self._events).st_size
        left = memoryview(event.to_json() + b"\n")
        try:
            while left:
                left = left[os.write(self._events, left) :]
            os.fdatasync(self._events)
        except OSError:
            os.ftruncate(self._events, end)
            raise

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

    def lane(self, name: str) -> LaneFiles:
        """Return the files of a lane."""
        files = self._lanes.get(name)
        if files is None:
            files = self._lanes[name] = LaneFiles(self.folder / _LANES / name)
        return files

    def sync(self) -> None:
        """Sync the files of all lanes to the disk; see ``LaneFiles.sync``."""
        for files in list(self._lanes.values()):
            files.sync()

    def recover(self) -> SpooledScan | None:
        """Return the content of the folder; None if the scan was never announced.

        Raises
        ------
        SpoolError
            If it cannot be read.
        """
        try:
            stored = json.loads((self.folder / _SCAN).read_bytes())
            scan = SpooledScan(
                parse_announcement(stored["announced"].encode()),
                stored["announcement"],
                bytes.fromhex(stored["session"]),
                self._recover_events(),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, DocumentError) as error:
            raise SpoolError(str(self.folder / _SCAN), str(error)) from error
        lanes = self.folder / _LANES
        for folder in sorted(lanes.iterdir()) if lanes.is_dir() else ():
            scan.entries[folder.name] = self.lane(folder.name).recover()
        return scan

    def _recover_events(self) -> list[Event]:
        path = self.folder / _EVENTS
        if not path.exists():
            return []
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(path, len(whole) + 1 if whole else 0)
        return [parse_event(line) for line in whole.splitlines()]

    def move_to(self, identity: ScanIdentity, scan: SpooledScan) -> None:
        """Move a recovered scan to the folder of another scan; remove this folder.

        Raises
        ------
        SpoolError
            If the other folder exists, or cannot be written.
        """
        new = ScanSpool.make(self.folder.parent, identity.uid)
        try:
            new.append_events(
                event.model_copy(update={"scan": identity})
                if isinstance(event, ScanPrepared)
                else event
                for event in scan.events
            )
            announced = scan.announced.model_copy(update={"scan": identity})
            # Before the entries move: a folder without it counts as never announced.
            new.write_identity(announced, "", scan.session)
            if (self.folder / _LANES).is_dir():
                (self.folder / _LANES).rename(new.folder / _LANES)
        except OSError as error:
            raise SpoolError(str(new.folder), str(error.strerror)) from error
        finally:
            new.close()
        self.remove()

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

    def close(self) -> None:
        """Close the files and release the lock; the folder stays."""
        for files in self._lanes.values():
            files.close()
        for descriptor in (self._events, self._lock):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._events, self._lock = None, -1


def find_scans(root: Path) -> Iterator[ScanSpool]:
    """Yield the folders of dead publishers, each locked by this process."""
    if not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        if folder.name.startswith(_REMOVED):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir():
            spool = ScanSpool.take(folder)
            if spool is not None:
                yield spool


def _locked(folder: Path) -> int | None:
    """Return the descriptor of a folder's lock; None if another process has it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
