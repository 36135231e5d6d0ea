"""Remove segments that were replaced by a joined one, some time afterwards.

A reader may have an older master open, which names them: HDF5 would read fill values in
their place, without an error. So do old masters, and what they map of the small values
of a scan that is over now. So they stay for a grace period after the last master
that named them was replaced. After the end of a scan a record below the root tells
every writer about them. Which files they are follows from the names in the folder.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.schemas.file_names import (
    REPLACED_RECORDS_GLOB,
    parse_scan_folder,
    replaced_record_path,
    scan_master_name,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.running_files import is_old_master, parse_values_part
from scanbus.writer.model.segment_chain import replaced_names
from scanbus.writer.steps import step
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.durable_files import fsync_path, make_folder
from scanbus.writer.storage.paths_below import paths_below
from scanbus.writer.storage.segment_header import read_header

__all__ = ["ReplacedFilesSweep", "find_replaced", "note_replaced", "remove_replaced"]

log = get_logger()
# Longest interval between looks for replaced files of finished scans.
_LOOK_S = 10.0


def _find_outdated(folder: Path) -> list[Path]:
    """Return files of a finished scan that only readers of it while it ran may need."""
    number = parse_scan_folder(folder.name)
    master = "" if number is None else scan_master_name(number)
    return [
        path
        for path in folder.iterdir()
        if parse_values_part(path.name) is not None or is_old_master(path.name, master)
    ]


def find_replaced(folder: Path) -> tuple[str, ...]:
    """Return the names of the replaced segments in a scan's folder."""
    found = replaced_names(path.name for path in folder.iterdir())
    return tuple(name for names in found.values() for name in names)


def note_replaced(root: Path, uid: str, folder: Path) -> None:
    """Write the record of a finished scan, if it has replaced files.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    if not (find_replaced(folder) or _find_outdated(folder)):
        return
    record = root / replaced_record_path(uid)
    make_folder(record.parent)
    aside = record.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    aside.write_text(json.dumps({"folder": str(folder.relative_to(root))}))
    fsync_path(aside)
    aside.replace(record)
    fsync_path(record.parent)


def remove_replaced(folder: Path, uid: str) -> int:
    """Remove all replaced files of a finished scan; return how many there were.

    Raises
    ------
    NameTakenError
        If the joined segment, in which their points should be, cannot be read or
        belongs to another scan. Then none of its parts is removed.
    OSError
        If the file system refuses.
    """
    n_removed = 0
    found = replaced_names(path.name for path in folder.iterdir())
    for joined, names in found.items():
        header = read_header(folder / joined)
        if header.uid != uid:
            raise NameTakenError(str(folder / joined), f"scan {header.uid}")
        for name in names:
            with step("join_remove"):
                (folder / name).unlink(missing_ok=True)
            n_removed += 1
    for path in _find_outdated(folder):
        path.unlink(missing_ok=True)
        n_removed += 1
    return n_removed


class ReplacedFilesSweep:
    """Removes the replaced segments of finished scans below a root.

    A process waits for the grace period itself, by a monotonic clock, from when it
    first saw a record: the wall clock may jump. It works in a separate thread, as a
    system call on a dead mount does not return.

    Parameters
    ----------
    root : pathlib.Path
        The root of all files.
    grace_s : float
        How long replaced files stay, in seconds.
    """

    def __init__(self, root: Path, grace_s: float) -> None:
        self._root = root
        self._grace_s = grace_s
        self._seen: dict[Path, float] = {}
        self._failed: set[Path] = set()
        self._next_look = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look in a thread, if it is time to and the last look has returned."""
        now = time.monotonic()
        if now < self._next_look or (self._thread and self._thread.is_alive()):
            return
        self._next_look = now + min(_LOOK_S, self._grace_s)
        self._thread = threading.Thread(
            target=self.run, name="scanbus-replaced", daemon=True
        )
        # Without a thread left, the next call tries again.
        with suppress(RuntimeError):
            self._thread.start()

    def run(self) -> None:
        """Remove what has been replaced for long enough."""
        now = time.monotonic()
        try:
            records = set(paths_below(self._root, REPLACED_RECORDS_GLOB))
        except OSError:
            return  # The mount may come back.
        self._seen = {one: self._seen.get(one, now) for one in records}
        for record, since in self._seen.items():
            if now - since >= self._grace_s and record not in self._failed:
                self._remove(record)

    def _remove(self, record: Path) -> None:
        try:
            folder = self._root / str(json.loads(record.read_text())["folder"])
            n_removed = 0
            if inside(self._root, folder).is_dir():
                n_removed = remove_replaced(folder, record.stem)
            record.unlink(missing_ok=True)
            log.info(LogEvent.REPLACED_REMOVED, scan=record.stem, files=n_removed)
        except FileNotFoundError:
            return  # Another writer was faster.
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._keep(record, error)
        except (NameTakenError, RootUnusableError) as error:
            self._keep(record, error)

    def _keep(self, record: Path, error: Exception) -> None:
        self._failed.add(record)
        log.warning(LogEvent.REPLACED_KEPT, scan=record.stem, reason=str(error))
