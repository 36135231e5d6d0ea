"""What a bus knows of itself and of the root below which its scans are written.

Redis may come back empty: a writer then puts back what it knows, and of a root that the
bus does not know it is told by the first writer. Only a different one is refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic_core import from_json

from scanbus.bus.protocol.keys import BUS_ID, ROOT
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.wrong_types import is_wrong_type

__all__ = [
    "BusRoot",
    "change_root",
    "read_bus_id",
    "read_root",
    "take_bus_id",
    "take_root",
]

# A full Redis refuses SET, but accepts a script whose first write frees memory.
_TAKE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local known = redis.call('GET', KEYS[1])
if known and known ~= ARGV[2] then return known end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""
_CHANGE = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


@dataclass(frozen=True, slots=True)
class BusRoot:
    """The root of a bus.

    Attributes
    ----------
    id : str
        Its id, by which it is known.
    path, host : str
        Where it was when the bus learned it; for messages only.
    """

    id: str
    path: str
    host: str


def take_root(client: Bus, offered: BusRoot) -> BusRoot:
    """Return the root of the bus; the one offered if the bus has none."""
    text = json.dumps(asdict(offered))
    known = _parsed(client.eval(_TAKE, 1, ROOT, text, ""))
    if known is None:  # Nobody can be refused by what cannot be understood.
        change_root(client, offered)
        return offered
    return known


def read_root(client: Bus) -> BusRoot | None:
    """Return the root of the bus; None if Redis has none."""
    text = _read(client, ROOT)
    return _parsed(text) if text else None


def change_root(client: Bus, root: BusRoot) -> None:
    """Let the bus have another root."""
    client.eval(_CHANGE, 1, ROOT, json.dumps(asdict(root)))


def _parsed(text: Any) -> BusRoot | None:
    try:
        found = from_json(text)
        return BusRoot(str(found["id"]), str(found["path"]), str(found["host"]))
    except (ValueError, TypeError, KeyError):
        return None


def take_bus_id(client: Bus, offered: str) -> str:
    """Return the id of the bus; the one offered if Redis has none."""
    return _text(client.eval(_TAKE, 1, BUS_ID, offered, ""))


def read_bus_id(client: Bus) -> str:
    """Return the id of the bus; empty if Redis has none."""
    return _text(_read(client, BUS_ID))


def _read(client: Bus, key: str) -> Any:
    try:
        return client.get(key) or b""
    except redis.exceptions.ResponseError as error:
        if not is_wrong_type(error):
            raise
        return b""


def _text(value: Any) -> str:
    return bytes(value).decode("ascii", "replace")
