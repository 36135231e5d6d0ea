"""Connection of a subscriber: reconnects after a restart of Redis, up to a deadline.

Every command of a subscriber may be repeated, so one that fails because the connection
was lost is sent again until it succeeds or the deadline is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from scanbus.bus.store import (
    Backoff,
    Bus,
    OwnProcess,
    ServerAddress,
    connect,
    refuse_unsuitable,
    translated,
)
from scanbus.schemas.errors import BusUnavailableError, BusUnsuitableError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Link"]

_T = TypeVar("_T")
# Longest duration of one blocking read; shorter than the timeout of the connection.
BLOCK_S = 1.0
_TIMEOUT_S = 10.0
# Longest wait, in seconds, for a right that Redis denies: it seldom comes back.
_DENIED_S = 5.0

log = get_logger()


class Link:
    """A client of one Redis that repeats commands after a lost connection.

    Safe to share between threads.

    Parameters
    ----------
    url : str
        Address of Redis.
    name : str
        Name in ``CLIENT LIST``.
    reconnect_s : float
        How long to try to reconnect after a working connection was lost, in seconds.
        If Redis has never answered, there is no second attempt.

    Attributes
    ----------
    n_reconnects : int
        Number of reconnections so far.
    """

    def __init__(self, url: str, name: str, reconnect_s: float) -> None:
        self._process = OwnProcess("Subscriber")
        self._url = url = ServerAddress(url)
        self._client = connect(url, name=name, timeout_s=_TIMEOUT_S)
        self._reconnect_s = reconnect_s
        self._worked = False
        self.n_reconnects = 0

    def ask(self, question: Callable[[Bus], _T]) -> _T:
        """Return the result of `question`, which is called with the client.

        Parameters
        ----------
        question : callable
            Sends commands that may be repeated; it is called again after a reconnect.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer, or not again before the deadline.
        BusUnsuitableError
            If it is a node of a Redis Cluster, or denies a command for 5 s.
        ScanStateError
            In a process that was forked after this was made.
        """
        self._process.check()
        try:
            answer = self._ask_once(question)
        except BusUnavailableError as error:
            if not self._worked:
                raise
            answer = self._ask_again(question, error)
        self._worked = True
        return answer

    def close(self) -> None:
        """Close all connections; in a forked process, leave them to the parent."""
        if self._process.is_here:
            self._client.close()

    def _ask_once(self, question: Callable[[Bus], _T]) -> _T:
        with translated(self._url):
            if not self._worked:
                refuse_unsuitable(self._client, self._url)
            return question(self._client)

    def _ask_again(
        self, question: Callable[[Bus], _T], error: BusUnavailableError
    ) -> _T:
        log.warning(
            LogEvent.BUS_LOST, reason=error.reason, reconnect_s=self._reconnect_s
        )
        is_denied = isinstance(error, BusUnsuitableError)
        wait_s = min(self._reconnect_s, _DENIED_S) if is_denied else self._reconnect_s
        deadline = time.monotonic() + wait_s
        backoff = Backoff()
        while time.monotonic() < deadline:
            time.sleep(min(backoff.next_s(), max(0.0, deadline - time.monotonic())))
            try:
                answer = self._ask_once(question)
            except BusUnavailableError as again:
                error = again
            else:
                self.n_reconnects += 1
                log.info(LogEvent.BUS_RESTORED)
                return answer
        raise error
