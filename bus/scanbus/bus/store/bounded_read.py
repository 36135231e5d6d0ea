"""Read one stream with a limit in bytes.

XREAD and XRANGE limit the number of entries of a reply, but not its size: entries of a
few bytes may be followed by entries of megabytes. So a script counts the bytes in the
server, before they are copied to the reader.
"""

from __future__ import annotations

from typing import Any, Final

from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import stream_entries

__all__ = ["BOUNDED_READ", "OVERSIZE_FIELD", "read_bounded"]

OVERSIZE_FIELD: Final = b"oversize"
"""Replaces, with the size in bytes, the fields of an entry that is too large."""

BOUNDED_READ: Final = """
local found, total, after = {}, 0, ARGV[1]
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return found end
for i = 1, tonumber(ARGV[2]) do
  local reply = redis.call('XREAD', 'COUNT', 1, 'STREAMS', KEYS[1], after)
  if not reply then break end
  local entry, size = reply[1][2][1], 0
  for _, part in ipairs(entry[2]) do size = size + #part end
  if size > tonumber(ARGV[4]) then
    entry[2], size = {'oversize', tostring(size)}, 0
  end
  total = total + size
  if i > 1 and total > tonumber(ARGV[3]) then break end
  found[i], after = entry, entry[1]
end
return found
"""
"""KEYS: the stream. ARGV: id to read after; limits: entries, bytes, bytes per entry."""


def read_bounded(
    client: Bus, key: str, after: str | bytes, *, count: int, total: int, single: int
) -> list[Any]:
    """Return the raw entries of a stream after an id.

    Parameters
    ----------
    count : int
        Largest number of entries.
    total : int
        Largest size of all entries in bytes; one entry is returned in any case.
    single : int
        Largest size of one entry in bytes; of a larger entry only the size is returned.
    """
    reply: Any = client.eval(BOUNDED_READ, 1, key, after, count, total, single)
    return stream_entries(reply)
