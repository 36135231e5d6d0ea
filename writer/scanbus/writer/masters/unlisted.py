"""List scans in the masters above them, aside from their verdicts.

These masters link all scans of a dataset, collection or proposal. A scan that ends
leaves a record below the root and has its verdict; a thread of a worker writes the
masters of all scans with a record together, and removes the records. So a writer that
dies leaves them to the next one.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import NameTakenError, ScanbusError
from scanbus.schemas.file_names import dataset_path
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.running_files import UNLISTED_GLOB, unlisted_record_path
from scanbus.writer.masters.above import MastersAbove
from scanbus.writer.masters.list_scans import KnownScans
from scanbus.writer.storage.durable_files import fsync_path, make_folder
from scanbus.writer.storage.paths_below import paths_below
from scanbus.writer.storage.regular_file import check_regular, read_regular
from scanbus.writer.storage.temporary_files import has_ended

__all__ = ["UnlistedScans", "list_scan", "note_unlisted"]

log = get_logger()
# Interval of looks; longer after writes that took long, so that they take a small part
# of the time, but a scan is listed in ten seconds.
_LOOK_S: Final = 1.0
_LONGEST_LOOK_S: Final = 6.0
_SHARE: Final = 20
# After so long, records of others are taken: their writer is gone, or far behind. At
# worst two list the same scans, and lose none.
_OTHERS_S: Final = 3.0
_RETRY_S: Final = 5.0
_RECORD_BYTES: Final = 2**16
_HOST: Final = socket.gethostname()
_OWNER: Final = f"{_HOST}:{os.getpid()}:{secrets.token_hex(4)}"


def note_unlisted(root: Path, identity: ScanIdentity) -> None:
    """Leave a record of a scan that has a master, and is in none above it.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    record = root / unlisted_record_path(identity.uid)
    make_folder(record.parent)
    aside = record.with_suffix(f".{secrets.token_hex(8)}.tmp")
    said = {"owner": _OWNER, "scan": identity.model_dump(mode="json")}
    try:
        aside.write_text(json.dumps(said))
        fsync_path(aside)
        aside.replace(record)
    finally:
        aside.unlink(missing_ok=True)
    fsync_path(record.parent)


def list_scan(root: Path, identity: ScanIdentity) -> None:
    """List a scan now; if that fails, a warning says why, and a writer does it later.

    Raises
    ------
    OSError
        As `note_unlisted`.
    """
    note_unlisted(root, identity)
    UnlistedScans(root, grace_s=0.0).run()


class UnlistedScans:
    """Lists scans with a record in the masters above them.

    In a separate thread, as a system call on a dead mount does not return.

    Parameters
    ----------
    root : pathlib.Path
        The root of all files.
    grace_s : float
        How long replaced masters stay, in seconds.
    others_s : float
        Age from which records of other writers are taken, in seconds.
    retry_s : float
        How long to wait after a failure, in seconds.
    """

    def __init__(
        self,
        root: Path,
        grace_s: float,
        others_s: float = _OTHERS_S,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._others_s = others_s
        self._retry_s = retry_s
        self._root = root
        known = KnownScans(root, trusts_masters=True)
        self._masters = MastersAbove(root, known, grace_s)
        self._seen: dict[Path, float] = {}
        # Datasets whose masters cannot be written, with the next try and the reason.
        self._failed: dict[str, tuple[float, str]] = {}
        self._next_look = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def problems(self) -> list[str]:
        """One sentence for each dataset whose masters cannot be written."""
        return sorted({reason for _, reason in tuple(self._failed.values())})

    def start(self) -> None:
        """Look in a thread, if it is time to and the last look has returned."""
        if time.monotonic() < self._next_look:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(
            target=self.run, name="scanbus-list", daemon=True
        )
        # Without a thread left, the next call tries again.
        with suppress(RuntimeError):
            self._thread.start()

    def run(self) -> None:
        """List all scans that have a record."""
        with self._lock:
            started = time.monotonic()
            with suppress(OSError):  # The mount may come back.
                self._run(started)
                self._masters.remove_expired()
            now = time.monotonic()
            wait_s = min(_LONGEST_LOOK_S, max(_LOOK_S, _SHARE * (now - started)))
            others = (since + self._others_s for since in self._seen.values())
            self._next_look = min([now + wait_s, *(due for due in others if due > now)])

    def _run(self, now: float) -> None:
        records = set(paths_below(self._root, UNLISTED_GLOB))
        self._seen = {one: self._seen.get(one, now) for one in records}
        datasets: dict[str, list[tuple[ScanIdentity, Path]]] = {}
        for record, since in self._seen.items():
            scan = _read(record, is_old=now - since >= self._others_s)
            if scan is not None:
                datasets.setdefault(dataset_path(scan), []).append((scan, record))
        for folder, found in datasets.items():
            not_before, _ = self._failed.get(folder, (0.0, ""))
            if now >= not_before:
                self._list(folder, found)

    def _list(self, folder: str, found: list[tuple[ScanIdentity, Path]]) -> None:
        reason = ""
        try:
            self._masters.write(found[0][0])
            for scan, record in found:
                if self._masters.lists(scan, scan.scan_number):
                    record.unlink(missing_ok=True)
                    self._seen.pop(record, None)
                else:
                    reason = (
                        f"{folder}: the master of scan {scan.scan_number} cannot be "
                        "read, or is another one: restore it, or remove it"
                    )
        except (OSError, RuntimeError, ScanbusError) as error:
            reason = str(error)
        if not reason:
            self._failed.pop(folder, None)
            return
        if folder not in self._failed:
            log.warning(LogEvent.SCANS_NOT_LISTED, dataset=folder, reason=reason)
        reason = f"scans are not in the masters above them: {reason}"
        self._failed[folder] = time.monotonic() + self._retry_s, reason


def _read(record: Path, *, is_old: bool) -> ScanIdentity | None:
    """Return the scan of a record that is for this process, else None."""
    try:
        said = json.loads(_text_of(record))
        if not (is_old or said["owner"] == _OWNER or _is_dead(said["owner"])):
            return None
        return ScanIdentity.model_validate(said["scan"])
    except FileNotFoundError:
        return None  # Another writer was faster.
    except (OSError, ValueError, KeyError, TypeError, NameTakenError) as error:
        _warn_once(str(record), f"{type(error).__name__}: {error}")
        return None


def _text_of(record: Path) -> bytes:
    if check_regular(record).st_size > _RECORD_BYTES:
        raise ValueError("too large for a record")
    return read_regular(record)


def _is_dead(owner: object) -> bool:
    """Whether the process that left a record was one of this host, and is gone.

    Of two hosts with one name, or containers, a running one may be taken for dead. Then
    both list its scans.
    """
    host, _, rest = str(owner).rpartition(":")[0].rpartition(":")
    if host != _HOST or not rest.isdigit():
        return False
    # Another token: after a restart, a container has the same processes again.
    return int(rest) == os.getpid() or has_ended(int(rest))


@lru_cache
def _warn_once(record: str, reason: str) -> None:
    log.warning(LogEvent.SCANS_NOT_LISTED, dataset=record, reason=reason)
