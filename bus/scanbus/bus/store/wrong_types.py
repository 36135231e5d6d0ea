"""Keys of the wrong type: they count as deleted, so that one cannot stop the bus.

Nothing of scanbus writes them, but a program with the password may. A script that
writes a key removes it first if another type is there (``TYPE``, ``DEL``); a reader
takes it for absent, with the functions of this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scanbus.bus.store.lazy_redis import redis

__all__ = ["is_wrong_type", "replies_or_none"]


def is_wrong_type(error: object) -> bool:
    """Whether a reply is the error for a key that holds another type."""
    return isinstance(error, redis.exceptions.ResponseError) and "WRONGTYPE" in str(
        error
    )


def replies_or_none(replies: Iterable[Any]) -> list[Any]:
    """Return the replies of a pipeline that does not raise errors itself.

    None replaces that of a key of the wrong type; any other error is raised.
    """
    found: list[Any] = []
    for reply in replies:
        if is_wrong_type(reply):
            found.append(None)
        elif isinstance(reply, Exception):
            raise reply
        else:
            found.append(reply)
    return found
