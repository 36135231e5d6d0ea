"""Queue of finished segments that are published one after the other.

A separate thread closes, verifies and publishes them, while lanes continue. After a
failure no further segment is published: a cursor acknowledges everything before it, so
acknowledging a later segment would allow trimming of the points that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, Self, TypeAlias

from scanbus.writer.scan.lane_writer import FinishedSegment
from scanbus.writer.scan.shared_segments import FinishedShared
from scanbus.writer.steps import waiting

__all__ = ["CommitQueue", "Finished", "Owner", "Stopped"]

Finished: TypeAlias = FinishedSegment | FinishedShared
# Each waiting segment has an open file, and buffers in memory.
_MOST_WAITING = 16


class Stopped(Exception):  # noqa: N818  (a requested stop, not an error)
    """The attempt was stopped on request; a successor continues."""


class Owner(Protocol):
    """What finished segments come from: a lane, or the segments that lanes share."""

    def published(self, finished: Any, /) -> None:
        """Record that a segment is published."""
        ...

    def keep(self, finished: Any, /) -> None:
        """Complete and close unpublished segments."""
        ...

    def discard(self, finished: Any, /) -> None:
        """Close unpublished segments without completing them."""
        ...

    def flush(self) -> None:
        """Flush the open segment."""
        ...

    def confirm(self) -> None:
        """Check that all published segments are in their places."""
        ...


class CommitQueue:
    """Finished but unpublished segments of one attempt, and the thread publishing them.

    One scan writer owns it. Use it as a context manager: on exit it waits for submitted
    segments and ends the thread. `unpublished` can be called afterwards.

    Parameters
    ----------
    publish : callable
        Publishes one segment; called in the thread.
    """

    def __init__(self, publish: Callable[[Finished], None]) -> None:
        self._publish = publish
        self._waiting: list[tuple[Owner, Finished, Future[None]]] = []
        self._has_failed = False
        self._thread = ThreadPoolExecutor(1, "scanbus-finish")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    @property
    def is_empty(self) -> bool:
        """Whether all submitted segments are published."""
        return not self._waiting

    @property
    def is_full(self) -> bool:
        """Whether so many segments wait that no more points should be read."""
        return len(self._waiting) >= _MOST_WAITING

    def submit(self, owner: Owner, finished: Finished) -> None:
        """Queue a segment, to be published after those submitted before."""
        try:
            future = self._thread.submit(self._publish_next, finished)
        except RuntimeError as error:  # The system allows no more threads.
            future = Future()
            future.set_exception(error)
        self._waiting.append((owner, finished, future))

    def wait(self, timeout_s: float) -> None:
        """Wait until the next segment is published or has failed, or until timeout."""
        if self._waiting:
            with waiting():
                wait([self._waiting[0][2]], timeout=timeout_s)

    def published(self) -> Iterator[tuple[Owner, Finished]]:
        """Yield segments published since the last call; raise the error of a failure.

        A failed segment stays in the queue, to be kept or discarded at the end.
        """
        while self._waiting and self._waiting[0][2].done():
            owner, finished, future = self._waiting[0]
            future.result()
            del self._waiting[0]
            yield owner, finished

    def holds(self, finished: Finished | None) -> bool:
        """Whether a segment is submitted and not published yet."""
        return any(one is finished for _, one, _ in self._waiting)

    def unpublished(self, owner: Owner) -> list[Any]:
        """Return the segments of a lane, or the shared ones, that are not published."""
        return [finished for of, finished, _ in self._waiting if of is owner]

    def _publish_next(self, finished: Finished) -> None:
        if self._has_failed:
            raise Stopped
        try:
            self._publish(finished)
        except BaseException:
            self._has_failed = True
            raise
