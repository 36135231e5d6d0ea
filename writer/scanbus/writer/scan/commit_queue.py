"""Finished segments on their way to their final names, one after the other.

A thread of its own closes, verifies and publishes them, while the lanes go on. None is
published behind one that failed: a cursor says that everything before it is durable,
so acknowledging a segment whose predecessor failed would have that one trimmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Self

from scanbus.writer.scan.lane_writer import FinishedSegment, LaneWriter

__all__ = ["CommitQueue", "Stopped"]

# Each segment that waits to be published has a file open and its points in memory.
_MOST_WAITING = 16


class Stopped(Exception):  # noqa: N818  (no error: somebody asked for it)
    """The attempt was asked to end; a successor goes on."""


class CommitQueue:
    """The finished segments of one attempt that are not published yet.

    One scan writer owns it. As a context it ends its thread, and waits until that is
    done with what it has; what was not published can be asked for afterwards.

    Parameters
    ----------
    publish : callable
        Publishes one segment of a lane, in the thread.
    """

    def __init__(self, publish: Callable[[LaneWriter, FinishedSegment], None]) -> None:
        self._publish = publish
        self._waiting: list[tuple[LaneWriter, FinishedSegment, Future[None]]] = []
        self._has_failed = False
        self._thread = ThreadPoolExecutor(1, "scanbus-finish")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    @property
    def is_empty(self) -> bool:
        """Whether all segments were published."""
        return not self._waiting

    @property
    def is_full(self) -> bool:
        """Whether so many wait that no more points should be read."""
        return len(self._waiting) >= _MOST_WAITING

    def submit(self, lane: LaneWriter, finished: FinishedSegment) -> None:
        """Have a segment published behind those that were submitted before."""
        future = self._thread.submit(self._publish_next, lane, finished)
        self._waiting.append((lane, finished, future))

    def wait(self, timeout_s: float) -> None:
        """Wait until the next segment is published, or failed, or time is up."""
        if self._waiting:
            wait([self._waiting[0][2]], timeout=timeout_s)

    def published(self) -> Iterator[tuple[LaneWriter, FinishedSegment]]:
        """Yield the segments that were published since the last time; raise for others.

        One that failed stays in the queue: it is kept or discarded in the end.
        """
        while self._waiting and self._waiting[0][2].done():
            lane, finished, future = self._waiting[0]
            future.result()
            del self._waiting[0]
            yield lane, finished

    def unpublished(self, lane: LaneWriter) -> list[FinishedSegment]:
        """Return the segments of a lane that are not published."""
        return [finished for of, finished, _ in self._waiting if of is lane]

    def _publish_next(self, lane: LaneWriter, finished: FinishedSegment) -> None:
        if self._has_failed:
            raise Stopped
        try:
            self._publish(lane, finished)
        except BaseException:
            self._has_failed = True
            raise
