"""Eviction: free memory by trimming durable data and removing finished scans.

Data are removed from Redis only below the writer's cursor, of a running scan only if a
master shows them, and the rest of a scan only when nothing is left to do for it. All of
this works on a full Redis: it always accepts XTRIM and DEL, and scripts whose first
write is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from scanbus.bus.protocol.entries import SEAL_ID, split_id
from scanbus.bus.protocol.keys import (
    ANNOUNCEMENTS,
    FORGOTTEN,
    RESERVED,
    attempts_key,
    cursors_key,
    events_key,
    fence_key,
    heartbeat_key,
    hold_key,
    lane_key,
    lease_key,
)
from scanbus.bus.protocol.scan_record import ScanRecord
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.cursors import read_cursor, shown_points
from scanbus.bus.store.expiry import is_unexpired
from scanbus.bus.store.holds import is_held
from scanbus.bus.store.leases import Lease
from scanbus.bus.store.quota import used_memory
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.scans import announcements, read_events
from scanbus.schemas import LaneDescription
from scanbus.schemas.file_names import late_lane_name

__all__ = [
    "KEPT_SCANS",
    "KEPT_WHEN_FULL",
    "NOTE_FORGOTTEN",
    "Evictor",
    "Freed",
    "remove_traces",
]

KEPT_SCANS: Final = 100
"""Number of newest scans that stay: ``scanbus ls`` can show a day's work."""
KEPT_WHEN_FULL: Final = 10
"""Number that stay while Redis refuses data: each may have megabytes of masks."""

# XTRIM would remove an entry that begins before the edge and ends after it as a whole:
# the edge is moved to the start of that entry.
_TRIM = """
local edge = ARGV[1]
local last = redis.call('XREVRANGE', KEYS[1], '(' .. edge .. '-0', '-', 'COUNT', 1)[1]
if last then
  local first, count = string.match(last[1], '^(%d+)-(%d+)$')
  if tonumber(first) + tonumber(count) > tonumber(edge) then edge = first end
end
return redis.call('XTRIM', KEYS[1], 'MINID', edge .. '-0')
"""
# XINFO would return the last entry too, and both may have many megabytes.
_FIRST = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return first and first[1]
"""
# Lua: note that an announcement was removed; ids only grow.
NOTE_FORGOTTEN: Final = """
local function order(id)
  local first, second = string.match(id or '', '^(%d+)-(%d+)$')
  return tonumber(first or 0), tonumber(second or 0)
end
local function note_forgotten(key, id)
  local old_first, old_second = order(redis.call('GET', key) or '')
  local first, second = order(id)
  if first > old_first or (first == old_first and second > old_second) then
    redis.call('SET', key, id)
  end
end
"""
# Atomic: no client sees half a scan, or starts to need it meanwhile. It checks
# KEYS[4..6] (heartbeat, hold, prefix of the leases) and the ARGV[3] lanes from KEYS[10]
# on, and deletes all keys from KEYS[7], the fence, on.
_REMOVE_SCAN = (
    NOTE_FORGOTTEN
    + """
local fence = redis.call('GET', KEYS[7]) or '0'
if redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6] .. fence) > 0 then return 0 end
for i = 10, 9 + tonumber(ARGV[3]) do
  local first = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  if first and first[1] ~= ARGV[2] then return 0 end
end
for i = 7, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('HDEL', KEYS[2], ARGV[1])
note_forgotten(KEYS[3], ARGV[#ARGV])
for i = 4, #ARGV do redis.call('XDEL', KEYS[1], ARGV[i]) end
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Freed:
    """Number of entries and scans that were removed.

    Attributes
    ----------
    entries : int
        Entries of durable points.
    scans : int
        Finished scans that were removed as a whole.
    needs_masters : bool
        Whether it did not suffice, and there are durable points that no master shows.
    """

    entries: int = 0
    scans: int = 0
    needs_masters: bool = False

    def __bool__(self) -> bool:
        """Whether anything was removed."""
        return bool(self.entries or self.scans)


@dataclass(slots=True)
class _Scan:
    """Cached state of a scan: lanes, end and verdict, without its metadata."""

    announcements: tuple[str, ...]
    record: ScanRecord
    is_empty: bool = False
    """Whether it is finished and no points of it are on the bus."""
    has_hidden: bool = False
    """Whether it has durable points on the bus that no master shows."""

    def refresh(self, client: Bus) -> None:
        """Read new events, unless there is a final verdict: it does not change."""
        record = self.record
        if record.final_verdict is not None or not read_events(client, record):
            return
        empty: dict[str, Any] = {"metadata": {}, "positioners": {}}
        record.updates.clear()
        if record.prepared is not None:
            record.prepared = record.prepared.model_copy(update=empty)
        if record.ended is not None:
            record.ended = record.ended.model_copy(update=empty)

    @property
    def lanes(self) -> tuple[LaneDescription, ...]:
        """The lanes that its events name."""
        return self.record.lanes

    @property
    def is_finished(self) -> bool:
        """Whether its verdict is final and all its lanes are known."""
        knows_lanes = self.record.prepared is not None or not self.record.problems
        return self.record.final_verdict is not None and knows_lanes


class Evictor:
    """Frees memory, oldest scan first, while Redis uses more than a limit.

    It caches the state of the scans on the bus, so that another run needs a few
    commands for each open scan and none for most finished ones. Safe to share between
    threads.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Scan] = {}
        self._lock = Lock()

    def free(
        self, client: Bus, limit_bytes: int, *, kept_scans: int = KEPT_SCANS
    ) -> Freed:
        """Trim acknowledged data and remove finished scans until Redis has room.

        A scan is removed as a whole when its verdict is final, its data are trimmed,
        and it is not in use: no publisher waits for the verdict, no writer has its
        lease, no replay holds it.

        Parameters
        ----------
        limit_bytes : int
            Stop when Redis's ``used_memory`` is at most this.
        kept_scans : int
            Number of newest scans that are only trimmed, not removed.

        Returns
        -------
        Freed
            What was removed; false if nothing was.
        """
        with self._lock:
            return self._free(client, limit_bytes, kept_scans)

    @parses_reply
    def _free(self, client: Bus, limit_bytes: int, kept_scans: int) -> Freed:
        entries = scans = 0
        if used_memory(client) <= limit_bytes:
            return Freed()
        self._refresh(client)
        n_old = len(self._known) - kept_scans
        hidden = False
        for place, scan in enumerate(self._known.values()):
            scan.refresh(client)
            n_trimmed = _trim(client, scan, limit_bytes)
            entries += n_trimmed
            hidden = hidden or scan.has_hidden
            if n_trimmed and used_memory(client) <= limit_bytes:
                hidden = False
                break
            if place < n_old and _remove_scan(client, scan):
                scans += 1
                if used_memory(client) <= limit_bytes:
                    hidden = False
                    break
        return Freed(entries, scans, needs_masters=hidden)

    def _refresh(self, client: Bus) -> None:
        """Read which scans are on the bus, in the order of their last announcements.

        What cannot be parsed is skipped: it may be of a later protocol.
        """
        found: dict[str, _Scan] = {}
        for line in announcements(client):
            if line.document is None:
                continue
            identity = line.document.scan
            before = found.pop(identity.uid, None)
            ids = (*(before.announcements if before else ()), line.id)
            found[identity.uid] = _Scan(ids, ScanRecord(identity))
        for uid, scan in found.items():
            known = self._known.get(uid)
            # A scan that was announced again is read anew: Redis may have lost data.
            if known is not None and known.announcements == scan.announcements:
                found[uid] = known
        self._known = found


def _trim(client: Bus, scan: _Scan, limit_bytes: int) -> int:
    """Trim durable points of a scan; return the number of entries removed."""
    if scan.is_empty or is_held(client, scan.record.uid):
        return 0
    return sum(_trim_segments(client, scan, limit_bytes))


def _trim_segments(client: Bus, scan: _Scan, limit_bytes: int) -> Iterator[int]:
    """Trim a scan segment by segment; yield the number of entries of each."""
    uid = scan.record.uid
    is_empty = scan.is_finished
    scan.has_hidden = False
    for lane in scan.lanes:
        durable = read_cursor(client, uid, lane.name)
        key = lane_key(uid, lane.name)
        point = _first_point(client, key)
        if scan.record.final_verdict is None and point is not None and point < durable:
            (shown,) = shown_points(client, [(uid, lane.name)])
            scan.has_hidden |= shown < durable
            durable = min(durable, shown)
        while point is not None and point < durable:
            if used_memory(client) <= limit_bytes:
                return
            step = (point // lane.points_per_segment + 1) * lane.points_per_segment
            edge = min(step, durable)
            n_trimmed = int(client.eval(_TRIM, 1, key, edge))
            yield n_trimmed
            # Reading the first entry copies its payload within Redis: only if needed.
            point = edge if n_trimmed else _first_point(client, key)
            if point is not None and point < edge:
                break  # The first entry has points that are not durable.
        is_empty = is_empty and _first_point(client, key) is None
    scan.is_empty = is_empty


def _first_point(client: Bus, key: str) -> int | None:
    first: Any = client.eval(_FIRST, 1, key)
    return None if first in {None, SEAL_ID} else split_id(first)[0]


def _remove_scan(client: Bus, scan: _Scan) -> bool:
    """Remove the remaining keys of a finished scan; return False if it is in use."""
    uid = scan.record.uid
    if not scan.is_empty or is_unexpired(client, heartbeat_key(uid)):
        return False
    names = _lane_names(scan.record)
    keys = [
        *(ANNOUNCEMENTS, RESERVED, FORGOTTEN),
        *(heartbeat_key(uid), hold_key(uid), lease_key(uid, "")),
        *(fence_key(uid), attempts_key(uid), events_key(uid)),
        *(lane_key(uid, name) for name in names),
        *(cursors_key(uid, name) for name in names),
    ]
    values: tuple[Any, ...] = (uid, SEAL_ID, len(names), *scan.announcements)
    # If it was not removed, the lanes are checked again next time: a restart of Redis
    # may have brought back points that were trimmed.
    scan.is_empty = bool(client.eval(_REMOVE_SCAN, len(keys), *keys, *values))
    return scan.is_empty


def remove_traces(client: Bus, lease: Lease, record: ScanRecord) -> None:
    """Remove the keys that a paused writer created for a scan removed meanwhile.

    It may have acknowledged once more when it continued. Lanes and events are not
    removed: if there are any, the scan's publisher is back.
    """
    uid = lease.uid
    names = _lane_names(record)
    client.delete(
        *(cursors_key(uid, name) for name in names),
        *(attempts_key(uid), fence_key(uid), lease_key(uid, lease.fence)),
    )


def _lane_names(record: ScanRecord) -> list[str]:
    """Return the names of all lanes that may exist, including one for late points each.

    The publisher may have died before ``ended`` named the lanes for late points.
    """
    lanes = record.prepared.lanes if record.prepared else ()
    late = [late_lane_name(each.name) for lane in lanes for each in lane.channels]
    return [*(lane.name for lane in lanes), *record.static, *late]
