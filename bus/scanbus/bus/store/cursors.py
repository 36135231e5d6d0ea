"""Cursors: up to which point the writer has made each lane durable, and shows it.

Acknowledging works on a full Redis too: it always accepts XTRIM, and scripts whose
first write is an XTRIM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from scanbus.bus.protocol.keys import cursors_key, lane_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import replies_or_none

__all__ = [
    "WRITER",
    "accept_loss",
    "accepted_losses",
    "acknowledge",
    "acknowledge_all",
    "read_cursor",
    "read_cursors",
    "show_all",
    "shown_points",
]

WRITER: Final = "writer"
"""The durable consumer whose cursor limits trimming."""
_LOST: Final = "lost"
_SHOWN: Final = "shown"


_ACKNOWLEDGE = """
redis.call('XTRIM', KEYS[2], 'MINID', '0-1')
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old or (tonumber(old) or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
"""


_POINT: Final = re.compile(rb"\d{1,15}")


def acknowledge(client: Bus, uid: str, lane: str, point: int) -> None:
    """Record that all points before `point` are durable; a cursor never moves back."""
    keys = cursors_key(uid, lane), lane_key(uid, lane)
    client.eval(_ACKNOWLEDGE, 2, *keys, WRITER, point)


def acknowledge_all(client: Bus, points: Mapping[tuple[str, str], int]) -> None:
    """Acknowledge points of several lanes, by ``(uid, lane)``, in one round trip."""
    _advance(client, points, WRITER)


def show_all(client: Bus, points: Mapping[tuple[str, str], int]) -> None:
    """Record up to which points masters show lanes of running scans.

    Points that none shows are not trimmed before the final verdict.
    """
    _advance(client, points, _SHOWN)


def _advance(client: Bus, points: Mapping[tuple[str, str], int], field: str) -> None:
    pipe = client.pipeline(transaction=False)
    for (uid, lane), point in points.items():
        keys = cursors_key(uid, lane), lane_key(uid, lane)
        pipe.eval(_ACKNOWLEDGE, 2, *keys, field, point)
    pipe.execute()


def accept_loss(client: Bus, uid: str, lane: str, point: int) -> None:
    """Record that files with points before `point` are lost, by an operator's word."""
    keys = cursors_key(uid, lane), lane_key(uid, lane)
    client.eval(_ACKNOWLEDGE, 2, *keys, _LOST, point)


@parses_reply
def accepted_losses(client: Bus, lanes: Sequence[tuple[str, str]]) -> list[int]:
    """Return the points before which an operator accepts that files are lost."""
    return _points(client, lanes, _LOST)


@parses_reply
def shown_points(client: Bus, lanes: Sequence[tuple[str, str]]) -> list[int]:
    """Return the points up to which masters show lanes of running scans."""
    return _points(client, lanes, _SHOWN)


@parses_reply
def read_cursor(client: Bus, uid: str, lane: str) -> int:
    """Return the first point of a lane that is not known to be durable."""
    (point,) = read_cursors(client, [(uid, lane)])
    return point


@parses_reply
def read_cursors(client: Bus, lanes: Sequence[tuple[str, str]]) -> list[int]:
    """Return the cursor of each ``(uid, lane)``, in one round trip."""
    return _points(client, lanes, WRITER)


def _points(client: Bus, lanes: Sequence[tuple[str, str]], field: str) -> list[int]:
    if not lanes:
        return []
    pipe = client.pipeline(transaction=False)
    for uid, lane in lanes:
        pipe.hget(cursors_key(uid, lane), field)
    replies = replies_or_none(pipe.execute(raise_on_error=False))
    return [_point(value) for value in replies]


def _point(value: bytes | None) -> int:
    """Return a stored cursor as a point; 0 if it is missing or invalid."""
    return int(value) if value and _POINT.fullmatch(value) else 0
