"""Leases: which writer may write a scan, and with which fence.

A lease is a key of its own that expires. PEXPIRE renews it, also on a full Redis, and
its answer is 0 if the lease is lost. The fence is a counter; in the file system it is
enforced by folders that are never reused, see the writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scanbus.bus.protocol.keys import attempts_key, events_key, fence_key, lease_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import replies_or_none
from scanbus.schemas import Event

__all__ = [
    "Lease",
    "acquire_lease",
    "append_fenced_event",
    "begin_attempt",
    "end_attempt",
    "release_lease",
    "renew_lease",
    "renew_leases",
]

# KEYS[1] is the fence, KEYS[2] the prefix of the lease keys; same slot. The value of a
# lease contains its duration: if the clock of Redis is set back, the lease of a dead
# writer would exist for too long, so its time to live is limited to that.
_ACQUIRE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local fence = redis.call('GET', KEYS[1]) or '0'
if not tonumber(fence) then
  redis.call('DEL', KEYS[1])
  fence = '0'
end
local lease = KEYS[2] .. fence
if redis.call('TYPE', lease).ok ~= 'string' then redis.call('DEL', lease) end
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


# A fence that was deleted is put back: after a lower one another writer would begin at
# the same number, over this lease.
_RENEW = """
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then return 0 end
if redis.call('TYPE', KEYS[2]).ok ~= 'string' then redis.call('DEL', KEYS[2]) end
local fence = tonumber(redis.call('GET', KEYS[2]) or '0')
if not fence or fence < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[2])
end
return 1
"""


# An attempt that ends in an orderly way deletes the counter; one that is killed cannot.
_BEGIN_ATTEMPT = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local attempts = (tonumber(redis.call('GET', KEYS[1]) or '0') or 0) + 1
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], attempts, 'PX', ARGV[1])
return attempts
"""
_REMEMBERED_MS = 24 * 3600 * 1000
# Atomic: a writer that was paused must not append events to a scan that it has lost.
_APPEND_EVENT = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
redis.call('XTRIM', KEYS[1], 'MINID', '0-1')
redis.call('XADD', KEYS[1], '*', 'doc', ARGV[1])
return 1
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one writer to write one scan.

    Attributes
    ----------
    uid : str
        The scan's uid.
    fence : int
        Number of the lease; it grows with every lease of the scan unless Redis loses
        its data.
    """

    uid: str
    fence: int


@parses_reply
def acquire_lease(client: Bus, uid: str, owner: str, ttl_ms: int) -> Lease | None:
    """Acquire the lease of a scan for `ttl_ms` milliseconds; None if it is taken."""
    fence: Any = client.eval(
        _ACQUIRE, 2, fence_key(uid), lease_key(uid, ""), owner, ttl_ms
    )
    return Lease(uid, int(fence)) if fence else None


def renew_lease(client: Bus, lease: Lease, ttl_ms: int) -> bool:
    """Extend the lease to `ttl_ms` milliseconds from now; False if it is lost."""
    if not renew_leases(client, [lease], ttl_ms):
        return True
    keys = lease_key(lease.uid, lease.fence), fence_key(lease.uid)
    return bool(client.eval(_RENEW, 2, *keys, ttl_ms, lease.fence))


@parses_reply
def renew_leases(client: Bus, leases: Sequence[Lease], ttl_ms: int) -> list[Lease]:
    """Extend leases to `ttl_ms` milliseconds from now; return those to be looked at.

    Takes one command for each, as many scans may be open for hours, and one for all.
    Of the returned ones, the lease is lost or the fence is not what it was:
    `renew_lease` tells, and puts the fence back.
    """
    if not leases:
        return []
    pipe: Any = client.pipeline(transaction=False)
    for lease in leases:
        pipe.pexpire(lease_key(lease.uid, lease.fence), ttl_ms)
    pipe.mget([fence_key(lease.uid) for lease in leases])
    *held, fences = replies_or_none(pipe.execute(raise_on_error=False))
    found = zip(leases, held, fences, strict=True)
    return [
        lease
        for lease, is_held, fence in found
        if not is_held or fence != str(lease.fence).encode()
    ]


def append_fenced_event(client: Bus, lease: Lease, event: Event) -> bool:
    """Append an event to the scan if the lease is valid; False if it is lost."""
    keys = events_key(lease.uid), lease_key(lease.uid, lease.fence)
    return bool(client.eval(_APPEND_EVENT, 2, *keys, event.to_json()))


@parses_reply
def begin_attempt(client: Bus, uid: str) -> int:
    """Count an attempt to write a scan; return how many began and did not end."""
    attempts: Any = client.eval(_BEGIN_ATTEMPT, 1, attempts_key(uid), _REMEMBERED_MS)
    return int(attempts)


def end_attempt(client: Bus, uid: str) -> None:
    """Reset the count of attempts: this one ended in an orderly way."""
    client.delete(attempts_key(uid))


def release_lease(client: Bus, lease: Lease) -> None:
    """End the lease now, so that other writers need not wait until it expires."""
    client.delete(lease_key(lease.uid, lease.fence))
