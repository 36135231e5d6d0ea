"""Signs of life: who publishes a scan, and which writers there are.

A sign of life is a key that expires unless its owner renews it. All of it works on a
full Redis, too.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

from scanbus.bus.protocol.keys import WRITERS, heartbeat_key, writer_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.expiry import stands

__all__ = [
    "beat_publisher",
    "beat_writer",
    "end_publisher_beat",
    "forget_lapsed_writers",
    "forget_writer",
    "publisher_is_alive",
    "writer_is_alive",
    "writers_alive",
]

# A full Redis refuses SET, but not a script whose first write frees memory.
_BEAT = """
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 1 then return 1 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
"""
_REGISTER = """
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


def beat_publisher(client: Bus, uid: str, publisher: str, ttl_ms: int) -> bool:
    """Renew a publisher's heartbeat; return False if it had lapsed."""
    return bool(client.eval(_BEAT, 1, heartbeat_key(uid), publisher, ttl_ms))


def end_publisher_beat(client: Bus, uid: str) -> None:
    """Say that a publisher needs nothing more of its scan."""
    client.delete(heartbeat_key(uid))


def publisher_is_alive(client: Bus, uid: str) -> bool:
    """Whether a scan's publisher has not lapsed."""
    return stands(client, heartbeat_key(uid))


def beat_writer(client: Bus, writer: str, info: dict[str, Any], ttl_ms: int) -> None:
    """Renew a writer's sign of life and what it says of itself."""
    line = json.dumps(info)
    # Registered first and every time: a writer that beats must never stay unknown
    # because Redis was lost, or it died itself, between the two.
    client.eval(_REGISTER, 1, WRITERS, writer, line)
    client.eval(_BEAT, 1, writer_key(writer), line, ttl_ms)


def forget_writer(client: Bus, writer: str) -> None:
    """Take a writer that leaves off the list."""
    client.hdel(WRITERS, writer)
    client.delete(writer_key(writer))


def forget_lapsed_writers(client: Bus) -> None:
    """Take writers that did not leave, but were killed, off the list.

    One that was only late is on it again with its next beat.
    """
    names: Any = client.hkeys(WRITERS)
    for name in names:
        if not writer_is_alive(client, _text(name)):
            client.hdel(WRITERS, name)


def writer_is_alive(client: Bus, writer: str) -> bool:
    """Whether a writer has not lapsed."""
    return stands(client, writer_key(writer))


def writers_alive(client: Bus) -> dict[str, dict[str, Any]]:
    """Return the writers that have not lapsed, and what they say of themselves."""
    lines: Any = client.hgetall(WRITERS)
    names = [(_text(name), line) for name, line in lines.items()]
    return {name: _info(line) for name, line in names if writer_is_alive(client, name)}


def _info(line: bytes) -> dict[str, Any]:
    """Return what a writer says of itself; nothing where that is no JSON object."""
    try:
        info = from_json(line)
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace")
