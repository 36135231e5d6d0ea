"""Journal of a scan's events, kept beside its temporary segments.

Segments contain their lane, but not their scan's title, metadata or folder. Until the
scan file is written, these are only on the bus and in this journal. It has one JSON
line per event and is only appended to, so a kill loses at most the last line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import Event, ScanPrepared, ScanUpdated, parse_event
from scanbus.schemas.errors import DocumentError, NameTakenError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.storage.regular_file import read_regular

__all__ = ["EVENTS_FILE", "EventJournal", "read_journals", "scan_events"]

log = get_logger()
EVENTS_FILE = "events.jsonl"


def scan_events(record: ScanRecord) -> tuple[Event, ...]:
    """Return what was said of a scan so far, in order, but for verdicts.

    Announcements are stored in no file, so a title given only there is copied into
    ``prepared``.
    """
    return tuple(_titled(event, record.title) for event in _in_order(record))


def _in_order(record: ScanRecord, first_update: int = 0) -> list[Event]:
    updates = record.updates[first_update:]
    said = (
        record.prepared,
        record.renumbered,
        record.started,
        *updates,
        record.ended,
    )
    return [event for event in said if event is not None]


def _titled(event: Event, title: str) -> Event:
    if isinstance(event, ScanPrepared) and event.title != title:
        return event.model_copy(update={"title": title})
    return event


class EventJournal:
    """The events file of one work folder; one scan writer owns it.

    Parameters
    ----------
    path : pathlib.Path
        Path of the file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        # Kept open, so it stays valid when a successor renames the folder.
        self._file = path.open("xb")
        self._is_synced = False
        self._n_updates = 0
        # Types of the other events: a record has one of each.
        self._once: set[str] = set()

    def append(self, record: ScanRecord) -> None:
        """Append events that are new since the last call; fsync on the first call."""
        # Earlier updates are not looked at: there may be thousands of them.
        for event in _in_order(record, self._n_updates):
            if event.type not in self._once:
                self._file.write(_titled(event, record.title).to_json() + b"\n")
                self._note(event)
        self._file.flush()
        if not self._is_synced:
            os.fsync(self._file.fileno())
            self._is_synced = True

    def _note(self, event: Event) -> None:
        if isinstance(event, ScanUpdated):
            self._n_updates += 1
        else:
            self._once.add(event.type)

    def touch(self) -> None:
        """Update the file's mtime, which shows salvage that the scan has a writer."""
        os.utime(self._file.fileno())

    def close(self) -> None:
        """Close the file; it is not removed."""
        self._file.close()


def read_journals(paths: Iterable[Path]) -> ScanRecord | None:
    """Return a scan's record from the events files of its work folders.

    Lines that cannot be parsed are skipped, because the last line of a killed writer
    may be incomplete; so is, with a warning, what is no regular file. Files that are
    not there have no events: a writer may remove them at any time.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        The files, the oldest first: of several numbers the last counts.

    Returns
    -------
    ScanRecord or None
        None if no file contains the event ``prepared``, which identifies the scan.
    """
    events = [event for path in paths for event in _read(path)]
    said = (one for one in reversed(events) if isinstance(one, ScanPrepared))
    prepared = next(said, None)
    if prepared is None:
        return None
    record = ScanRecord(prepared.scan)
    for event in events:
        if not isinstance(event, ScanPrepared) or event.scan == prepared.scan:
            record.fold(event)
    return record


def _read(path: Path) -> list[Event]:
    events: list[Event] = []
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return events
    except NameTakenError as error:
        log.warning(LogEvent.NO_REGULAR_FILE, path=error.path, found=error.holder)
        return events
    for line in text.splitlines():
        try:
            events.append(parse_event(line))
        except DocumentError:
            continue
    return events
