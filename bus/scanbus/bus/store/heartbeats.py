"""Heartbeats of publishers and writers.

A heartbeat is a key that expires unless its owner renews it. All functions work on a
full Redis too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from scanbus.bus.protocol.keys import WRITERS, heartbeat_key, writer_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.expiry import is_unexpired
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import is_wrong_type

__all__ = [
    "beat_publisher",
    "beat_publishers",
    "beat_writer",
    "end_publisher_beat",
    "publisher_heartbeat",
    "publisher_is_alive",
    "publishers_alive",
    "remove_lapsed_writers",
    "remove_writer",
    "why_held",
    "why_paused",
    "writer_is_alive",
    "writers_alive",
]

# A full Redis refuses SET, but accepts a script whose first write frees memory.
_BEAT = """
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 1 then return 1 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
"""
_REGISTER = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


def beat_publishers(client: Bus, uids: Sequence[str], ttl_ms: int) -> list[str]:
    """Renew the heartbeats of scans of one publisher; return those that had expired.

    Takes one round trip, and one command for each scan; `beat_publisher` puts a
    heartbeat back.
    """
    pipe: Any = client.pipeline(transaction=False)
    for uid in uids:
        pipe.pexpire(heartbeat_key(uid), ttl_ms)
    return [uid for uid, done in zip(uids, pipe.execute(), strict=True) if not done]


def beat_publisher(client: Bus, uid: str, publisher: str, ttl_ms: int) -> bool:
    """Renew a publisher's heartbeat; return False if it had expired."""
    return bool(client.eval(_BEAT, 1, heartbeat_key(uid), publisher, ttl_ms))


def end_publisher_beat(client: Bus, uid: str) -> None:
    """Remove a publisher's heartbeat: it does not need its scan on the bus any more."""
    client.delete(heartbeat_key(uid))


def publisher_is_alive(client: Bus, uid: str) -> bool:
    """Whether the heartbeat of a scan's publisher has not expired."""
    return is_unexpired(client, heartbeat_key(uid))


@parses_reply
def publisher_heartbeat(client: Bus, uid: str) -> str | None:
    """Return the text of the heartbeat of a scan's publisher; None if it expired."""
    key = heartbeat_key(uid)
    found: Any = client.get(key) if is_unexpired(client, key) else None
    return None if found is None else bytes(found).decode("utf-8", "replace")


@parses_reply
def publishers_alive(client: Bus, uids: Sequence[str]) -> set[str]:
    """Return the scans whose publishers' heartbeats have not expired; one command."""
    if not uids:
        return set()
    found: Any = client.mget([heartbeat_key(uid) for uid in uids])
    alive = zip(uids, found, strict=True)
    return {uid for uid, beat in alive if beat is not None}


def beat_writer(client: Bus, writer: str, info: dict[str, Any], ttl_ms: int) -> None:
    """Renew a writer's heartbeat and its status `info`, which must be JSON."""
    line = json.dumps(info)
    # Registered first, and with every heartbeat: else a writer could stay unregistered
    # if Redis lost its data, or the writer died, between the two.
    client.eval(_REGISTER, 1, WRITERS, writer, line)
    client.eval(_BEAT, 1, writer_key(writer), line, ttl_ms)


def remove_writer(client: Bus, writer: str) -> None:
    """Remove a writer that stops from the list, and its heartbeat."""
    client.hdel(WRITERS, writer)
    client.delete(writer_key(writer))


@parses_reply
def remove_lapsed_writers(client: Bus) -> None:
    """Remove writers from the list whose heartbeat has expired.

    A writer whose heartbeat was only late is on it again with its next one.
    """
    for name in _registered(client):
        if not writer_is_alive(client, _text(name)):
            client.hdel(WRITERS, name)


def writer_is_alive(client: Bus, writer: str) -> bool:
    """Whether the heartbeat of a writer has not expired."""
    return is_unexpired(client, writer_key(writer))


@parses_reply
def writers_alive(client: Bus) -> dict[str, dict[str, Any]]:
    """Return the status of each writer whose heartbeat has not expired."""
    names = [(_text(name), line) for name, line in _registered(client).items()]
    return {name: _info(line) for name, line in names if writer_is_alive(client, name)}


def why_paused(writers: Mapping[str, Mapping[str, Any]], uid: str) -> str:
    """Return why a scan is not written now, in the words of the writers; or empty.

    Parameters
    ----------
    writers : mapping
        Status of each living writer, as `writers_alive` returns it.
    uid : str
        The scan.

    Returns
    -------
    str
        What a writer says about this scan; else what is wrong with every writer.
    """
    paused = [_texts(info.get("paused")) for info in writers.values()]
    for sentences in paused:
        if uid in sentences:
            return sentences[uid]
    general = [
        [text for text in _texts(info.get("problems")).values() if text not in scans]
        for info, scans in zip(
            writers.values(), (set(each.values()) for each in paused), strict=True
        )
    ]
    return "; ".join(general[0]) if general and all(general) else ""


def why_held(writers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why scans stay on the bus, in the words of the writers; or empty."""
    paused = [
        f"scan {uid} is {text}"
        for info in writers.values()
        for uid, text in _texts(info.get("paused")).items()
    ]
    more = f" (and {len(paused) - 1} more)" if len(paused) > 1 else ""
    return paused[0] + more if paused else why_paused(writers, "")


def _texts(found: Any) -> dict[str, str]:
    """Return the texts of a JSON object by key, or of a list by index."""
    if isinstance(found, list):
        found = {str(place): text for place, text in enumerate(found)}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: text for key, text in pairs if isinstance(text, str)}


def _registered(client: Bus) -> dict[bytes, bytes]:
    """Return the list of writers; a key of the wrong type counts as empty."""
    try:
        lines: Any = client.hgetall(WRITERS)
    except redis.exceptions.ResponseError as error:
        if is_wrong_type(error):
            return {}
        raise
    return dict(lines)


def _info(line: bytes) -> dict[str, Any]:
    """Return a writer's status; empty if it is not a JSON object."""
    try:
        info = from_json(line)
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace")
