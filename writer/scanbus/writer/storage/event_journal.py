"""What was said of a scan, kept beside its temporary segments while it is written.

Segments know their lane, not their scan's title, metadata or folder: those stand on
the bus alone until the scan file is written. JSON lines, only ever appended to, so a
kill costs at most the last line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import Event, ScanPrepared, parse_event
from scanbus.schemas.errors import DocumentError

__all__ = ["EVENTS_FILE", "EventJournal", "publisher_events", "read_journals"]

EVENTS_FILE = "events.jsonl"


def publisher_events(record: ScanRecord) -> tuple[Event, ...]:
    """Return what the publisher said of a scan so far, in order.

    A title that only the announcement has is put into ``prepared``: announcements
    stand in no file.
    """
    return tuple(_titled(event, record.title) for event in _in_order(record))


def _in_order(record: ScanRecord) -> list[Event]:
    said = (record.prepared, record.started, *record.updates, record.ended)
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
        Must not exist.
    """

    def __init__(self, path: Path) -> None:
        # Held open: a folder that was renamed away takes its file along.
        self._file = path.open("xb")
        # By identity: to compare what was said is slow, and NaN differs from itself.
        self._appended: dict[int, Event] = {}

    def append(self, record: ScanRecord) -> None:
        """Append what was said since the last time; the first time, to the disk."""
        is_first = not self._appended
        for event in _in_order(record):
            if id(event) not in self._appended:
                self._appended[id(event)] = event
                self._file.write(_titled(event, record.title).to_json() + b"\n")
        self._file.flush()
        if is_first:
            os.fsync(self._file.fileno())

    def touch(self) -> None:
        """Show that somebody works here, also while no points come."""
        os.utime(self._file.fileno())

    def close(self) -> None:
        """End keeping events; the file stays."""
        self._file.close()


def read_journals(paths: Iterable[Path]) -> ScanRecord | None:
    """Return a scan as the events files of its work folders tell it.

    Lines that cannot be read are passed over: the last one of a killed writer may be
    half a line.

    Returns
    -------
    ScanRecord or None
        None where no file says what the scan is.
    """
    events = [event for path in paths for event in _read(path)]
    prepared = next((one for one in events if isinstance(one, ScanPrepared)), None)
    if prepared is None:
        return None
    record = ScanRecord(prepared.scan)
    for event in events:
        if not isinstance(event, ScanPrepared) or event.scan == prepared.scan:
            record.fold(event)
    return record


def _read(path: Path) -> list[Event]:
    events: list[Event] = []
    for line in path.read_bytes().splitlines():
        try:
            events.append(parse_event(line))
        except DocumentError:
            continue
    return events
