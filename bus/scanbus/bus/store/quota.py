"""Quotas: memory of Redis that scans reserve.

All functions work on a full Redis too: it accepts scripts whose first write frees
memory. :mod:`scanbus.bus.store.eviction` frees memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from scanbus.bus.protocol.entries import SEAL_ID
from scanbus.bus.protocol.keys import RESERVED, cursors_key, events_key, lane_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import replies_or_none
from scanbus.schemas.errors import QuotaRefusedError

__all__ = [
    "lower_quota",
    "memory_state",
    "release_quota",
    "reserve_quota",
    "reserved_quotas",
    "shrink_quota",
    "used_memory",
]


# Numbers in Lua are doubles, exact to 2^53: quotas and points are below 2^48. A value
# that is not a number counts as 0, so that one bad value does not stop every scan.
_QUOTA: Final = re.compile(rb"\d{1,15}")
_RESERVE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
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


# What Redis uses for a lane, times the share of its points that no file has.
_HELD = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local last = redis.call('XREVRANGE', KEYS[1], '(' .. ARGV[1], '-', 'COUNT', 1)[1]
if not last then return 0 end
local size = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)
local cursor = 0
if redis.call('TYPE', KEYS[2]).ok == 'hash' then
  cursor = tonumber(redis.call('HGET', KEYS[2], 'writer') or '0') or 0
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local start = tonumber(string.match(first[1], '^%d+'))
local from, count = string.match(last[1], '^(%d+)-(%d+)$')
local stop = tonumber(from) + tonumber(count)
if cursor >= stop then return 0 end
return math.floor(size * (stop - math.max(cursor, start)) / (stop - start))
"""
# Lower only, and only what is there: the writer may have released it meanwhile.
_LOWER = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old or (tonumber(old) or 0) <= tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


@parses_reply
def reserve_quota(
    client: Bus, uid: str, quota: int, budget: int, *, force: bool = False
) -> None:
    """Reserve a scan's quota, or change it.

    Parameters
    ----------
    quota : int
        Bytes to reserve.
    budget : int
        Bytes that all scans together may reserve.
    force : bool
        Reserve even beyond the budget: a running scan is not refused when Redis was
        restarted without its data.

    Raises
    ------
    QuotaRefusedError
        If the budget is too small for it and the quotas of other scans; the previous
        reservation of the scan does not change.
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


def lower_quota(client: Bus, uid: str, quota: int) -> None:
    """Reduce a scan's reservation to `quota` bytes, if it has a larger one."""
    client.eval(_LOWER, 1, RESERVED, uid, max(1, quota))


@parses_reply
def shrink_quota(client: Bus, uid: str, lanes: Iterable[str]) -> None:
    """Reduce a scan's reservation to what no file has yet, as its publisher is gone.

    Its documents are in no file before its end. A publisher that comes back still uses
    up to its quota; only the reservation is smaller.
    """
    documents: Any = client.memory_usage(events_key(uid), samples=0)
    held = sum(_held_bytes(client, uid, lane) for lane in lanes)
    lower_quota(client, uid, int(documents or 0) + held)


def _held_bytes(client: Bus, uid: str, lane: str) -> int:
    """Return about how many bytes of a lane the writer has not acknowledged."""
    keys = lane_key(uid, lane), cursors_key(uid, lane)
    found: Any = client.eval(_HELD, 2, *keys, SEAL_ID)
    return int(found)


def release_quota(client: Bus, uid: str) -> None:
    """Remove a scan's reservation."""
    client.hdel(RESERVED, uid)


@parses_reply
def reserved_quotas(client: Bus) -> dict[str, int]:
    """Return the quotas of all scans in bytes, by uid.

    As when a quota is reserved, a value that is no number counts as nothing, and so
    does a key of the wrong type.
    """
    pipe: Any = client.pipeline(transaction=False)
    pipe.hgetall(RESERVED)
    (quotas,) = replies_or_none(pipe.execute(raise_on_error=False))
    return {
        uid.decode("ascii", "replace"): int(quota) if _QUOTA.fullmatch(quota) else 0
        for uid, quota in (quotas or {}).items()
    }


@parses_reply
def memory_state(client: Bus) -> tuple[int, int]:
    """Return Redis's ``used_memory`` and ``maxmemory``, which may be 0, in bytes."""
    info: Any = client.info("memory")
    return int(info["used_memory"]), int(info.get("maxmemory", 0))


def used_memory(client: Bus) -> int:
    """Return Redis's ``used_memory`` in bytes."""
    return memory_state(client)[0]
