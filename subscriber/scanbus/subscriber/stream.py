"""Stream of batches of a scan's channels, until every lane is sealed.

Each lane is read once, by a :class:`_Follower`, for all its wanted channels. A blocking
XREAD on all lanes waits for new entries, so there is no polling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from scanbus.bus.protocol import SEAL_ID, Arrival, Kind, LaneReader, split_id
from scanbus.bus.store import Bus, read_lanes, read_newest
from scanbus.schemas.errors import NoLongerError, ScanInterruptedError
from scanbus.subscriber.batch import Batch
from scanbus.subscriber.connection import Link
from scanbus.subscriber.deadline import Deadline
from scanbus.subscriber.holes import ScanAnswers, refuse_trimmed
from scanbus.subscriber.lane_view import READ_BYTES, LaneView

__all__ = ["ScanStream", "StreamedScan"]


class StreamedScan(ScanAnswers, Protocol):
    """The part of a scan's interface that a stream needs."""

    @property
    def uid(self) -> str:
        """The scan's uid."""
        ...

    def publisher_is_alive(self) -> bool:
        """Whether the heartbeat of the scan's publisher has not expired."""
        ...


class _Follower:
    """Reads the wanted channels of one lane, and stores how far they were read."""

    def __init__(
        self, view: LaneView, uid: str, indices: Sequence[int], start: int | None
    ) -> None:
        self._view = view
        self._uid = uid
        self._indices = indices
        stop = view.extent().stop
        self._start = stop if start is None else start
        # A future point may be in an entry that begins before it.
        self.reader = (
            view.reader_from(self._start)
            if self._start < stop
            else LaneReader(uid, view.lane, stop)
        )

    @property
    def names(self) -> list[str]:
        """Names of the wanted channels."""
        return [self._view.lane.channels[index].name for index in self._indices]

    def batches(self, arrival: Arrival) -> Iterator[Batch]:
        """Yield a batch of each wanted channel if the arrival has wanted points."""
        start = max(arrival.start, self._start)
        if start >= arrival.stop or arrival.kind in (Kind.SEAL, Kind.OVERLAP):
            return
        for index in self._indices:
            yield Batch(
                self._view.lane,
                index,
                start,
                arrival.stop,
                entry=arrival.entry,
                reason=arrival.reason,
            )

    def refuse_trimmed(self, arrival: Arrival, scan: ScanAnswers) -> None:
        """Raise if wanted points of an arrival were trimmed and are only in a file.

        Raises
        ------
        NoLongerError
            With the first wanted point of the arrival.
        """
        start = max(arrival.start, self._start)
        for name in self.names:
            refuse_trimmed(name, arrival, start, self._view.trimmed_before, scan)

    def refuse_removed(self, file: Callable[[], str]) -> None:
        """Raise if the scan was finished and removed from the bus.

        Raises
        ------
        NoLongerError
            With the first point that was not read.
        """
        if self._view.extent().is_gone:
            raise NoLongerError(self.names[0], self.reader.expected, file())

    def skip_to_newest(self, raw: Sequence[Any]) -> list[Arrival]:
        """Return the arrivals of the newest entries, skipping all entries before them.

        Parameters
        ----------
        raw : sequence
            Raw entries, the newest first.
        """
        last = split_id(self.reader.last_id)
        new = [each for each in raw if split_id(bytes(each[0])) > last]
        points = [each for each in new if bytes(each[0]) != SEAL_ID][:1]
        if points:
            first = split_id(bytes(points[0][0]))[0]
            self.reader = LaneReader(self._uid, self._view.lane, first)
        seal = [each for each in new if bytes(each[0]) == SEAL_ID]
        if not points and seal:
            self.reader.expected = max(self.reader.expected, self._view.extent().stop)
        return self.reader.take([*points, *seal])


class ScanStream:
    """Iterable of batches; ends when every wanted channel is sealed.

    It is not safe to share between threads.

    Parameters
    ----------
    link : Link
        Connection to Redis.
    scan : StreamedScan
        The scan.
    lanes : sequence of (LaneView, sequence of int)
        Lanes with the places of the wanted channels in each.
    start : int or None
        First point wanted; None for points that come from now on.
    latest_only : bool
        Skip points that came while the last batch was processed.
    deadline : Deadline
        Deadline of each wait.

    Raises
    ------
    DeadlineError
        If no data were received before the deadline.
    NoLongerError
        If points that are wanted were trimmed (not with `latest_only`), or the scan
        was removed from the bus.
    ScanInterruptedError
        If the publisher is silent and the lanes are not sealed. If it may come back,
        create a new stream that starts at the last batch's ``stop``.
    """

    def __init__(
        self,
        link: Link,
        scan: StreamedScan,
        lanes: Sequence[tuple[LaneView, Sequence[int]]],
        *,
        start: int | None,
        latest_only: bool,
        deadline: Deadline,
    ) -> None:
        self._link = link
        self._scan = scan
        self._latest_only = latest_only
        self._deadline = deadline
        self._lanes = [
            _Follower(view, scan.uid, indices, start) for view, indices in lanes
        ]

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches; those of one lane in the order of their points."""
        while self._open():
            self._deadline.restart()
            found = self._wait()
            if not found:
                return
            for lane, arrivals in found:
                for arrival in arrivals:
                    if not self._latest_only:
                        lane.refuse_trimmed(arrival, self._scan)
                    elif arrival.kind is Kind.JUMP:
                        continue
                    yield from lane.batches(arrival)

    def _open(self) -> list[_Follower]:
        return [lane for lane in self._lanes if not lane.reader.is_over]

    def _wait(self) -> list[tuple[_Follower, list[Arrival]]]:
        """Wait for new arrivals and return them; none if the scan is judged.

        Raises
        ------
        DeadlineError
            If there were none before the deadline.
        NoLongerError
            If the scan was removed from the bus.
        ScanInterruptedError
            If the publisher is silent.
        """
        n_reconnects = self._link.n_reconnects
        is_judged = False
        while True:
            found = self._link.ask(self._next)
            if found:
                return found
            if is_judged:  # Before that read, which would have found the last points.
                self._refuse_removed()
                return []
            if n_reconnects != self._link.n_reconnects:
                # While Redis was unavailable, the publisher could not be observed.
                n_reconnects = self._link.n_reconnects
                self._deadline.restart()
            is_judged = self._scan.is_judged()
            if is_judged:
                continue
            self._deadline.check()
            if self._deadline.is_lost(publisher_alive=self._scan.publisher_is_alive()):
                self._refuse_removed()
                points = {
                    name: lane.reader.expected
                    for lane in self._lanes
                    for name in lane.names
                }
                raise ScanInterruptedError(self._scan.uid, points)

    def _refuse_removed(self) -> None:
        for lane in self._open():
            lane.refuse_removed(self._scan.file)

    def _next(self, client: Bus) -> list[tuple[_Follower, list[Arrival]]]:
        lanes = self._open()
        if self._latest_only:
            newest = _newest(client, lanes)
            if newest:
                return newest
        found = read_lanes(
            client,
            [lane.reader for lane in lanes],
            # With latest_only, one entry of each lane is enough to notice new data.
            max_bytes=1 if self._latest_only else READ_BYTES,
            block_ms=self._deadline.block_ms(),
        )
        by_key = {lane.reader.key: lane for lane in lanes}
        return [(by_key[reader.key], arrivals) for reader, arrivals in found]


def _newest(
    client: Bus, lanes: Sequence[_Follower]
) -> list[tuple[_Follower, list[Arrival]]]:
    """Return the newest arrivals of each lane that has new entries."""
    found = []
    newest = read_newest(client, [lane.reader for lane in lanes], count=1)
    for lane, raw in zip(lanes, newest, strict=True):
        entries = raw
        if raw and bytes(raw[0][0]) == SEAL_ID:
            # The seal has no points: the entry before it may be new as well.
            (entries,) = read_newest(client, [lane.reader], count=2)
        arrivals = lane.skip_to_newest(entries)
        if arrivals:
            found.append((lane, arrivals))
    return found
