"""A publisher that sends entry by entry, with functions of the bus only.

For tests of readers: the test decides what each entry holds and what is wrong with it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    block_length,
    checksum_of,
    encode_block,
    entry_id,
    pack_header,
    pack_variable,
)
from scanbus.bus.store import (
    Bus,
    announce,
    append_entries,
    append_event,
    beat_publisher,
    connect,
    make_lane,
)
from scanbus.schemas import (
    ChannelDescription,
    EndReason,
    LaneDescription,
    PointRange,
    Role,
    ScanAnnounced,
    ScanEnded,
    ScanIdentity,
    ScanJudged,
    ScanPrepared,
    ScanStarted,
    Storage,
    Verdict,
    VerdictWord,
)

__all__ = ["FRAME_SHAPE", "SESSION", "RawScan", "block_of", "frames", "mixed_lanes"]

SESSION = b"raw-publisher"
FRAME_SHAPE = (16, 12)


def mixed_lanes() -> tuple[LaneDescription, ...]:
    """Return lanes of scalars with a string, of a ragged channel, and of a detector."""
    group = (
        ChannelDescription(
            name="th", group="g", device="th", role=Role.AXIS, units="deg"
        ),
        ChannelDescription(name="c1", group="g", device="c1", dtype="int32"),
        ChannelDescription(
            name="label", group="g", device="l", dtype="string", max_point_bytes=100
        ),
    )
    ragged = ChannelDescription(
        name="hits", group="hits", device="h", shape=(-1,), max_point_bytes=4096
    )
    eiger = ChannelDescription(
        name="eiger",
        group="eiger",
        device="eiger",
        role=Role.DETECTOR,
        dtype="uint16",
        shape=FRAME_SHAPE,
        codec="bitshuffle-lz4",
    )
    return (
        _lane("g", Storage.VALUES, group, 1000, 100),
        _lane("hits", Storage.VALUES, (ragged,), 1000, 100),
        _lane("eiger", Storage.FILES, (eiger,), 20, 4),
    )


def _lane(
    name: str,
    storage: Storage,
    channels: tuple[ChannelDescription, ...],
    points_per_segment: int,
    points_per_chunk: int,
) -> LaneDescription:
    return LaneDescription(
        name=name,
        storage=storage,
        channels=channels,
        points_per_segment=points_per_segment,
        points_per_chunk=points_per_chunk,
    )


class RawScan:
    """One scan, announced when it is created."""

    def __init__(
        self,
        url: str,
        *,
        number: int = 1,
        uid: str = "",
        title: str = "raw scan",
        lanes: tuple[LaneDescription, ...] | None = None,
        heartbeat_s: float = 60.0,
        beamline: str = "id00",
    ) -> None:
        self.client: Bus = connect(url, name="raw-publisher")
        self.identity = ScanIdentity(
            uid=uid or uuid4().hex,
            proposal="hg123",
            beamline=beamline,
            session="20260101",
            collection="sample",
            dataset="d1",
            scan_number=number,
        )
        self.uid = self.identity.uid
        self.title = title
        self.lanes = {lane.name: lane for lane in lanes or mixed_lanes()}
        self.reached = dict.fromkeys(self.lanes, 0)
        beat_publisher(self.client, self.uid, "raw", int(heartbeat_s * 1000))
        announce(
            self.client,
            ScanAnnounced(time=time.time(), scan=self.identity, title=title),
        )

    def close(self) -> None:
        self.client.close()

    def prepare(self) -> "RawScan":
        prepared = ScanPrepared(
            time=time.time(),
            scan=self.identity,
            title=self.title,
            lanes=tuple(self.lanes.values()),
            quota_bytes=2**26,
        )
        append_event(self.client, self.uid, prepared)
        for lane in self.lanes:
            make_lane(self.client, self.uid, lane)
        append_event(self.client, self.uid, ScanStarted(time=time.time()))
        return self

    def send(
        self,
        lane: str,
        points: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]],
        *,
        gaps: Mapping[str, tuple[PointRange, ...]] | None = None,
        damaged: bool = False,
    ) -> None:
        """Append one entry with the next points of all channels of a lane."""
        description = self.lanes[lane]
        count = len(points[description.channels[0].name])
        blocks = [
            block_of(channel, points[channel.name]) for channel in description.channels
        ]
        payload = b"".join(blocks)
        header = pack_header(
            session=SESSION,
            checksum=checksum_of(payload) ^ int(damaged),
            codecs=tuple(channel.codec for channel in description.channels),
            sizes=tuple(len(block) for block in blocks),
            ends=(time.time(), time.time()),
            gaps=gaps,
        )
        self.put(lane, count, header, payload)

    def send_padded(self, lane: str, points: np.ndarray[Any, Any]) -> None:
        """Append the last points of a detector as one chunk, padded with zeros."""
        description = self.lanes[lane]
        chunk = np.zeros(
            (description.points_per_chunk, *points.shape[1:]), points.dtype
        )
        chunk[: len(points)] = points
        channel = description.channels[0]
        payload = block_of(channel, chunk)
        header = pack_header(
            session=SESSION,
            checksum=checksum_of(payload),
            codecs=(channel.codec,),
            sizes=(len(payload),),
            is_padded=True,
        )
        self.put(lane, len(points), header, payload)

    def gap(self, lane: str, count: int, *, is_durable: bool = False) -> None:
        """Declare the next points as a gap, or as durable."""
        header = pack_header(
            session=SESSION,
            checksum=checksum_of(b""),
            is_gap=not is_durable,
            is_durable=is_durable,
        )
        self.put(lane, count, header, b"")

    def lose(self, lane: str, count: int) -> None:
        """Skip points without declaring them as a gap."""
        self.reached[lane] += count

    def late(self, channel: str, point: int, value: Any) -> None:
        """Append one late point: sent after its place was closed."""
        lane = next(
            each.late_lane(one)
            for each in list(self.lanes.values())
            for one in each.channels
            if one.name == channel
        )
        if lane.name not in self.lanes:
            self.lanes[lane.name] = lane
            self.reached[lane.name] = 0
            make_lane(self.client, self.uid, lane.name)
        block = block_of(lane.channels[0], value)
        header = pack_header(
            session=SESSION,
            checksum=checksum_of(block),
            codecs=(lane.channels[0].codec,),
            sizes=(len(block),),
            point=point,
        )
        self.put(lane.name, 1, header, block)

    def put(self, lane: str, count: int, header: bytes, payload: bytes) -> None:
        first = self.reached[lane]
        entry = EncodedEntry(entry_id(first, count), first + count, header, payload)
        append_entries(self.client, self.uid, lane, [entry])
        self.reached[lane] = first + count

    def trim(self, lane: str, point: int) -> None:
        """Trim all entries before the one that begins with `point`."""
        key = f"scanbus:{{{self.uid}:{lane}}}:lane"
        self.client.xtrim(key, minid=f"{point}-0", approximate=False)

    def seal(self, *lanes: str) -> None:
        for lane in lanes or self.lanes:
            length = self.reached[lane]
            header = pack_header(
                session=SESSION, checksum=checksum_of(b""), length=length
            )
            append_entries(
                self.client, self.uid, lane, [EncodedEntry(SEAL_ID, length, header)]
            )

    def end(self, end_reason: EndReason = EndReason.SUCCESS) -> None:
        """Seal all lanes and send ``ended``."""
        self.seal()
        late = {
            lane.channels[0].name: self.reached[name]
            for name, lane in self.lanes.items()
            if lane.is_late
        }
        event = ScanEnded(time=time.time(), end_reason=end_reason, late=late)
        append_event(self.client, self.uid, event)

    def judge(self, word: VerdictWord, master: str = "") -> None:
        verdict = Verdict(uid=self.uid, verdict=word, master=master)
        append_event(
            self.client, self.uid, ScanJudged(time=time.time(), verdict=verdict)
        )

    def send_group(self, start: int, stop: int) -> None:
        """Send points of the mixed scan's group; values follow from their numbers."""
        numbers = np.arange(start, stop)
        self.send(
            "g",
            {
                "th": numbers * 0.5,
                "c1": (numbers * 10).astype(np.int32),
                "label": [f"point {number}" for number in numbers],
            },
        )

    def send_frames(self, start: int, stop: int) -> None:
        """Send frames of the mixed scan that are filled with their numbers."""
        self.send("eiger", {"eiger": frames(start, stop)})


def frames(start: int, stop: int) -> np.ndarray[Any, Any]:
    numbers = np.arange(start, stop, dtype=np.uint16)
    return np.ascontiguousarray(
        np.broadcast_to(numbers[:, None, None], (len(numbers), *FRAME_SHAPE))
    )


def block_of(channel: ChannelDescription, points: Any) -> bytes:
    if channel.is_variable:
        parts = encode_block(channel, pack_variable(channel, points))
    else:
        array = np.ascontiguousarray(points, dtype=channel.numpy_dtype)
        parts = encode_block(channel, array, channel.codec)
    block = b"".join(bytes(part) for part in parts)
    assert len(block) == block_length(parts)
    return block
