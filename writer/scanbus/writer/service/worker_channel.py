"""Messages between the service and a worker, over a pair of connected sockets.

A message is a list, packed with MessagePack: its kind, the number of the attempt that
it is about, and values. Nothing is pickled. Both ends are private to the service and
its child, so what arrives is not checked again.

From the service: ``configure``, ``start``, ``reply``, ``masters``, ``stop``. From a
worker: ``ready``, ``alive``, ``call``, ``acknowledge``, ``show``, ``points``, ``log``,
``ended``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

import msgpack

from scanbus.schemas import ScanIdentity, Verdict

__all__ = ["AttemptOrder", "Channel", "Outcome", "PeerGoneError"]

# So many messages are handled together at most.
_MOST_TOGETHER = 256
# Paths may hold bytes that are no text.
_ANY_TEXT = "surrogateescape"


class PeerGoneError(Exception):
    """The process at the other end is gone."""


class Channel:
    """One end of the sockets. Any thread may send, one thread receives.

    Parameters
    ----------
    connection : multiprocessing.connection.Connection
        Closed by `close`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send one message; waits while the other end does not read.

        Raises
        ------
        PeerGoneError
            If the other end is closed.
        """
        packed = msgpack.packb(message, default=str, unicode_errors=_ANY_TEXT)
        try:
            with self._lock:
                self._connection.send_bytes(packed)
        except OSError as error:
            raise PeerGoneError from error

    def receive(self, timeout_s: float | None = None) -> list[list[Any]]:
        """Return the messages that are there, in order; wait for the first one.

        Returns
        -------
        list
            Empty if nothing came within `timeout_s`.

        Raises
        ------
        PeerGoneError
            If the other end is closed, and all its messages were received.
        """
        found: list[list[Any]] = []
        try:
            while len(found) < _MOST_TOGETHER and self._connection.poll(
                0 if found else timeout_s
            ):
                packed = self._connection.recv_bytes()
                found.append(msgpack.unpackb(packed, unicode_errors=_ANY_TEXT))
        except (EOFError, OSError) as error:
            if not found:
                raise PeerGoneError from error
        return found

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


@dataclass(frozen=True)
class AttemptOrder:
    """What a worker is told about an attempt.

    Attributes
    ----------
    number : int
        Number of the attempt, unique in the service.
    identity : ScanIdentity
        The scan's.
    title : str
        From its announcement.
    fence : int
        Fence of the lease, which the service holds.
    needed_bytes : int
        Estimate of an earlier attempt of the bytes that the scan needs; 0 if none.
    examines : bool
        Whether entries are unpacked in a child process first.
    """

    number: int
    identity: ScanIdentity
    title: str
    fence: int
    needed_bytes: int = 0
    examines: bool = False

    def to_message(self) -> dict[str, Any]:
        """Return the values of a message."""
        identity = self.identity.model_dump_json()
        return {**vars(self), "identity": identity}

    @classmethod
    def from_message(cls, values: dict[str, Any]) -> Self:
        """Return the order that a message holds."""
        identity = ScanIdentity.model_validate_json(values["identity"])
        restored: dict[str, Any] = {**values, "identity": identity}
        return cls(**restored)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; without verdict and problem: it was told to stop.

    Attributes
    ----------
    verdict : Verdict or None
        The verdict that it reached.
    problem : str
        Sentence about what ended it.
    trace : str
        Traceback of an error that nobody foresaw.
    needs_operator : bool
        Whether another attempt meets the same problem, as long as nobody does something
        about it.
    needed_bytes : int
        Estimate of the bytes that the scan needs on the disk; 0 if unknown.
    last_event : str
        Id of the last event of the scan that it read.
    has_died : bool
        Whether its worker died.
    met_publisher : bool
        Whether the scan's publisher was alive meanwhile.
    """

    verdict: Verdict | None = None
    problem: str = ""
    trace: str = ""
    needs_operator: bool = False
    needed_bytes: int = 0
    last_event: str = "0-0"
    has_died: bool = False
    met_publisher: bool = False

    def to_message(self) -> dict[str, Any]:
        """Return the values of a message."""
        verdict = self.verdict.model_dump_json() if self.verdict else ""
        return {**vars(self), "verdict": verdict}

    @classmethod
    def from_message(cls, values: dict[str, Any]) -> Self:
        """Return the outcome that a message holds."""
        said = values["verdict"]
        verdict = Verdict.model_validate_json(said) if said else None
        restored: dict[str, Any] = {**values, "verdict": verdict}
        return cls(**restored)
