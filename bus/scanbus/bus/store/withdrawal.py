"""Withdraw a scan that was announced and cannot start: as if it had never been.

It has no points and was not prepared, so no file of it exists. To a writer that found
it meanwhile it is a scan that was removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from scanbus.bus.protocol.keys import (
    ANNOUNCEMENTS,
    FORGOTTEN,
    RESERVED,
    attempts_key,
    cursors_key,
    events_key,
    fence_key,
    heartbeat_key,
    lane_key,
    lease_key,
    number_key,
    raised_key,
)
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.eviction import NOTE_FORGOTTEN
from scanbus.bus.store.number_scripts import LOWER
from scanbus.bus.store.replies import parses_reply
from scanbus.schemas import ScanIdentity

__all__ = ["withdraw_scan"]

# KEYS[6] is the prefix of the leases: without its lease a writer adds no verdict. It
# removes the fence itself. The number is given back if it is still the newest one.
_WITHDRAW: Final = (
    NOTE_FORGOTTEN
    + LOWER
    + """
for i = 8, #KEYS do redis.call('DEL', KEYS[i]) end
local fence = redis.call('TYPE', KEYS[5]).ok == 'string' and redis.call('GET', KEYS[5])
redis.call('DEL', KEYS[6] .. (fence or '0'))
if redis.call('TYPE', KEYS[2]).ok == 'hash' then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
note_forgotten(KEYS[3], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return lower(KEYS[4], KEYS[7], tonumber(ARGV[3]))
"""
)


@parses_reply
def withdraw_scan(
    client: Bus, scan: ScanIdentity, announcement: str, lanes: Iterable[str]
) -> int | None:
    """Remove all of a scan from the bus, and give its number back.

    Works on a full Redis.

    Parameters
    ----------
    announcement : str
        Id of its announcement.
    lanes : iterable of str
        Lanes that may have been made.

    Returns
    -------
    int or None
        What the counter of the dataset is again; None if another scan has raised it.
    """
    uid, number = scan.uid, scan.scan_number
    names = list(lanes)
    keys = [
        *(ANNOUNCEMENTS, RESERVED, FORGOTTEN, number_key(scan.dataset_folder)),
        *(fence_key(uid), lease_key(uid, ""), raised_key(scan.dataset_folder)),
        *(events_key(uid), heartbeat_key(uid), attempts_key(uid)),
        *(lane_key(uid, name) for name in names),
        *(cursors_key(uid, name) for name in names),
    ]
    values = (uid, announcement, number)
    lowered: Any = client.eval(_WITHDRAW, len(keys), *keys, *values)
    return None if int(lowered) < 0 else int(lowered)
