"""Room on the bus: quotas reserved, data acknowledged, scans held.

Everything here works on a full Redis too: XTRIM and DEL always pass, and so does a
script whose first write is one of them. What frees memory stands in
:mod:`scanbus.bus.store.eviction`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from scanbus.bus.protocol.keys import RESERVED, cursors_key, hold_key, lane_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.expiry import stands
from scanbus.schemas.errors import QuotaRefusedError

__all__ = [
    "BUDGET_FRACTION",
    "DEFAULT_MEMORY_BYTES",
    "WRITER",
    "acknowledge",
    "budget_bytes",
    "cursor",
    "cursors",
    "default_quota",
    "hold",
    "is_held",
    "release",
    "reserve",
    "shrink",
    "used_memory",
]

WRITER: Final = "writer"
"""The durable consumer whose cursor holds trimming."""
BUDGET_FRACTION: Final = 0.6
"""Share of Redis's memory that scans may reserve; the rest is for buffers and forks."""
DEFAULT_MEMORY_BYTES: Final = 4 * 2**30
"""Taken as Redis's memory where it has no maxmemory."""
DEFAULT_QUOTA_BYTES: Final = 2**30

# Lua counts in doubles, exact to 2^53: quotas and points stay below 2^48. What is no
# number counts as nothing, so that one bad value does not stop every scan.
_RESERVE = """
local sum = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[1])) do
  sum = sum + (tonumber(bytes) or 0)
end
sum = sum - (tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') or 0)
if ARGV[4] == '0' and sum + tonumber(ARGV[2]) > tonumber(ARGV[3]) then
  return string.format('%.0f', sum)
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false
"""
_ACKNOWLEDGE = """
redis.call('XTRIM', KEYS[2], 'MINID', '0-1')
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old or (tonumber(old) or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
"""
_POINT: Final = re.compile(rb"\d{1,15}")
_HOLD = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
"""


def budget_bytes(memory_bytes: int) -> int:
    """Return what all scans together may reserve of a Redis of that size."""
    return int(memory_bytes * BUDGET_FRACTION)


def default_quota(budget: int) -> int:
    """Return the quota of a scan that does not state one: 1 GiB or half the budget."""
    return min(DEFAULT_QUOTA_BYTES, budget // 2)


def reserve(
    client: Bus, uid: str, quota: int, budget: int, *, force: bool = False
) -> None:
    """Reserve a scan's quota, or change it.

    Parameters
    ----------
    force : bool
        Reserve even beyond the budget: a scan that ran already is not refused when
        Redis came back empty.

    Raises
    ------
    QuotaRefusedError
        If it does not fit beside what others have reserved; what the scan had
        reserved before stays.
    """
    taken: Any = client.eval(_RESERVE, 1, RESERVED, uid, quota, budget, int(force))
    if taken is not None:
        raise QuotaRefusedError(
            uid,
            quota,
            f"{int(taken) / 2**20:.1f} of {budget / 2**20:.1f} MiB are reserved by "
            "other scans; ask for less (quota_bytes), wait for their verdicts, or "
            "give Redis more memory",
        )


def shrink(client: Bus, uid: str, lanes: Iterable[str]) -> None:
    """Reserve only what a scan holds now: its publisher is gone, and sends no more.

    One that comes back keeps to its quota all the same; only the reservation is less.
    """
    pipe: Any = client.pipeline(transaction=False)
    for lane in lanes:
        pipe.execute_command("MEMORY", "USAGE", lane_key(uid, lane), "SAMPLES", 0)
    held = sum(int(size or 0) for size in pipe.execute())
    reserve(client, uid, max(1, held), 0, force=True)


def release(client: Bus, uid: str) -> None:
    """Give a scan's quota back."""
    client.hdel(RESERVED, uid)


def acknowledge(client: Bus, uid: str, lane: str, point: int) -> None:
    """Say that all points before `point` are durable; never takes anything back."""
    keys = cursors_key(uid, lane), lane_key(uid, lane)
    client.eval(_ACKNOWLEDGE, 2, *keys, WRITER, point)


def cursor(client: Bus, uid: str, lane: str) -> int:
    """Return the first point of a lane that is not known to be durable."""
    value: Any = client.hget(cursors_key(uid, lane), WRITER)
    return _point(value)


def cursors(client: Bus, lanes: Sequence[tuple[str, str]]) -> list[int]:
    """Return the cursor of each ``(uid, lane)``, in one round trip."""
    if not lanes:
        return []
    pipe = client.pipeline(transaction=False)
    for uid, lane in lanes:
        pipe.hget(cursors_key(uid, lane), WRITER)
    return [_point(value) for value in pipe.execute()]


def _point(value: bytes | None) -> int:
    """Return a cursor as a point; 0, nothing durable, where it is none."""
    return int(value) if value and _POINT.fullmatch(value) else 0


def hold(client: Bus, uid: str, ttl_ms: int) -> None:
    """Keep a scan from being trimmed for a while."""
    client.eval(_HOLD, 1, hold_key(uid), ttl_ms)


def is_held(client: Bus, uid: str) -> bool:
    """Whether somebody keeps a scan from being trimmed."""
    return stands(client, hold_key(uid))


def used_memory(client: Bus) -> int:
    """Return the bytes that Redis uses, without its copy-on-write and buffers."""
    info: Any = client.info("memory")
    return int(info["used_memory"])
