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

from scanbus.bus.protocol.keys import NUMBER_REQUESTS, number_key
from scanbus.bus.store.bounded_read import read_bounded
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import is_wrong_type

__all__ = [
    "NumberAnswer",
    "NumberRequest",
    "answer_request",
    "ask_writers",
    "claim_scan_number",
    "has_counter",
    "next_scan_number",
    "raise_scan_number",
    "read_number_requests",
    "take_number_after",
]

# Requests that are kept while no writer is alive; the oldest are forgotten first.
_MAX_REQUESTS: Final = 10_000
_MAX_REQUEST_BYTES: Final = 2000
_ANSWER_MS: Final = 60_000

# A full Redis refuses SET and XADD, but not in a script whose first write frees memory.
_RAISE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local known = tonumber(redis.call('GET', KEYS[1]) or '-1') or -1
if known < tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[1])
end
return known
"""
_TAKE_AFTER = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local known = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
local number = math.max(known, tonumber(ARGV[1])) + 1
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], number)
return number
"""
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


@parses_reply
def next_scan_number(client: Bus, dataset: str) -> int:
    """Return the next scan number of a dataset, by its counter."""
    number: Any = client.incr(number_key(dataset))
    return int(number)


@parses_reply
def raise_scan_number(client: Bus, dataset: str, number: int) -> int | None:
    """Raise a dataset's counter so that the next numbers are larger than `number`.

    Returns
    -------
    int or None
        What it was before; None if Redis had no counter.
    """
    known: Any = client.eval(_RAISE, 1, number_key(dataset), number)
    return None if int(known) < 0 else int(known)


@parses_reply
def take_number_after(client: Bus, dataset: str, last: int) -> int:
    """Return the next number that is larger than `last`, also on a full Redis."""
    number: Any = client.eval(_TAKE_AFTER, 1, number_key(dataset), last)
    return int(number)


def claim_scan_number(client: Bus, dataset: str, number: int) -> bool:
    """Take a given number; return whether no counter had reached it before."""
    known = raise_scan_number(client, dataset, number)
    return known is None or known < number


def has_counter(client: Bus, dataset: str) -> bool:
    """Return whether Redis has a counter of a dataset; without one, ask the writers."""
    try:
        stored: Any = client.get(number_key(dataset))
    except redis.exceptions.ResponseError as error:
        if is_wrong_type(error):
            return False
        raise
    return stored is not None and bytes(stored).isdigit()


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
