"""Leases: which writer has a scan now, and with which fence.

A lease is a key of its own that expires; renewing it is PEXPIRE, which passes on a
full Redis, and an answer of 0 means that it is lost. The fence is a counter; files are
fenced by folders that are never reused, see the writer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scanbus.bus.protocol.keys import attempts_key, events_key, fence_key, lease_key
from scanbus.bus.store.connection import Bus
from scanbus.schemas import Event

__all__ = [
    "Lease",
    "acquire_lease",
    "append_fenced_event",
    "begin_attempt",
    "end_attempt",
    "give_back_lease",
    "renew_lease",
]

# KEYS[1] is the fence, KEYS[2] the stem of the lease keys; same slot. A lease says for
# how long it counts: if Redis's clock is put back, a dead writer's would stay for long.
_ACQUIRE = """
local fence = redis.call('GET', KEYS[1]) or '0'
local lease = KEYS[2] .. fence
local holder = redis.call('GET', lease)
if holder then
  local most = tonumber(string.match(holder, '^%d+')) or tonumber(ARGV[2])
  if redis.call('PTTL', lease) > most then redis.call('PEXPIRE', lease, most) end
  return 0
end
redis.call('DEL', lease)
local next = redis.call('INCR', KEYS[1])
redis.call('SET', KEYS[2] .. next, ARGV[2] .. ' ' .. ARGV[1], 'PX', ARGV[2])
return next
"""


# An attempt that ends in an orderly way takes its mark away; a kill does not.
_BEGIN_ATTEMPT = """
local attempts = tonumber(redis.call('GET', KEYS[1]) or '0') + 1
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], attempts, 'PX', ARGV[1])
return attempts
"""
_REMEMBERED_MS = 24 * 3600 * 1000
# At once: a writer that was paused must not speak for a scan that it has lost.
_APPEND_EVENT = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('XTRIM', KEYS[1], 'MINID', '0-1')
redis.call('XADD', KEYS[1], '*', 'doc', ARGV[1])
return 1
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """One writer's right to one scan.

    Attributes
    ----------
    uid : str
        The scan.
    fence : int
        Grows with every lease of the scan, while Redis remembers.
    """

    uid: str
    fence: int


def acquire_lease(client: Bus, uid: str, owner: str, ttl_ms: int) -> Lease | None:
    """Take the lease of a scan; None if somebody has it."""
    fence: Any = client.eval(
        _ACQUIRE, 2, fence_key(uid), lease_key(uid, ""), owner, ttl_ms
    )
    return Lease(uid, int(fence)) if fence else None


def renew_lease(client: Bus, lease: Lease, ttl_ms: int) -> bool:
    """Keep the lease for another while; False if it is lost."""
    return bool(client.pexpire(lease_key(lease.uid, lease.fence), ttl_ms))


def append_fenced_event(client: Bus, lease: Lease, event: Event) -> bool:
    """Append an event to the scan if the lease still stands; False if it is lost."""
    keys = events_key(lease.uid), lease_key(lease.uid, lease.fence)
    return bool(client.eval(_APPEND_EVENT, 2, *keys, event.to_json()))


def begin_attempt(client: Bus, uid: str) -> int:
    """Count an attempt to write a scan; return how many were begun and not ended."""
    attempts: Any = client.eval(_BEGIN_ATTEMPT, 1, attempts_key(uid), _REMEMBERED_MS)
    return int(attempts)


def end_attempt(client: Bus, uid: str) -> None:
    """Forget the attempts so far: this one ended in an orderly way."""
    client.delete(attempts_key(uid))


def give_back_lease(client: Bus, lease: Lease) -> None:
    """End the lease now, so that nobody has to wait for it to expire."""
    client.delete(lease_key(lease.uid, lease.fence))
