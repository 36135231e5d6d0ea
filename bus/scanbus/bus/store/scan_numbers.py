"""Scan numbers: a counter for each dataset, and what only the disk knows of them.

Numbers belong to the disk, which Redis does not see. Who needs to know asks the writers
through a stream of requests; a writer removes a request that it has answered, so what
stands there was asked while none was alive.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from scanbus.bus.protocol.keys import (
    ANNOUNCEMENTS,
    NUMBER_REQUESTS,
    claim_key,
    number_key,
    raised_key,
)
from scanbus.bus.store.bounded_read import read_bounded
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.heartbeats import beat_publisher
from scanbus.bus.store.number_scripts import CLAIM, RAISE, RELEASE, TAKE_AFTER
from scanbus.bus.store.replies import parses_reply, stream_id
from scanbus.bus.store.wrong_types import replies_or_none
from scanbus.schemas import MAX_COUNTED_NUMBER, ScanAnnounced
from scanbus.schemas.errors import NoNumberLeftError, ScanNumberTakenError

__all__ = [
    "NumberAnswer",
    "NumberClaim",
    "NumberRequest",
    "announce_claimed",
    "answer_request",
    "ask_writers",
    "claim_scan_number",
    "count_scan",
    "next_scan_number",
    "raise_scan_number",
    "read_number_requests",
    "release_scan_number",
    "take_number_after",
]

# Requests that are kept while no writer is alive; the oldest are forgotten first.
_MAX_REQUESTS: Final = 10_000
_MAX_REQUEST_BYTES: Final = 2000
_ANSWER_MS: Final = 60_000
# A claim lasts until the announcement; this is for programs that die in between.
_CLAIM_MS: Final = 30_000

# Its first write frees memory, so a full Redis accepts it.
_ANNOUNCE: Final = """
local is_claimed = redis.call('TYPE', KEYS[2]).ok == 'string'
local holder = is_claimed and redis.call('GET', KEYS[2]) or ARGV[1]
if holder == ARGV[1] then
  redis.call('DEL', KEYS[2])
elseif ARGV[3] == '1' then
  return {holder, ''}
end
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
redis.call('XTRIM', KEYS[1], 'MINID', '0-1')
return {'', redis.call('XADD', KEYS[1], '*', 'doc', ARGV[2])}
"""

# A full Redis refuses XADD, but not in a script whose first write frees memory.
_ASK = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])
return redis.call('XADD', KEYS[1], '*', 'dataset', ARGV[2], 'number', ARGV[3],
  'reply', ARGV[4])
"""
_ANSWER = """
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


@dataclass(frozen=True, slots=True)
class NumberRequest:
    """A question about the numbers of a dataset on the disk.

    Attributes
    ----------
    id : str
        Its id in the stream of requests.
    dataset : str
        Folder of the dataset, relative to the root; it is not validated.
    number : int
        The number that a program gave, 0 if it gave none.
    reply : str
        Key of the answer.
    """

    id: str
    dataset: str
    number: int
    reply: str


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """What the disk says.

    Attributes
    ----------
    last : int
        The largest number of the dataset that is taken; 0 if none is.
    holder : str
        What has the number of the request; empty if nothing has.
    """

    last: int
    holder: str = ""


@dataclass(frozen=True, slots=True)
class NumberClaim:
    """How a number was claimed for a scan that is to be opened.

    Attributes
    ----------
    number : int
        The number.
    known : int
        What the counter was before.
    holder : str
        Uid of the scan that has claimed it; empty if this one has it now.
    """

    number: int
    known: int
    holder: str


@parses_reply
def claim_scan_number(client: Bus, dataset: str, uid: str, number: int) -> NumberClaim:
    """Claim a number that a program gave, until the scan is announced.

    Whoever else wants it meanwhile is told; all in one step of Redis.

    Parameters
    ----------
    uid : str
        Uid of the scan.
    number : int
        The number.
    """
    reply: Any = _claim(client, dataset, uid, number=number)
    claimed, known, holder = reply
    return NumberClaim(int(claimed), int(known), bytes(holder).decode("utf-8"))


@parses_reply
def next_scan_number(client: Bus, dataset: str, uid: str, *, known: int = 0) -> int:
    """Return the next scan number of a dataset, claimed for a scan.

    Parameters
    ----------
    uid : str
        Uid of the scan.
    known : int
        A number that is taken, and smaller ones with it.

    Raises
    ------
    NoNumberLeftError
        If the largest one that is counted is taken.
    """
    return _counted(_claim(client, dataset, uid, known=known)[0], dataset)


@parses_reply
def count_scan(client: Bus, dataset: str, uid: str, *, known: int = 0) -> int | None:
    """Do as `next_scan_number`, but only where Redis has a counter of the dataset.

    None without one: the writers are to be asked first.
    """
    reply = _claim(client, dataset, uid, known=known, is_counted=True)
    return None if reply is None else _counted(reply[0], dataset)


def _counted(reply: Any, dataset: str) -> int:
    if not int(reply):
        raise NoNumberLeftError(dataset, MAX_COUNTED_NUMBER)
    return int(reply)


def _claim(
    client: Bus,
    dataset: str,
    uid: str,
    *,
    number: int = 0,
    known: int = 0,
    is_counted: bool = False,
) -> Any:
    keys = (number_key(dataset), raised_key(dataset), claim_key(dataset, ""))
    values = (uid, number, _CLAIM_MS, known, int(is_counted))
    return client.eval(CLAIM, 3, *keys, *values)


@parses_reply
def release_scan_number(
    client: Bus, dataset: str, uid: str, number: int, *, is_taken: bool = False
) -> int | None:
    """Release the claim of a scan that is not announced, if it has one.

    Parameters
    ----------
    is_taken : bool
        Whether another scan has the number: the counter stays.

    Returns
    -------
    int or None
        What the counter is again; None if it stays.
    """
    keys = (number_key(dataset), raised_key(dataset), claim_key(dataset, number))
    lowered: Any = client.eval(RELEASE, 3, *keys, uid, number, int(not is_taken))
    return None if int(lowered) < 0 else int(lowered)


@parses_reply
def announce_claimed(
    client: Bus,
    document: ScanAnnounced,
    *,
    is_given: bool,
    publisher: str = "",
    ttl_ms: int = 0,
) -> str:
    """Announce a new scan, also on a full Redis, and release the claim of its number.

    Its heartbeat begins before, for a reader of the announcement looks for it.

    Parameters
    ----------
    is_given : bool
        Whether the program gave the number. The writer gives another one to a scan
        whose number is the counter's and taken.
    publisher : str
        Text of the heartbeat; with none, there is none.
    ttl_ms : int
        Time after which the heartbeat expires.

    Returns
    -------
    str
        Id of the announcement.

    Raises
    ------
    ScanNumberTakenError
        If the program gave it, and meanwhile another scan has claimed it: the claim has
        expired.
    """
    scan = document.scan
    keys = (ANNOUNCEMENTS, claim_key(scan.dataset_folder, scan.scan_number))
    values = (scan.uid, document.to_json(), int(is_given))
    pipe: Any = client.pipeline(transaction=False)
    if publisher:
        beat_publisher(pipe, scan.uid, publisher, ttl_ms)
    pipe.eval(_ANNOUNCE, 2, *keys, *values)
    *_, reply = replies_or_none(pipe.execute(raise_on_error=False))
    holder, announcement = reply
    if holder:
        raise ScanNumberTakenError(
            scan.scan_number, scan.dataset_folder, f"scan {bytes(holder).decode()}"
        )
    return stream_id(announcement)


@parses_reply
def raise_scan_number(client: Bus, dataset: str, number: int) -> int | None:
    """Raise a dataset's counter so that the next numbers are larger than `number`.

    One that does not count, as it is beyond the limit, raises nothing.

    Returns
    -------
    int or None
        What it was before; None if Redis had no counter.
    """
    known: Any = client.eval(RAISE, 2, number_key(dataset), raised_key(dataset), number)
    return None if int(known) < 0 else int(known)


@parses_reply
def take_number_after(client: Bus, dataset: str, last: int) -> int:
    """Return the next number that is larger than `last`, also on a full Redis.

    Raises
    ------
    NoNumberLeftError
        If there is none that is counted.
    """
    number: Any = client.eval(TAKE_AFTER, 1, number_key(dataset), last)
    return _counted(number, dataset)


def ask_writers(
    client: Bus, dataset: str, number: int = 0, *, wait_s: float = 0.0
) -> NumberAnswer | None:
    """Have a writer raise a dataset's counter to the numbers on the disk.

    Parameters
    ----------
    number : int
        Number that a program gave: is it taken?
    wait_s : float
        Longest wait for the answer, in seconds; with 0 it is not waited for, and the
        next writer raises the counter.

    Returns
    -------
    NumberAnswer or None
        None if no writer answered in time.
    """
    reply = f"scanbus:reply:{secrets.token_hex(8)}"
    client.eval(_ASK, 1, NUMBER_REQUESTS, _MAX_REQUESTS, dataset, number, reply)
    if not wait_s:
        return None
    found: Any = client.blpop([reply], timeout=wait_s)
    return None if found is None else _answer_in(found[1])


def _answer_in(text: bytes) -> NumberAnswer | None:
    try:
        said = from_json(text)
        return NumberAnswer(int(said["last"]), str(said["holder"]))
    except (ValueError, TypeError, KeyError):
        return None


def read_number_requests(client: Bus, after: str) -> list[NumberRequest]:
    """Return the requests after an id, oldest first; what is none is removed."""
    limits = {"count": 256, "total": 1 << 20, "single": _MAX_REQUEST_BYTES}
    found: list[NumberRequest] = []
    for entry_id, fields in read_bounded(client, NUMBER_REQUESTS, after, **limits):
        text = [bytes(each).decode("utf-8", "replace") for each in (entry_id, *fields)]
        said = dict(zip(text[1::2], text[2::2], strict=False))
        number = said.get("number", "")
        is_number = number.isascii() and number.isdigit() and len(number) <= 8
        found.append(
            NumberRequest(
                text[0],
                said.get("dataset", ""),
                int(number) if is_number else 0,
                said.get("reply", ""),
            )
        )
    return found


def answer_request(
    client: Bus, request: NumberRequest, answer: NumberAnswer | None
) -> None:
    """Answer a request and remove it; with None it is only removed."""
    if answer is not None:
        raise_scan_number(client, request.dataset, answer.last)
        if request.reply.startswith("scanbus:reply:"):
            text = json.dumps({"last": answer.last, "holder": answer.holder})
            client.eval(_ANSWER, 1, request.reply, text, _ANSWER_MS)
    client.xdel(NUMBER_REQUESTS, request.id)
