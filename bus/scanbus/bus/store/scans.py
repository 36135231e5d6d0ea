"""Scans on the bus: the stream of announcements, and the events of each scan.

A reader folds the events of a scan into a :class:`ScanRecord`. Every document may come
twice, so folding is idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from scanbus.bus.protocol.keys import (
    ANNOUNCEMENTS,
    FORGOTTEN,
    NUMBER_REQUESTS,
    POSITION,
    events_key,
    heartbeat_key,
)
from scanbus.bus.protocol.scan_record import ScanRecord
from scanbus.bus.store.bounded_read import OVERSIZE_FIELD, read_bounded
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.replies import (
    parses_reply,
    stream_entries,
    stream_id,
    streams,
)
from scanbus.bus.store.wrong_types import is_wrong_type
from scanbus.schemas import (
    Event,
    ScanAnnounced,
    ScanJudged,
    Verdict,
    parse_announcement,
    parse_event,
)
from scanbus.schemas.documents import (
    MAX_ANNOUNCEMENT_BYTES,
    MAX_DOCUMENT_BYTES,
    check_size,
    uid_of_later,
)
from scanbus.schemas.errors import (
    DocumentError,
    UnknownProtocolError,
)

__all__ = [
    "Announced",
    "announce",
    "announcements",
    "append_event",
    "append_events",
    "has_traces",
    "id_order",
    "is_announced",
    "is_off_the_bus",
    "last_announcement",
    "load_announced",
    "load_record",
    "move_position",
    "read_events",
    "read_final_verdict",
    "read_position",
    "seconds_since",
    "wait_for_announcement",
    "wait_for_events",
    "was_forgotten",
]

DOCUMENT_FIELD: Final = b"doc"
# Limit of one reply in bytes; a single document may be larger.
_REPLY_BYTES = 4 << 20
_DOCUMENTS_PER_READ = 256
# Limit of the events of one command in bytes; a single one may be larger.
_COMMAND_BYTES = 1 << 20
_LARGEST_ID = 2**64 - 1
# As this package writes them; those of other publishers are parsed to be told apart.
_UPDATE = re.compile(rb'\{"protocol":1,"time":[-+.0-9eE]+,"type":"updated",')

# A full Redis refuses XADD, but accepts a script whose first write frees memory.
_APPEND_EVENT = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
redis.call('XTRIM', KEYS[1], 'MINID', '0-1')
local id
for _, document in ipairs(ARGV) do
  id = redis.call('XADD', KEYS[1], '*', 'doc', document)
end
return id
"""
_MOVE_POSITION = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


@dataclass(frozen=True, slots=True)
class Announced:
    """One entry of the stream of announcements.

    Attributes
    ----------
    id : str
        Its id in the stream.
    document : ScanAnnounced or None
        The document; None if it cannot be parsed.
    problem : str
        Why it cannot be parsed, empty if it can.
    later_uid : str
        The scan's uid if it is of a later protocol: a later version of scanbus can
        parse it. Empty otherwise.
    """

    id: str
    document: ScanAnnounced | None
    problem: str = ""
    later_uid: str = ""


def announce(client: Bus, document: ScanAnnounced) -> str:
    """Announce a scan, also on a full Redis; return the id of its announcement."""
    return stream_id(client.eval(_APPEND_EVENT, 1, ANNOUNCEMENTS, document.to_json()))


def append_event(client: Bus, uid: str, event: Event) -> str:
    """Append an event to a scan, also on a full Redis; return its id.

    Raises
    ------
    DocumentError
        If it has more bytes or values than readers accept.
    """
    return stream_id(client.eval(_APPEND_EVENT, 1, events_key(uid), _text_of(event)))


def append_events(client: Bus, uid: str, events: Iterable[Event]) -> int:
    """Append the first of some events together, as many as suit one command.

    Returns
    -------
    int
        How many were appended: at least one, and all or none if there is an error.

    Raises
    ------
    DocumentError
        If the first has more bytes or values than readers accept.
    """
    texts: list[bytes] = []
    n_bytes = 0
    for event in events:
        try:
            text = _text_of(event)
        except DocumentError:
            if not texts:
                raise
            break  # Those before it are not its fault.
        n_bytes += len(text)
        if texts and n_bytes > _COMMAND_BYTES:
            break
        texts.append(text)
    stream_id(client.eval(_APPEND_EVENT, 1, events_key(uid), *texts))
    return len(texts)


def _text_of(event: Event) -> bytes:
    text = event.to_json()
    check_size(text, event.type)
    return text


def announcements(client: Bus, after: str = "0-0") -> Iterator[Announced]:
    """Yield the announcements after an id, oldest first."""
    while reply := _read(client, ANNOUNCEMENTS, after, MAX_ANNOUNCEMENT_BYTES):
        for entry_id, fields in reply:
            after = _text(entry_id)
            yield _announced(after, fields)


def last_announcement(client: Bus) -> str:
    """Return the id of the newest announcement; ``0-0`` if there is none."""
    reply = stream_entries(client.xrevrange(ANNOUNCEMENTS, "+", "-", count=1))
    return _text(reply[0][0]) if reply else "0-0"


def wait_for_announcement(
    client: Bus, after: str, block_ms: int, *, requests_after: str = "$"
) -> bool:
    """Wait for an announcement or a request; return False if none came in time.

    Parameters
    ----------
    after, requests_after : str
        Ids of the last ones that were read.
    """
    ids = {ANNOUNCEMENTS: after, NUMBER_REQUESTS: requests_after}
    return bool(_wait(client, ids, block_ms))


def wait_for_events(
    client: Bus, records: Iterable[ScanRecord], block_ms: int
) -> set[str]:
    """Wait for events that are not folded yet; return the uids of scans with some."""
    found = {events_key(record.uid): record for record in records}
    after = {key: record.last_id for key, record in found.items()}
    return {found[key].uid for key in _wait(client, after, block_ms)}


def _wait(client: Bus, after: dict[str, str], block_ms: int) -> set[str]:
    """Wait for entries after an id in each stream; return the streams with some."""
    keys: Any = after
    # Redis would wait without a timeout for 0.
    reply: Any = client.xread(keys, count=1, block=max(1, block_ms))
    return set(streams(reply, after))


def _announced(entry_id: str, fields: Any) -> Announced:
    try:
        return Announced(entry_id, parse_announcement(_document(fields)))
    except UnknownProtocolError as error:
        later_uid = uid_of_later(_document(fields))
        return Announced(entry_id, None, str(error), later_uid)
    except DocumentError as error:
        return Announced(entry_id, None, str(error))


def read_events(
    client: Bus,
    record: ScanRecord,
    *,
    only: Iterable[bytes] = (),
    skip_updates: bool = False,
) -> bool:
    """Read and fold new events; return whether there were any.

    Parameters
    ----------
    only : iterable of bytes
        Types of the events that are of interest; by default all. Others need not be
        parsed: a scan may have ten thousand updates.
    skip_updates : bool
        Do not parse updates, for a summary that shows none.
    """
    any_new = False
    key, words = events_key(record.uid), tuple(only)
    while reply := _read(client, key, record.last_id, MAX_DOCUMENT_BYTES):
        for entry_id, fields in reply:
            record.last_id = _text(entry_id)
            any_new = True
            try:
                document = _document(fields)
                if skip_updates and _UPDATE.match(document):
                    continue
                if not words or any(word in document for word in words):
                    record.fold(parse_event(document))
            except DocumentError as error:
                record.problems.append(f"event {record.last_id}: {error}")
    return any_new


def read_final_verdict(client: Bus, uid: str) -> Verdict | None:
    """Return the final verdict on a scan of which nothing else can be parsed."""
    after = "0-0"
    while reply := _read(client, events_key(uid), after, MAX_DOCUMENT_BYTES):
        for entry_id, fields in reply:
            after = _text(entry_id)
            with suppress(DocumentError):
                event = parse_event(_document(fields))
                verdict = event.verdict if isinstance(event, ScanJudged) else None
                if verdict and verdict.uid == uid and not verdict.provisional:
                    return verdict
    return None


def is_announced(client: Bus, announcement: str, uid: str) -> bool:
    """Whether the announcement with this id exists and is that of this scan."""
    try:
        found: Any = client.xrange(ANNOUNCEMENTS, announcement, announcement)
    except redis.exceptions.ResponseError as error:
        if is_wrong_type(error):
            return False
        raise
    reply = stream_entries(found)
    lines = [_announced(_text(entry_id), fields) for entry_id, fields in reply]
    return any(
        (line.document.scan.uid if line.document else line.later_uid) == uid
        for line in lines
    )


def was_forgotten(client: Bus, announcement: str, uid: str) -> bool:
    """Whether a scan was finished and then removed from the bus to free memory.

    False if Redis lost it: its publisher may announce it again.
    """
    if is_announced(client, announcement, uid):
        return False
    newest = _stored_id(client, FORGOTTEN)
    return id_order(announcement) <= id_order(newest)


def is_off_the_bus(client: Bus, uid: str) -> bool:
    """Whether a prepared scan was removed from the bus, without its announcement's id.

    False as long as this Redis has removed no scan at all: a Redis that lost its data
    waits for publishers to announce their scans again.
    """
    return not has_traces(client, uid) and bool(client.exists(FORGOTTEN))


def has_traces(client: Bus, uid: str) -> bool:
    """Whether a scan has events, or a publisher that is alive."""
    return bool(client.exists(events_key(uid), heartbeat_key(uid)))


def id_order(entry_id: str) -> tuple[int, int]:
    """Return the sort key of a stream id: its two numbers."""
    first, _, second = entry_id.partition("-")
    return int(first), int(second)


@parses_reply
def seconds_since(client: Bus, entry_id: str) -> float:
    """Return the time since a stream entry was added, by the clock of Redis."""
    now: Any = client.time()
    return int(now[0]) + int(now[1]) / 1e6 - id_order(entry_id)[0] / 1000


def load_record(
    client: Bus, announced: ScanAnnounced, *, skip_updates: bool = False
) -> ScanRecord:
    """Return the state of a scan from all its events so far."""
    record = ScanRecord(announced.scan, announced.title)
    read_events(client, record, skip_updates=skip_updates)
    return record


def load_announced(
    client: Bus,
    announcement: str,
    announced: ScanAnnounced,
    *,
    skip_updates: bool = False,
) -> ScanRecord | None:
    """Return the state of an announced scan; None if it was removed since."""
    record = load_record(client, announced, skip_updates=skip_updates)
    is_there = record.final_verdict is not None
    if is_there or not was_forgotten(client, announcement, record.uid):
        return record
    return None


def read_position(client: Bus) -> str:
    """Return the id of an announcement; every scan up to it has its final verdict."""
    return _stored_id(client, POSITION)


def _get(client: Bus, key: str) -> Any:
    try:
        return client.get(key)
    except redis.exceptions.ResponseError as error:
        if is_wrong_type(error):
            return None
        raise


@parses_reply
def _stored_id(client: Bus, key: str) -> str:
    """Return the stream id stored in a key; ``0-0`` if it is missing or invalid."""
    stored: Any = _get(client, key)
    text = _text(stored) if stored else "0-0"
    match = re.fullmatch(r"(\d{1,20})-(\d{1,20})", text)
    in_range = match and max(int(match[1]), int(match[2])) <= _LARGEST_ID
    return text if in_range else "0-0"


def move_position(client: Bus, position: str) -> None:
    """Record that every scan up to an announcement has its final verdict."""
    client.eval(_MOVE_POSITION, 1, POSITION, position)


def _read(client: Bus, key: str, after: str, single: int) -> list[Any]:
    limits = {"count": _DOCUMENTS_PER_READ, "total": _REPLY_BYTES, "single": single}
    return read_bounded(client, key, after, **limits)


def _document(fields: Any) -> bytes:
    """Return the document of one raw stream entry.

    Raises
    ------
    DocumentError
        If it has none, or one that is larger than readers accept.
    """
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    if DOCUMENT_FIELD in pairs:
        return bytes(pairs[DOCUMENT_FIELD])
    size = pairs.get(OVERSIZE_FIELD)
    reason = f"{_text(size)} bytes are too many" if size else "field 'doc' is missing"
    raise DocumentError("document", reason)


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
