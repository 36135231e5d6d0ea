"""Retry a call to Redis while it has no room.

Opening a scan needs a few calls before anything can be queued. They are retried while
Redis is full or loading, or refuses with an error that nobody knows; a Redis that does
not answer is an error at once, unless the caller wants retries then too.
"""

from __future__ import annotations

# As a module: a program may patch it by gevent after it imported this.
import time
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from scanbus.bus.store import Backoff, NoRoomError, no_room_reason, translated
from scanbus.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    BusUnsuitableError,
    DeadlineError,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["retry_until_room"]

log = get_logger()

_T = TypeVar("_T")


def retry_until_room(
    call: Callable[[], _T],
    *,
    what: str,
    url: str,
    deadline_s: float,
    retry_unavailable: bool = False,
) -> _T:
    """Return ``call()``; while Redis has no room, wait and try again.

    The writer makes room: it alone removes data from Redis.

    Parameters
    ----------
    call : callable
        Makes one or more calls to Redis; may be repeated.
    what : str
        The wait, for messages.
    url : str
        Address of Redis, for errors.
    deadline_s : float
        Longest time for all tries, in seconds.
    retry_unavailable : bool
        Retry also if Redis does not answer: it may be restarting.

    Raises
    ------
    DeadlineError
        If there is no room in time.
    BusUnavailableError
        If Redis does not answer, or denies a command to this user; with
        `retry_unavailable`, not in time.
    BusRefusedError
        If it answers with an unknown error until the deadline.
    """
    started = monotonic()
    backoff = Backoff()
    while True:
        try:
            return _call_once(call, url)
        except NoRoomError as error:
            problem: Exception = DeadlineError(
                what, monotonic() - started, error.reason
            )
            reason = error.reason
        except BusUnavailableError as error:
            if not (retry_unavailable or _may_pass(error)):
                raise
            problem, reason = error, error.reason
        left_s = started + deadline_s - monotonic()
        if left_s <= 0:
            raise problem
        if backoff.is_first:
            log.warning(LogEvent.WAITING_FOR_REDIS, what=what, reason=reason)
        time.sleep(min(backoff.next_s(), left_s))


def _may_pass(error: BusUnavailableError) -> bool:
    """Whether Redis answered with an error that may be temporary."""
    is_refused = isinstance(error, BusRefusedError)
    return is_refused and not isinstance(error, BusUnsuitableError)


def _call_once(call: Callable[[], _T], url: str) -> _T:
    """Return ``call()``; raise NoRoomError for every reply that means no room."""
    with translated(url):
        try:
            return call()
        except Exception as error:
            reason = no_room_reason(error)
            if reason is None:
                raise
            raise NoRoomError(reason) from error
