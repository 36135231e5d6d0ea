"""Read what a publisher sent, and a writer that only keeps it in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any, Self

import numpy as np

from scanbus.bus.protocol import (
    Arrival,
    Entry,
    Kind,
    LaneReader,
    ScanRecord,
    Variable,
    decode_block,
)
from scanbus.bus.store import (
    Bus,
    Evictor,
    acknowledge,
    announcements,
    append_event,
    beat_writer,
    connect,
    load_record,
    read_events,
    read_lanes,
    show_all,
    translated,
)
from scanbus.publisher import Publisher, Scan
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import LaneDescription, ScanJudged, Verdict, VerdictWord
from scanbus.schemas.errors import ScanbusError
from scanbus.writer.model.segment_length import is_segment_full


@dataclass
class ReadLane:
    """Content of one lane, from its first entry on."""

    description: LaneDescription
    entries: list[Entry] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    length: int | None = None
    durable: int = 0
    _bus_bytes: int = 0

    def values(self, name: str) -> list[Any]:
        """Return all points of a channel."""
        found: list[Any] = []
        names = [channel.name for channel in self.description.channels]
        index = names.index(name)
        channel = self.description.channels[index]
        for entry in self.entries:
            if entry.is_gap or entry.is_durable:
                found.extend([None] * entry.count)
                continue
            per_chunk = self.description.points_per_chunk
            count = per_chunk if entry.is_padded else entry.count
            block, codec = entry.block(index), entry.codecs[index]
            points = decode_block(channel, block, count, codec)
            if isinstance(points, Variable):
                found.extend(points.texts() if channel.is_string else points.split())
            else:
                found.extend(points[: entry.count])
        return found

    def add(self, arrivals: Iterable[Arrival]) -> None:
        """Add the next arrivals of the lane."""
        for arrival in arrivals:
            if arrival.kind is Kind.POINTS and arrival.entry is not None:
                self.entries.append(arrival.entry)
            elif arrival.kind is Kind.SEAL:
                self.length = arrival.stop
            else:
                self.odd.append(f"{arrival.kind} {arrival.reason}")
            self._end_segment(arrival)

    def _end_segment(self, arrival: Arrival) -> None:
        """Count as durable what a writer's segments would hold."""
        self._bus_bytes += arrival.nbytes
        stop = arrival.stop
        if is_segment_full(self.description, self.durable, stop, self._bus_bytes):
            self.durable, self._bus_bytes = stop, 0
        per_segment = self.description.points_per_segment
        self.durable = max(self.durable, stop // per_segment * per_segment)

    def gaps(self, name: str) -> list[tuple[int, int]]:
        """Return the gaps of a channel that the headers declare."""
        return [pair for entry in self.entries for pair in entry.gaps.get(name, ())]


def read_lane(client: Bus, uid: str, description: LaneDescription) -> ReadLane:
    """Return the content of a lane now."""
    reader = LaneReader(uid, description)
    found = ReadLane(description)
    while arrived := read_lanes(client, [reader], max_bytes=2**26, block_ms=0):
        for _, arrivals in arrived:
            found.add(arrivals)
    return found


def record_of(client: Bus, uid: str) -> ScanRecord:
    """Return the scan's record; it must be announced."""
    for line in announcements(client):
        if line.document is not None and line.document.scan.uid == uid:
            return load_record(client, line.document)
    raise AssertionError(f"{uid} is not announced")


def read_scan(client: Bus, uid: str) -> dict[str, ReadLane]:
    """Return all lanes of a scan, by name."""
    prepared = record_of(client, uid).prepared
    assert prepared is not None
    return {lane.name: read_lane(client, uid, lane) for lane in prepared.lanes}


@contextmanager
def unjudged_scan(
    url: str, *, spool: Path | None = None, **arguments: Any
) -> Iterator[Scan]:
    """Publish a scan that no writer writes; return when the bus has all of it.

    A publisher that is closed leaves what it has not sent yet.
    """
    with Publisher(url, spool=spool, close_timeout_s=0) as publisher:
        with publisher.scan(**arguments) as scan:
            yield scan
        wait_sent(url, [scan.uid])


def safe_and_shown(client: Bus, uid: str, lane: str, point: int) -> None:
    """Say that points are durable, and that a master shows them."""
    acknowledge(client, uid, lane, point)
    show_all(client, {(uid, lane): point})


class MemoryWriter(threading.Thread):
    """Reads every scan into memory, acknowledges segments, sends verdicts.

    Parameters
    ----------
    room_bytes : int
        It makes room while Redis uses more; 0: never.
    """

    def __init__(self, url: str, *, judges: bool = True, room_bytes: int = 0) -> None:
        super().__init__(name="memory-writer")
        self._url = url
        self._judges = judges
        self._room_bytes = room_bytes
        self._evictor = Evictor()
        self._leave = threading.Event()
        self._client: Bus | None = None
        self._records: dict[str, ScanRecord] = {}
        self._readers: dict[tuple[str, str], LaneReader] = {}
        self.lanes: dict[tuple[str, str], ReadLane] = {}

    def __enter__(self) -> Self:
        with connect(self._url, name="writer") as client:
            beat_writer(client, "memory", {}, 10_000)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave.set()
        self.join(20)

    def run(self) -> None:
        while not self._leave.wait(0.01):
            try:
                with translated(self._url):
                    self._client = self._client or connect(self._url, name="writer")
                    self._look(self._client)
            except ScanbusError:
                self._client = None
        if self._client is not None:
            self._client.close()

    def _look(self, client: Bus) -> None:
        beat_writer(client, "memory", {}, 10_000)
        for line in announcements(client):
            assert line.document is not None
            record = self._records.setdefault(
                line.document.scan.uid, ScanRecord(line.document.scan)
            )
            read_events(client, record)
            self._read(client, record)
        if self._room_bytes:
            self._evictor.free(client, self._room_bytes)

    def _read(self, client: Bus, record: ScanRecord) -> None:
        over = []
        # One that ended before it was prepared has no lanes, and gets its verdict.
        for lane in record.prepared.lanes if record.prepared else ():
            key = (record.uid, lane.name)
            reader = self._readers.setdefault(key, LaneReader(record.uid, lane))
            kept = self.lanes.setdefault(key, ReadLane(lane))
            for _, arrivals in read_lanes(
                client, [reader], max_bytes=2**22, block_ms=0
            ):
                kept.add(arrivals)
            durable = reader.expected if reader.is_over else kept.durable
            if durable:
                safe_and_shown(client, record.uid, lane.name, durable)
            over.append(reader.is_over)
        judged = record.verdict is not None
        if self._judges and record.ended and all(over) and not judged:
            verdict = Verdict(uid=record.uid, verdict=VerdictWord.COMPLETE)
            append_event(client, record.uid, ScanJudged(time=time(), verdict=verdict))


def frames(first: int, count: int, shape: tuple[int, int] = (64, 64)) -> Any:
    """Return frames whose values follow from their number, not too compressible."""
    numbers = np.arange(first, first + count, dtype=np.uint32)
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape)
    return numbers[:, np.newaxis, np.newaxis] * 7 + pixels
