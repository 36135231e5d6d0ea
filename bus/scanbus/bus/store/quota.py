"""Room on the bus: quotas reserved, data acknowledged, scans held.

Everything here works on a full Redis too: XTRIM and DEL always pass, and so does a
script whose first write is one of them. What frees memory stands in
:mod:`scanbus.bus.store.eviction`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scanbus.bus.protocol.keys import RESERVED, lane_key
from scanbus.bus.store.connection import Bus
from scanbus.schemas.errors import QuotaRefusedError

__all__ = [
    "release_quota",
    "reserve_quota",
    "reserved_quotas",
    "shrink_quota",
    "used_memory",
]


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


def reserve_quota(
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


def shrink_quota(client: Bus, uid: str, lanes: Iterable[str]) -> None:
    """Reserve only what a scan holds now: its publisher is gone, and sends no more.

    One that comes back keeps to its quota all the same; only the reservation is less.
    """
    pipe: Any = client.pipeline(transaction=False)
    for lane in lanes:
        pipe.execute_command("MEMORY", "USAGE", lane_key(uid, lane), "SAMPLES", 0)
    held = sum(int(size or 0) for size in pipe.execute())
    reserve_quota(client, uid, max(1, held), 0, force=True)


def release_quota(client: Bus, uid: str) -> None:
    """Give a scan's quota back."""
    client.hdel(RESERVED, uid)


def reserved_quotas(client: Bus) -> list[int]:
    """Return the bytes that each scan with a quota has reserved, in no order."""
    quotas: Any = client.hvals(RESERVED)
    return [int(quota) for quota in quotas]


def used_memory(client: Bus) -> int:
    """Return the bytes that Redis uses, without its copy-on-write and buffers."""
    info: Any = client.info("memory")
    return int(info["used_memory"])
