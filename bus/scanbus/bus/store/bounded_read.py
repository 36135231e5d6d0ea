"""Reading one stream bounded in bytes, whoever filled it.

XREAD and XRANGE bound how many entries a reply holds, never how large it is: entries
of a few bytes may be followed by some of megabytes. So the bytes are counted in the
server, where nothing has been copied for the reader yet.
"""

from __future__ import annotations

from typing import Any, Final

from scanbus.bus.store.connection import Bus

__all__ = ["BOUNDED_READ", "OVERSIZE_FIELD", "read_bounded"]

OVERSIZE_FIELD: Final = b"oversize"
"""Stands, with the number of bytes, for the fields of an entry that is too large."""

BOUNDED_READ: Final = """
local found, total, after = {}, 0, ARGV[1]
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
"""KEYS: the stream. ARGV: id to read after, entries, bytes, bytes of one entry."""


def read_bounded(
    client: Bus, key: str, after: str | bytes, *, count: int, total: int, single: int
) -> list[Any]:
    """Return the raw entries of a stream that stand after an id.

    Parameters
    ----------
    count : int
        At most so many entries.
    total : int
        At most so many bytes, but at least one entry if there is any.
    single : int
        Of an entry with more bytes than this only the size is returned.
    """
    reply: Any = client.eval(BOUNDED_READ, 1, key, after, count, total, single)
    return list(reply)
