"""Memory freed: data trimmed that are durable, scans forgotten that are finished.

Data leave Redis only below the writer's cursor, and the rest of a scan only when
nothing is left to do for it. All of this works on a full Redis: XTRIM and DEL always
pass, and so does a script whose first write is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from scanbus.bus.protocol.entries import SEAL_ID
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
from scanbus.bus.store.cursors import read_cursor
from scanbus.bus.store.expiry import stands
from scanbus.bus.store.holds import is_held
from scanbus.bus.store.leases import Lease
from scanbus.bus.store.quota import used_memory
from scanbus.bus.store.scans import announcements, read_events
from scanbus.schemas import LaneDescription, ScanPrepared
from scanbus.schemas.naming import late_lane_name

__all__ = ["KEPT_SCANS", "KEPT_WHEN_FULL", "Evictor", "Freed", "remove_traces"]

KEPT_SCANS: Final = 100
"""So many newest scans stay, finished or not: ``scanbus ls`` shows a day's work."""
KEPT_WHEN_FULL: Final = 10
"""So many stay where Redis refuses data: each may have megabytes of masks."""

# An entry that begins before the edge and ends behind it would go whole: it stays.
_TRIM = """
local edge = ARGV[1]
local last = redis.call('XREVRANGE', KEYS[1], '(' .. edge .. '-0', '-', 'COUNT', 1)[1]
if last then
  local first, count = string.match(last[1], '^(%d+)-(%d+)$')
  if tonumber(first) + tonumber(count) > tonumber(edge) then edge = first end
end
return redis.call('XTRIM', KEYS[1], 'MINID', edge .. '-0')
"""
# XINFO would bring the last entry too, and both may be of many megabytes.
_FIRST = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return first and first[1]
"""
# At once: nobody sees half a scan, and nobody begins to need it meanwhile. Looked at
# are KEYS[4..6], heartbeat, hold and the stem of the leases, and the lanes, ARGV[3] of
# them from KEYS[10] on; KEYS[7], the fence, and all behind it go.
_FORGET = """
local fence = redis.call('GET', KEYS[7]) or '0'
if redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6] .. fence) > 0 then return 0 end
for i = 10, 9 + tonumber(ARGV[3]) do
  local first = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  if first and first[1] ~= ARGV[2] then return 0 end
end
for i = 7, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('HDEL', KEYS[2], ARGV[1])
local function order(id)
  local first, second = string.match(id or '', '^(%d+)-(%d+)$')
  return tonumber(first or 0), tonumber(second or 0)
end
local old_first, old_second = order(redis.call('GET', KEYS[3]) or '')
local first, second = order(ARGV[#ARGV])
if first > old_first or (first == old_first and second > old_second) then
  redis.call('SET', KEYS[3], ARGV[#ARGV])
end
for i = 4, #ARGV do redis.call('XDEL', KEYS[1], ARGV[i]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Freed:
    """What was removed.

    Attributes
    ----------
    entries : int
        Entries with points, which files have.
    scans : int
        Finished scans of which nothing is left on the bus.
    """

    entries: int = 0
    scans: int = 0

    def __bool__(self) -> bool:
        """Whether anything was."""
        return bool(self.entries or self.scans)


@dataclass(slots=True)
class _Scan:
    """What is known of a scan: lanes, end and verdict, without its metadata."""

    announcements: tuple[str, ...]
    record: ScanRecord
    is_bare: bool = False
    """Whether it is finished and no points are left of it."""

    def look(self, client: Bus) -> None:
        """Read what it said since; nothing changes a final verdict."""
        record = self.record
        if record.final_verdict is not None or not read_events(client, record):
            return
        none: dict[str, Any] = {"metadata": {}, "positioners": {}}
        record.updates.clear()
        if record.prepared is not None:
            record.prepared = record.prepared.model_copy(update=none)
        if record.ended is not None:
            record.ended = record.ended.model_copy(update=none)

    @property
    def lanes(self) -> tuple[LaneDescription, ...]:
        """The lanes that its documents name."""
        prepared = self.record.prepared
        if prepared is None:
            return ()
        return (*prepared.lanes, *prepared.late_lanes(self.record.ended))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do for it, and all its lanes are known."""
        knows_lanes = self.record.prepared is not None or not self.record.problems
        return self.record.final_verdict is not None and knows_lanes


class Evictor:
    """Frees memory, oldest scan first, as long as Redis is above a limit.

    It remembers what it read of the scans on the bus, so that looking again costs a
    few commands for each scan that is open and none for most that are finished. Safe
    to share between threads.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Scan] = {}
        self._lock = Lock()

    def free(
        self, client: Bus, limit_bytes: int, *, kept_scans: int = KEPT_SCANS
    ) -> Freed:
        """Trim acknowledged data and forget finished scans until Redis has room.

        A scan is forgotten whole when its verdict is final, its data are trimmed, and
        nobody needs it: no publisher waits for the verdict, no writer has its lease,
        no replay holds it.

        Parameters
        ----------
        limit_bytes : int
            Stop when ``used_memory`` is at most this.
        kept_scans : int
            So many of the newest scans are trimmed only.

        Returns
        -------
        Freed
            What was removed; false if nothing could be.
        """
        with self._lock:
            return self._free(client, limit_bytes, kept_scans)

    def _free(self, client: Bus, limit_bytes: int, kept_scans: int) -> Freed:
        entries = scans = 0
        if used_memory(client) <= limit_bytes:
            return Freed()
        self._look(client)
        n_old = len(self._known) - kept_scans
        for place, scan in enumerate(self._known.values()):
            scan.look(client)
            n_trimmed = _trim(client, scan, limit_bytes)
            entries += n_trimmed
            if n_trimmed and used_memory(client) <= limit_bytes:
                break
            if place < n_old and _forget(client, scan):
                scans += 1
                if used_memory(client) <= limit_bytes:
                    break
        return Freed(entries, scans)

    def _look(self, client: Bus) -> None:
        """Learn which scans stand on the bus, the one announced last at the end.

        What cannot be understood is left alone: it may be of a later protocol.
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
            # Announced again: Redis may have lost what was known of it.
            if known is not None and known.announcements == scan.announcements:
                found[uid] = known
        self._known = found


def _trim(client: Bus, scan: _Scan, limit_bytes: int) -> int:
    """Trim what is durable of a scan, segment by segment; return how many entries."""
    removed = 0
    if scan.is_bare or is_held(client, scan.record.uid):
        return removed
    for n_trimmed in _trimmed(client, scan, limit_bytes):
        removed += n_trimmed
    return removed


def _trimmed(client: Bus, scan: _Scan, limit_bytes: int) -> Iterator[int]:
    uid = scan.record.uid
    is_bare = scan.is_finished
    for lane in scan.lanes:
        durable = read_cursor(client, uid, lane.name)
        key = lane_key(uid, lane.name)
        point = _first_point(client, key)
        while point is not None and point < durable:
            if used_memory(client) <= limit_bytes:
                return
            step = (point // lane.points_per_segment + 1) * lane.points_per_segment
            edge = min(step, durable)
            n_trimmed = int(client.eval(_TRIM, 1, key, edge))
            yield n_trimmed
            # Looking at the first entry moves its payload within Redis: only if needed.
            point = edge if n_trimmed else _first_point(client, key)
            if point is not None and point < edge:
                break  # One entry reaches beyond what is durable.
        is_bare = is_bare and _first_point(client, key) is None
    scan.is_bare = is_bare


def _first_point(client: Bus, key: str) -> int | None:
    first: Any = client.eval(_FIRST, 1, key)
    return None if first in {None, SEAL_ID} else int(first.partition(b"-")[0])


def _forget(client: Bus, scan: _Scan) -> bool:
    """Remove all that is left of a finished scan; False if it is still needed."""
    uid = scan.record.uid
    if not scan.is_bare or stands(client, heartbeat_key(uid)):
        return False
    names = _lane_names(scan.record.prepared)
    keys = [
        *(ANNOUNCEMENTS, RESERVED, FORGOTTEN),
        *(heartbeat_key(uid), hold_key(uid), lease_key(uid, "")),
        *(fence_key(uid), attempts_key(uid), events_key(uid)),
        *(lane_key(uid, name) for name in names),
        *(cursors_key(uid, name) for name in names),
    ]
    values: tuple[Any, ...] = (uid, SEAL_ID, len(names), *scan.announcements)
    # If not, the lanes are looked at again: Redis may have got back what was trimmed.
    scan.is_bare = bool(client.eval(_FORGET, len(keys), *keys, *values))
    return scan.is_bare


def remove_traces(client: Bus, lease: Lease, record: ScanRecord) -> None:
    """Remove what a writer that slept left of a scan that was forgotten meanwhile.

    It may have acknowledged once more when it woke up. Lanes and events stay: if there
    are any, the scan's publisher is back.
    """
    uid = lease.uid
    names = _lane_names(record.prepared)
    client.delete(
        *(cursors_key(uid, name) for name in names),
        *(attempts_key(uid), fence_key(uid), lease_key(uid, lease.fence)),
    )


def _lane_names(prepared: ScanPrepared | None) -> list[str]:
    """Return all lanes that may be there, also late ones that the end does not name.

    Their publisher may have died before it said the end.
    """
    lanes = prepared.lanes if prepared else ()
    late = [late_lane_name(each.name) for lane in lanes for each in lane.channels]
    return [*(lane.name for lane in lanes), *late]
