"""Gateways: which are alive, and what each was doing last.

What a gateway says of itself stays when it is killed, so that its successor knows which
scan it has to go on with. All functions work on a full Redis too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from scanbus.bus.protocol.keys import GATEWAYS, gateway_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.expiry import is_unexpired
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import is_wrong_type

__all__ = [
    "beat_gateway",
    "gateway_owner",
    "gateways_alive",
    "note_gateway",
    "read_gateway",
    "remove_gateway",
]

# A full Redis refuses SET and HSET, but not scripts whose first write frees memory.
_BEAT = """
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  local owner = redis.call('GET', KEYS[1])
  if owner and owner ~= ARGV[1] and owner ~= ARGV[3] then return 0 end
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_NOTE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""
_REMOVE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def beat_gateway(
    client: Bus, name: str, owner: str, ttl_ms: int, *, instead_of: str = ""
) -> bool:
    """Renew the heartbeat of a gateway; return False if another process has it.

    Parameters
    ----------
    owner : str
        Names the process.
    instead_of : str
        Names a dead process from which it may be taken.
    """
    key = gateway_key(name)
    return bool(client.eval(_BEAT, 1, key, owner, ttl_ms, instead_of))


@parses_reply
def gateway_owner(client: Bus, name: str) -> str | None:
    """Return which process has the heartbeat of a gateway; None if it has expired."""
    key = gateway_key(name)
    try:
        found: Any = client.get(key) if is_unexpired(client, key) else None
    except redis.exceptions.ResponseError as error:
        if is_wrong_type(error):
            return None
        raise
    return None if found is None else bytes(found).decode("utf-8", "replace")


def note_gateway(client: Bus, name: str, info: Mapping[str, Any]) -> None:
    """Note what a gateway does, which must be JSON; that stays when it dies."""
    client.eval(_NOTE, 1, GATEWAYS, name, json.dumps(info))


def remove_gateway(client: Bus, name: str, owner: str, *, is_over: bool = True) -> None:
    """Remove the heartbeat of a gateway that ends, unless another process has it.

    Parameters
    ----------
    is_over : bool
        Whether it leaves nothing to go on with: then what it noted is removed, too.
    """
    if client.eval(_REMOVE, 1, gateway_key(name), owner) and is_over:
        client.hdel(GATEWAYS, name)


def read_gateway(client: Bus, name: str) -> dict[str, Any]:
    """Return what a gateway noted last; empty if there is nothing to be read."""
    return _registered(client).get(name, {})


def gateways_alive(client: Bus) -> dict[str, dict[str, Any]]:
    """Return what each gateway says whose heartbeat has not expired."""
    return {
        name: info
        for name, info in _registered(client).items()
        if is_unexpired(client, gateway_key(name))
    }


@parses_reply
def _registered(client: Bus) -> dict[str, dict[str, Any]]:
    """Return what gateways noted; a key of the wrong type counts as empty."""
    try:
        lines: Any = client.hgetall(GATEWAYS)
    except redis.exceptions.ResponseError as error:
        if is_wrong_type(error):
            return {}
        raise
    return {
        bytes(name).decode("utf-8", "replace"): _info(line)
        for name, line in lines.items()
    }


def _info(line: bytes) -> dict[str, Any]:
    try:
        info = from_json(line)
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}
