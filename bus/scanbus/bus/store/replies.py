"""Check replies of Redis: one that does not fit its command is an error of Redis.

A proxy, a server of another kind or a mixed-up connection may answer anything. Code
that parses such a reply would fail in a way that looks like a bug of scanbus.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from scanbus.bus.store.lazy_redis import redis
from scanbus.schemas.errors import ScanbusError

__all__ = ["parses_reply", "stream_entries", "stream_id", "streams"]

_ID: Final = re.compile(rb"\d{1,20}-\d{1,20}")
_MISFITS: Final = (TypeError, ValueError, LookupError, AttributeError, OverflowError)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def parses_reply(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a function that sends a command and parses its reply.

    If the reply cannot be parsed, redis-py's ``InvalidResponse`` is raised, which
    counts as a lost connection: the caller connects again and compares.
    """

    @wraps(function)
    def parsed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except ScanbusError:
            raise
        except _MISFITS as error:
            raise redis.exceptions.InvalidResponse(
                f"the reply in {function.__name__} does not fit: {error}"
            ) from error

    return parsed


@parses_reply
def stream_id(reply: Any) -> str:
    """Return a reply that must be the id of a stream's entry."""
    if not _ID.fullmatch(reply):
        raise ValueError(f"{reply[:40]!r} is no id")
    return str(reply, "ascii")


@parses_reply
def stream_entries(reply: Any) -> list[Any]:
    """Return a reply that must be entries of one stream, ids and fields."""
    entries: list[Any] = list(reply or ())
    for entry_id, fields in entries:
        if not _ID.fullmatch(entry_id) or not isinstance(fields, list):
            raise ValueError(f"{entry_id[:40]!r} is no entry")
    return entries


@parses_reply
def streams(reply: Any, keys: Iterable[str]) -> dict[str, list[Any]]:
    """Return a reply of XREAD, of some of these keys, as their entries by key."""
    known = {key.encode(): key for key in keys}
    return {known[key]: stream_entries(entries) for key, entries in reply or ()}
