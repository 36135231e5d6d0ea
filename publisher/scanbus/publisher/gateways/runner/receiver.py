"""Take messages off a source, in a thread that waits for nothing else.

It calls neither Redis nor the publisher. If its queue is full it takes nothing: the
buffers of the transport and of the sender fill then, which are larger than any here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from scanbus.publisher.gateways.runner.gateway import RawMessage, Source
from scanbus.schemas.errors import ScanbusError, SourceFailedError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["QueueState", "Receiver"]

log = get_logger()

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class QueueState:
    """State of the queue between receiver and publisher.

    Attributes
    ----------
    n_messages, n_bytes : int
        Depth now.
    peak_bytes : int
        Greatest depth so far.
    full_s : float
        Seconds in which it was full, so that nothing was received.
    """

    n_messages: int
    n_bytes: int
    peak_bytes: int
    full_s: float


class Receiver(threading.Thread):
    """Receives messages into a bounded queue.

    Parameters
    ----------
    open_source : callable
        Connects; called in this thread.
    max_bytes, max_messages : int
        Bounds of the queue. One message is always taken.
    why_full : callable
        Returns what keeps the other side from taking messages.
    name : str
        Names the source, for errors.
    """

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        max_bytes: int,
        max_messages: int,
        why_full: Callable[[], str],
        name: str = "the source",
    ) -> None:
        super().__init__(name="scanbus-receiver", daemon=True)
        self._open_source = open_source
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._why_full = why_full
        self._name = name
        self._messages: deque[RawMessage] = deque()
        self._changed = threading.Condition()
        self._must_stop = False
        self._error: ScanbusError | None = None
        self._n_bytes = self._peak_bytes = 0
        self._full_s = 0.0
        self._is_over = False
        self._went_on_at = monotonic()

    # ---------------------------------------------------------- the other side

    def take(self, timeout_s: float) -> RawMessage | None:
        """Return the next message; None if none comes in time, or no more come."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._is_over, timeout_s)
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._n_bytes -= message.n_bytes
            self._changed.notify_all()
            return message

    def request_stop(self) -> None:
        """Receive no more, soon; what is in the queue stays. For signal handlers."""
        self._must_stop = True  # No lock: the handler may interrupt who holds it.

    def stop(self) -> None:
        """Receive no more; what is in the queue stays."""
        self.request_stop()
        with self._changed:
            self._changed.notify_all()

    @property
    def silent_s(self) -> float:
        """Seconds since it last looked for a message, or for room."""
        return monotonic() - self._went_on_at

    @property
    def is_done(self) -> bool:
        """Whether no more messages come, and all were taken."""
        with self._changed:
            return self._is_over and not self._messages

    def raise_error(self) -> None:
        """Raise why the source could not be opened or has failed, if it did.

        Raises
        ------
        SourceFailedError
            If it has failed.
        ScanbusError
            If it could not be opened.
        """
        if self._error is not None:
            raise self._error

    @property
    def state(self) -> QueueState:
        """State of the queue."""
        with self._changed:
            return QueueState(
                len(self._messages), self._n_bytes, self._peak_bytes, self._full_s
            )

    # ------------------------------------------------------------- this thread

    def run(self) -> None:
        """Receive until `stop`."""
        try:
            source = self._open_source()
            try:
                while not self._must_stop:
                    self._went_on_at = monotonic()
                    self._wait_for_room()
                    message = source.receive(_POLL_S)
                    if message is not None:
                        self._put(message)
            finally:
                source.close()
        except ScanbusError as error:
            self._error = error
        except Exception as error:  # The end of this thread: the runner raises it.
            log.exception(LogEvent.SOURCE_FAILED, source=self._name)
            self._error = SourceFailedError(self._name, _reason_of(error))
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _is_full(self) -> bool:
        too_many = len(self._messages) >= self._max_messages
        return too_many or self._n_bytes >= self._max_bytes

    def _wait_for_room(self) -> None:
        with self._changed:
            if not self._is_full():
                return
            began = monotonic()
            log.warning(
                LogEvent.QUEUE_FULL,
                messages=len(self._messages),
                bytes=self._n_bytes,
                reason=self._why_full(),
            )
            while self._is_full() and not self._must_stop:
                self._changed.wait(_POLL_S)
                self._went_on_at = monotonic()
            self._full_s += monotonic() - began

    def _put(self, message: RawMessage) -> None:
        with self._changed:
            self._messages.append(message)
            self._n_bytes += message.n_bytes
            self._peak_bytes = max(self._peak_bytes, self._n_bytes)
            self._changed.notify_all()


def _reason_of(error: Exception) -> str:
    """Return what an error of a library says, in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__
