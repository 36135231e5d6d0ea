"""The session of a dataset: one date for all its scans, whoever publishes them.

Redis's clock says which day it is, and keeps the answer: programs on machines with
other clocks or time zones, and scans after midnight, come into the same folder.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from scanbus.bus.protocol.keys import session_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import replies_or_none
from scanbus.schemas import ScanIdentity

__all__ = ["SESSION_S", "session_of"]

SESSION_S: Final = 24 * 3600
"""A dataset without a scan for so long, in seconds, begins a new session."""

_SESSION = """
local found = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GET', KEYS[1])
if not found or not string.match(found, '^%d%d%d%d%d%d%d%d$') then
  if ARGV[1] == '' then return false end
  found = ARGV[1]
end
redis.call('SET', KEYS[1], found, 'EX', ARGV[2])
return found
"""


@parses_reply
def session_of(client: Bus, scan: ScanIdentity) -> str:
    """Return the session of a scan's dataset, YYYYMMDD; begin one if there is none.

    It begins on the day of Redis's clock, in the time zone of this process.

    Parameters
    ----------
    scan : ScanIdentity
        Its session and number do not matter.
    """
    key = session_key(scan.proposal, scan.beamline, scan.collection, scan.dataset)
    pipe: Any = client.pipeline(transaction=False)
    pipe.time()
    pipe.eval(_SESSION, 1, key, "", SESSION_S)
    seconds, found = replies_or_none(pipe.execute(raise_on_error=False))
    if found is None:
        today = datetime.fromtimestamp(int(seconds[0]), UTC).astimezone()
        found = client.eval(_SESSION, 1, key, f"{today:%Y%m%d}", SESSION_S)
    return bytes(found).decode("ascii")
