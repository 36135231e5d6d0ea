"""The events of one scan, in order, with how many Redis and the spool have."""

from __future__ import annotations

from collections.abc import Sequence

from scanbus.schemas import (
    MAX_LOST,
    Event,
    LostData,
    ScanEnded,
    ScanIdentity,
    ScanPrepared,
)

__all__ = ["EventQueue"]


class EventQueue:
    """The events of one scan, and how many of them Redis and the spool have.

    State only, guarded by the scan's lock.

    Parameters
    ----------
    is_spooled : bool
        Whether an event is written to a spool before it is sent.
    """

    def __init__(self, *, is_spooled: bool) -> None:
        self._events: list[Event] = []
        self._lost: tuple[LostData, ...] = ()
        self._is_spooled = is_spooled
        self._n_sent = 0
        self._n_spooled = 0

    def begin(self, events: Sequence[Event], *, n_sent: int) -> None:
        """Set the first events: the spool has them all, Redis the first `n_sent`."""
        self._events = list(events)
        self._n_sent = n_sent
        self._n_spooled = len(self._events)

    def add(self, event: Event) -> None:
        """Append one event."""
        self._events.append(self._completed(event))

    def begin_again(self, scan: ScanIdentity, parent: str) -> None:
        """Let them be events of another scan, with nothing sent but the start."""
        update = {"scan": scan, "parent": parent, "original_uid": ""}
        self._events = [
            each.model_copy(update=update) if isinstance(each, ScanPrepared) else each
            for each in self._events
        ]
        # Not the end: it comes after all seals.
        ends = (n for n, each in enumerate(self._events) if isinstance(each, ScanEnded))
        self._n_sent = min(self._n_sent, next(ends, self._n_sent))

    def note_lost(self, lost: LostData) -> None:
        """Name data that the spool lost in the end of the scan, if it is not sent."""
        self._lost = (*self._lost, lost)[:MAX_LOST]
        for index in range(self._n_sent, len(self._events)):
            self._events[index] = self._completed(self._events[index])

    def _completed(self, event: Event) -> Event:
        if not (self._lost and isinstance(event, ScanEnded)):
            return event
        return event.model_copy(update={"lost": self._lost})

    def has(self, event: Event) -> bool:
        """Return whether this event was added, whatever was lost since."""
        return any(_without_lost(event) == _without_lost(each) for each in self._events)

    def unsent(self, most: int) -> list[Event]:
        """Return the first events that may be sent now, `most` at most."""
        ready = self._n_spooled if self._is_spooled else len(self._events)
        return self._events[self._n_sent : min(ready, self._n_sent + most)]

    @property
    def next_unspooled(self) -> Event | None:
        """The event to be written to the spool now."""
        n_spooled = self._n_spooled
        return self._events[n_spooled] if n_spooled < len(self._events) else None

    @property
    def count(self) -> int:
        """Number of events that were added."""
        return len(self._events)

    @property
    def n_handed_over(self) -> int:
        """Number of events in the spool, or without a spool in Redis."""
        return self._n_spooled if self._is_spooled else self._n_sent

    @property
    def sent(self) -> list[Event]:
        """Events that Redis has, or had."""
        return self._events[: self._n_sent]

    @property
    def are_sent(self) -> bool:
        """Whether Redis has all of them."""
        return self._n_sent == len(self._events)

    def note_sent(self, n_events: int) -> None:
        """Mark the next events as sent."""
        self._n_sent += n_events

    def note_spooled(self) -> None:
        """Mark the next event as written to the spool."""
        self._n_spooled += 1


def _without_lost(event: Event) -> Event:
    is_end = isinstance(event, ScanEnded)
    return event.model_copy(update={"lost": ()}) if is_end else event
