"""The events of a spooled scan, completed from Redis where the spool lost some."""

from __future__ import annotations

from scanbus.bus.store import Bus, load_record
from scanbus.publisher.spool import LeftScan, Loss
from scanbus.schemas import (
    Event,
    LostData,
    ScanEnded,
    ScanPrepared,
    ScanStarted,
    ScanUpdated,
)
from scanbus.schemas.errors import SpoolError

__all__ = ["spooled_events"]

_ORDER = (ScanPrepared, ScanStarted, ScanUpdated, ScanEnded)


def spooled_events(client: Bus, scan: LeftScan) -> tuple[list[Event], list[LostData]]:
    """Return the events of a spooled scan, and what was lost of them.

    Raises
    ------
    SpoolError
        If neither the spool nor Redis knows the channels of the scan.
    """
    lost = [LostData(text=text) for text in scan.losses]
    losses = [each for each in scan.events if isinstance(each, Loss)]
    events = [each for each in scan.events if not isinstance(each, Loss)]
    if not losses:
        return events, lost
    events = _completed(client, scan, events)
    n_spooled = len(scan.events) - len(losses)
    n_lost = n_spooled + sum(each.stop - each.first for each in losses) - len(events)
    if n_lost > 0 or any(each.is_unknown for each in losses):
        where = "; ".join(each.where for each in losses)
        text = (
            f"{where}: {n_lost or 'some'} events of the scan, with metadata, are lost"
        )
        lost.append(LostData(text=text[:4096]))
    if not any(isinstance(each, ScanPrepared) for each in events):
        reason = (
            f"{losses[0].reason}; the scan's channels are not known to Redis either"
        )
        raise SpoolError(losses[0].path, reason)
    return _with_start(events), lost


def _completed(client: Bus, scan: LeftScan, events: list[Event]) -> list[Event]:
    """Add the events that Redis has; not an end, which may be an operator's."""
    record = load_record(client, scan.announced)
    first = (record.prepared, record.started)
    types = {type(each) for each in events}
    there: list[Event] = [
        each for each in first if each is not None and type(each) not in types
    ]
    known = {each.to_json() for each in events}
    there += [each for each in record.updates if each.to_json() not in known]
    return sorted(
        [*events, *there], key=lambda each: (_ORDER.index(type(each)), each.time)
    )


def _with_start(events: list[Event]) -> list[Event]:
    if any(isinstance(each, ScanStarted) for each in events):
        return events
    # Readers wait for it; the scan was started when it was prepared, at the earliest.
    return [events[0], ScanStarted(time=events[0].time), *events[1:]]
