"""Write to lanes: create them, append entries, compare after a lost connection.

A batch is appended as a whole or not at all: if Redis refused one entry for lack of
memory and accepted the next, the lane would have a gap that cannot be filled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scanbus.bus.protocol.entries import (
    HEADER_FIELD,
    PAYLOAD_FIELD,
    session_of,
)
from scanbus.bus.protocol.keys import lane_key
from scanbus.bus.protocol.retransmit import EncodedEntry
from scanbus.bus.store.connection import Bus, no_room_reason
from scanbus.bus.store.lane_fetch import read_seal
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.replies import parses_reply, stream_entries, stream_id
from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import BadEntryError, LaneConflictError

__all__ = [
    "NoRoomError",
    "VanishedError",
    "append_each",
    "append_entries",
    "ends_of_streams",
    "lanes_in_use",
    "make_lane",
    "make_lanes",
    "sealed_length",
    "stored_session",
    "stored_sessions",
    "stream_ends",
]

# Consumer group, created and removed at once: in Redis 6.2 the only way to create an
# empty stream.
_MAKER = "scanbus-maker"
_REMOVE_OTHER = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
return 1
"""
# XINFO returns whole entries with their payloads: the script returns their ids only.
_ENDS = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return false end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local first, last = '0-0', '0-0'
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
  if info[i] == 'first-entry' and info[i + 1] then first = info[i + 1][1] end
end
return {first, last}
"""
# Errors of Redis for an id that is not the largest, and for any id after the seal.
_TAKEN = ("equal or smaller", "exhausted the last possible ID")


class NoRoomError(Exception):
    """Redis accepts no data now; the sender catches it and waits.

    Attributes
    ----------
    reason : str
        Error message of Redis.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class VanishedError(Exception):
    """The lane does not exist; the sender catches it and creates the lane again."""


def make_lane(client: Bus, uid: str, lane: str) -> None:
    """Create an empty lane; a lane that exists does not change.

    A key of another type is removed.

    Raises
    ------
    NoRoomError
        If Redis accepts no data now.
    """
    make_lanes(client, uid, [lane])


def make_lanes(client: Bus, uid: str, lanes: Sequence[str]) -> None:
    """Create several lanes, as `make_lane` does, in one round trip if all goes well.

    Raises
    ------
    NoRoomError
        If Redis accepts no data now; some of the lanes may exist then.
    """
    keys = [lane_key(uid, lane) for lane in lanes]
    if _create(client, keys) is None:
        return
    # A full Redis refuses it of lanes that exist, too; a key may have another type.
    kinds = _kinds(client, keys)
    missing = [key for key in keys if kinds[key] != b"stream"]
    pipe: Any = client.pipeline(transaction=False)
    for key in missing:
        if kinds[key] != b"none":
            pipe.eval(_REMOVE_OTHER, 1, key)
    pipe.execute()
    error = _create(client, missing)
    if error is not None:
        raise _no_room(error) from error


def _kinds(client: Bus, keys: Sequence[str]) -> dict[str, bytes]:
    pipe: Any = client.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    return dict(zip(keys, pipe.execute(), strict=True))


def _create(client: Bus, keys: Sequence[str]) -> Exception | None:
    """Create streams that may exist; return the first error."""
    pipe: Any = client.pipeline(transaction=False)
    for key in keys:
        pipe.xgroup_create(key, _MAKER, id="0", mkstream=True)
        pipe.xgroup_destroy(key, _MAKER)
    for reply in pipe.execute(raise_on_error=False):
        # BUSYGROUP: another client creates it just now. A group that could not be
        # created cannot be destroyed: the first error counts.
        if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
            return reply
    return None


@parses_reply
def lanes_in_use(client: Bus, uid: str, lanes: Iterable[str]) -> dict[str, bytes]:
    """Return the lanes that hold entries, or did, each with its last id.

    One round trip where none exists, as for a scan that is prepared for the first time.
    """
    names = list(lanes)
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.exists(lane_key(uid, name))
    there = [name for name, known in zip(names, pipe.execute(), strict=True) if known]
    ends = zip(there, ends_of_streams(client, uid, there), strict=True)
    return {name: end[1] for name, end in ends if end and end[1] != b"0-0"}


@parses_reply
def find_lanes(client: Bus, uid: str) -> list[str]:
    """Return the names of a scan's lanes, found among all keys of Redis.

    For a scan of which nothing on the bus says which lanes it has. Takes a round trip
    for each thousand keys.
    """
    start, end = lane_key(uid, "*").split("*")
    # What a uid may have is no pattern for Redis, and neither are the braces.
    keys = client.scan_iter(match=f"{start}*{end}", count=1000)
    found = (bytes(key).decode("utf-8", "replace") for key in keys)
    return sorted(key.removeprefix(start).removesuffix(end) for key in found)


@parses_reply
def stream_ends(client: Bus, uid: str, lane: str) -> tuple[bytes, bytes] | None:
    """Return the first id in a lane and the largest it ever had.

    None if the lane does not exist. The first id is ``0-0`` if the lane is empty.
    """
    return _ends_in(client.eval(_ENDS, 1, lane_key(uid, lane)))


@parses_reply
def ends_of_streams(
    client: Bus, uid: str, lanes: Sequence[str]
) -> list[tuple[bytes, bytes] | None]:
    """Return what `stream_ends` does of several lanes, in one round trip."""
    if not lanes:
        return []
    pipe: Any = client.pipeline(transaction=False)
    for lane in lanes:
        pipe.eval(_ENDS, 1, lane_key(uid, lane))
    return [_ends_in(reply) for reply in pipe.execute()]


def _ends_in(reply: Any) -> tuple[bytes, bytes] | None:
    if not reply:
        return None
    first, last = map(stream_id, reply)
    return first.encode(), last.encode()


def stored_session(client: Bus, uid: str, lane: str, entry_id: bytes) -> bytes | None:
    """Return the session of an entry in a lane; None if there is no such entry.

    Empty if its header has no session.
    """
    return stored_sessions(client, uid, {lane: entry_id})[lane]


@parses_reply
def stored_sessions(
    client: Bus, uid: str, entries: Mapping[str, bytes]
) -> dict[str, bytes | None]:
    """Return what `stored_session` does of an entry of each lane, in one round trip."""
    if not entries:
        return {}
    pipe: Any = client.pipeline(transaction=False)
    for lane, entry_id in entries.items():
        pipe.xrange(lane_key(uid, lane), entry_id, entry_id)
    replies = map(stream_entries, pipe.execute())
    return {
        lane: session_of(bytes(stored[0][1][1])) if stored else None
        for lane, stored in zip(entries, replies, strict=True)
    }


def sealed_length(client: Bus, uid: str, lane: LaneDescription) -> int | None:
    """Return the length in a lane's seal; None if there is no valid seal."""
    try:
        seal = read_seal(client, uid, lane)
    except BadEntryError:
        return None
    return None if seal is None else seal.first


def append_entries(
    client: Bus, uid: str, lane: str, entries: Sequence[EncodedEntry]
) -> None:
    """Append entries to a lane: all of them, or none and an error.

    Entries that are in the lane already, from an attempt whose reply was lost, count as
    appended.

    Raises
    ------
    NoRoomError
        If Redis accepts no data now.
    VanishedError
        If the lane does not exist.
    LaneConflictError
        If Redis refuses an id, and the lane has no identical entry with that id.
    """
    key = lane_key(uid, lane)
    if len(entries) == 1:
        replies = [_append_one(client, key, entries[0])]
    else:
        replies = _append_together(client, key, entries)
    for entry, reply in zip(entries, replies, strict=True):
        _check_reply(client, lane, key, entry, reply)


def append_each(
    client: Bus, uid: str, entries: Sequence[tuple[str, EncodedEntry]]
) -> list[Exception | None]:
    """Append one entry to each of several lanes, in one round trip.

    Returns
    -------
    list
        For each lane the error that `append_entries` would raise, or None.
    """
    pipe: Any = client.pipeline(transaction=False)
    keys = [lane_key(uid, lane) for lane, _ in entries]
    for key, (_, entry) in zip(keys, entries, strict=True):
        pipe.execute_command("XADD", key, "NOMKSTREAM", entry.id, *_fields(entry))
    outcomes: list[Exception | None] = []
    replies = pipe.execute(raise_on_error=False)
    for key, (lane, entry), reply in zip(keys, entries, replies, strict=True):
        try:
            _check_reply(client, lane, key, entry, reply)
        except (NoRoomError, VanishedError, LaneConflictError) as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
    return outcomes


def _append_one(client: Bus, key: str, entry: EncodedEntry) -> Any:
    """Append one entry; return the reply or the error.

    Without a pipeline, which would take a tenth of the latency of a live point.
    """
    untyped: Any = client
    try:
        return untyped.execute_command(
            "XADD", key, "NOMKSTREAM", entry.id, *_fields(entry)
        )
    except redis.exceptions.ResponseError as error:
        return error


def _append_together(
    client: Bus, key: str, entries: Sequence[EncodedEntry]
) -> list[Any]:
    """Append entries in one transaction; return the reply or the error of each."""
    batch: Any = client.pipeline(transaction=True)
    with batch as pipe:
        for entry in entries:
            pipe.execute_command("XADD", key, "NOMKSTREAM", entry.id, *_fields(entry))
        try:
            replies: list[Any] = pipe.execute(raise_on_error=False)
        except redis.exceptions.ExecAbortError as error:
            raise _no_room(error.__cause__ or error) from error
        except redis.exceptions.ResponseError as error:
            raise _no_room(error) from error
    return replies


def _fields(entry: EncodedEntry) -> tuple[Any, ...]:
    if not len(entry.payload):
        return HEADER_FIELD, entry.header
    return HEADER_FIELD, entry.header, PAYLOAD_FIELD, entry.payload


def _check_reply(
    client: Bus, lane: str, key: str, entry: EncodedEntry, reply: Any
) -> None:
    if reply is None:
        raise VanishedError
    if not isinstance(reply, Exception):
        _check_id(reply, entry)
        return
    if not any(refusal in str(reply) for refusal in _TAKEN):
        raise _no_room(reply)
    stored = stream_entries(client.xrange(key, entry.id, entry.id))
    if not stored or _header_of(stored) != entry.header:
        raise LaneConflictError(lane, entry.id.decode())


@parses_reply
def _check_id(reply: Any, entry: EncodedEntry) -> None:
    if reply != entry.id:
        raise ValueError(f"{reply!r} instead of {entry.id!r}")


@parses_reply
def _header_of(stored: list[Any]) -> bytes:
    return bytes(stored[0][1][1])


def _no_room(error: BaseException) -> BaseException:
    reason = no_room_reason(error)
    return error if reason is None else NoRoomError(reason)
