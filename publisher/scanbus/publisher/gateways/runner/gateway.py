"""What a gateway is for the runner: it connects, and translates messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from scanbus.publisher.gateways.runner.messages import Message

__all__ = ["Gateway", "RawMessage", "ScanListener", "Source"]


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it came.

    Parameters
    ----------
    content : object
        What the gateway's `decode` takes.
    n_bytes : int
        Its size, for the bound of the queue.
    arrival : float
        When it came, in seconds since 1970.
    """

    content: Any
    n_bytes: int
    arrival: float


class Source(Protocol):
    """A connection to a sender; the receiver's thread alone uses it."""

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message; None if none came in time.

        It reconnects by itself, and never waits longer.
        """
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Gateway(Protocol):
    """Connects to one kind of sender and translates what it sends."""

    @property
    def kind(self) -> str:
        """Name of the gateway, as in ``scanbus publish KIND``."""
        ...

    @property
    def address(self) -> str:
        """From where it receives, as the user says it; with the kind, its name."""
        ...

    @property
    def detector(self) -> str:
        """Name of the detector's channel, unless the user gives one."""
        ...

    def open(self) -> Source:
        """Connect; called in the receiver's thread.

        Raises
        ------
        ConfigurationError
            If the address is none.
        """
        ...

    def decode(self, content: Any) -> Message:
        """Return what a message says; it keeps no state.

        Raises
        ------
        MessageError
            If the message cannot be used.
        """
        ...


@runtime_checkable
class ScanListener(Protocol):
    """A gateway that must know which of its data are safe: its sender keeps them."""

    def scan_opened(self, key: str, uid: str, next_number: int) -> None:
        """Take note of the scan of a series; called before its first frame is decoded.

        Parameters
        ----------
        key : str
            Key of the series.
        uid : str
            Uid of its scan.
        next_number : int
            Frames before this number are in the scan already, or are gaps in it.
        """
        ...
