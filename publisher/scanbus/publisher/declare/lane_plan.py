"""Divide a scan's channels into lanes, segments and chunks that fit its quota.

The writer acknowledges whole segments. If all open segments together could fill the
quota, publisher and writer would deadlock, so open segments may take half of it.
Neither the number of entries of small values nor the packed size of frames is known
beforehand, so segments end by bytes too: they are as long as the quota allows, and a
long scan has few files.
Pure: descriptions and numbers in, lane descriptions out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from scanbus.bus.protocol import TIME_BYTES
from scanbus.schemas import (
    ENTRY_OVERHEAD_BYTES,
    ChannelDescription,
    LaneDescription,
    Storage,
)
from scanbus.schemas.errors import QuotaRefusedError

__all__ = [
    "Declared",
    "LaneRequest",
    "OriginalNames",
    "holds_all",
    "lane_requests",
    "plan_lanes",
]

# A segment of small values costs the writer a few milliseconds, however short.
MAX_VALUES_SEGMENT_BYTES = 8 * 2**20
MAX_VALUES_SEGMENT_POINTS = 2**20
# Detectors get room for segments of this size first. What is left makes them longer.
FILES_SEGMENT_BYTES = 2**30
FILES_SEGMENT_POINTS = 10_000
MAX_FILES_SEGMENT_POINTS = 2**20
# Frames are packed so well at most; a writer has tables for all points of a segment.
_MAX_RATIO = 8
# Frames from this size on are a chunk each; smaller ones share a chunk.
_LARGE_FRAME_BYTES = 256 * 2**10
_CHUNK_BYTES = 2**20
# Shares are products of floats: they are off by less, up to a quota of some TiB.
_ROUNDING_BYTES = 1e-3
# Beside detectors, small values may take 1/8 of the open segments' room.
_VALUES_SHARE = 8


@dataclass(frozen=True, slots=True)
class OriginalNames:
    """The names of a channel, its group and its device, as the program has them."""

    name: str
    group: str
    device: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A channel as the program declared it.

    Attributes
    ----------
    channel : ChannelDescription
        Its description.
    original : OriginalNames
        Its names in the program.
    storage : Storage
        How its lane's points are stored.
    points_per_chunk : int or None
        As declared; chosen by size if None.
    fields : mapping
        Metadata of its device.
    has_equal_files : bool
        Whether all files of its frames but the last have as many: their bytes do not
        end them earlier.
    """

    channel: ChannelDescription
    original: OriginalNames
    storage: Storage
    points_per_chunk: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    has_equal_files: bool = False


@dataclass(frozen=True, slots=True)
class LaneRequest:
    """The room that one lane requests, before the quota is shared out.

    Attributes
    ----------
    cost_bytes : float
        Expected bytes of a point on the bus.
    expected_points : int or None
        Declared number of its points; None if it is not known.
    """

    name: str
    storage: Storage
    channels: tuple[ChannelDescription, ...]
    points_per_chunk: int | None
    point_bytes: int
    cost_bytes: float
    expected_points: int | None
    wanted_points: int
    longest_points: int
    has_equal_files: bool = False

    @property
    def extra_bytes(self) -> float:
        """Room beyond `wanted_bytes` that would make the segments longer."""
        return self.cost_bytes * (self.longest_points - self.wanted_points)

    @property
    def wanted_bytes(self) -> float:
        """Room for the segments of usual length."""
        wanted = self.cost_bytes * self.wanted_points
        if self.storage is Storage.FILES:
            return wanted
        # The entry that ends a segment may exceed the segment's bytes.
        largest = self.wanted_points * self.point_bytes + ENTRY_OVERHEAD_BYTES
        return min(wanted, MAX_VALUES_SEGMENT_BYTES) + largest


def plan_lanes(
    uid: str,
    declared: Sequence[Declared],
    quota_bytes: int,
    compression: float = 1.0,
) -> tuple[LaneDescription, ...]:
    """Return the lanes of a scan, in the order in which their groups were declared.

    Parameters
    ----------
    uid : str
        The scan, for error messages.
    declared : sequence of Declared
        Its channels.
    quota_bytes : int
        Bytes that may be on the bus without being durable.
    compression : float
        Expected compression ratio of the frames, raw over compressed bytes.

    Returns
    -------
    tuple of LaneDescription
        Together their open segments fit in half the quota, even if frames are not
        packed at all, unless a single chunk does not fit then. Each entry counts as its
        bytes plus `ENTRY_OVERHEAD_BYTES`.

    Raises
    ------
    QuotaRefusedError
        If the quota does not hold a single chunk of every lane.
    ValueError
        If channels of different storage share a group.
    """
    requests = lane_requests(declared, compression)
    shares = _room_of_each(requests, quota_bytes)
    return tuple(
        _lane(uid, quota_bytes, request, shares[request.name]) for request in requests
    )


def holds_all(requests: Sequence[LaneRequest], quota_bytes: int) -> bool:
    """Return whether a quota holds one chunk of every lane: see `plan_lanes`."""
    shares = _room_of_each(requests, quota_bytes)
    return all(
        _lengths(request, shares[request.name]).points >= 1 for request in requests
    )


def _room_of_each(
    requests: Sequence[LaneRequest], quota_bytes: int
) -> dict[str, float]:
    """Return the bytes that open segments of each lane may take."""
    room = quota_bytes / 2
    small = [request for request in requests if request.storage is Storage.VALUES]
    large = [request for request in requests if request.storage is Storage.FILES]
    shares = _shares(small, room / _VALUES_SHARE if large else room)
    room -= sum(shares.values())
    shares |= _shares(large, room)
    room -= sum(shares[request.name] for request in large)
    for name, extra in _shares(large, room, attrgetter("extra_bytes")).items():
        shares[name] += extra
    return shares


def lane_requests(
    declared: Sequence[Declared], compression: float
) -> list[LaneRequest]:
    """Return what each lane requests, in the order in which groups were declared.

    Raises
    ------
    ValueError
        If channels of different storage share a group.
    """
    return [_lane_request(*group, compression) for group in _groups(declared)]


def _groups(declared: Sequence[Declared]) -> list[tuple[str, list[Declared]]]:
    groups: dict[str, list[Declared]] = {}
    for each in declared:
        groups.setdefault(each.channel.group, []).append(each)
    for name, members in groups.items():
        if len({member.storage for member in members}) > 1:
            raise ValueError(f"group {name!r}: a detector has a lane of its own")
    return list(groups.items())


def _lane_request(
    name: str, members: list[Declared], compression: float
) -> LaneRequest:
    channels = tuple(member.channel for member in members)
    point_bytes = sum(channel.point_bytes for channel in channels)
    storage = members[0].storage
    if storage is Storage.FILES:
        ratio = 1.0 if channels[0].codec == "none" else compression
        most = min(FILES_SEGMENT_POINTS, max(1, FILES_SEGMENT_BYTES // point_bytes))
        longest = MAX_FILES_SEGMENT_POINTS
    else:
        ratio = 1.0
        most = min(
            MAX_VALUES_SEGMENT_POINTS, max(1, MAX_VALUES_SEGMENT_BYTES // point_bytes)
        )
        point_bytes += TIME_BYTES  # Each point may have a time in the payload.
        longest = most
    expected = _expected(channels)
    return LaneRequest(
        name=name,
        storage=storage,
        channels=channels,
        points_per_chunk=members[0].points_per_chunk,
        point_bytes=point_bytes,
        cost_bytes=point_bytes / ratio + ENTRY_OVERHEAD_BYTES,
        expected_points=expected,
        wanted_points=min(most, expected or most),
        longest_points=min(longest, expected or longest),
        has_equal_files=members[0].has_equal_files,
    )


def _expected(channels: Sequence[ChannelDescription]) -> int | None:
    points = [channel.points for channel in channels]
    known = [count for count in points if count is not None]
    return max(1, *known) if known and len(known) == len(points) else None


def _shares(
    requests: Sequence[LaneRequest],
    room: float,
    wanted: Callable[[LaneRequest], float] = attrgetter("wanted_bytes"),
) -> dict[str, float]:
    """Share out `room`: small requests are met, the others share the rest equally."""
    shares: dict[str, float] = {}
    ordered = sorted(requests, key=wanted)
    for index, request in enumerate(ordered):
        fair = room / (len(ordered) - index)
        shares[request.name] = min(wanted(request), fair)
        room -= shares[request.name]
    return shares


class _Lengths(NamedTuple):
    """Lengths of a lane's segments and chunks; no points if no chunk fits."""

    points: int
    chunk: int
    segment_bytes: int


def _lengths(request: LaneRequest, share: float) -> _Lengths:
    fits = int((share + _ROUNDING_BYTES) // request.cost_bytes)
    if request.storage is Storage.VALUES:
        points = min(fits, 1) and _values_points(request, share)
        return _Lengths(points, points, _values_bytes(request, share, points))
    chunk = request.points_per_chunk or _chunk(request, fits)
    points = _files_points(request, fits, chunk)
    if request.has_equal_files:
        # As many as fit if none can be compressed.
        largest = request.point_bytes + ENTRY_OVERHEAD_BYTES
        most = int((share + _ROUNDING_BYTES) // largest) // chunk * chunk
        points = min(points, max(most, chunk))
    return _Lengths(points, chunk, _files_bytes(request, share, chunk))


def _lane(uid: str, quota: int, request: LaneRequest, share: float) -> LaneDescription:
    lengths = _lengths(request, share)
    if lengths.points < 1:
        reason = _too_small(request, lengths.chunk, share)
        raise QuotaRefusedError(uid, quota, reason)
    return LaneDescription(
        name=request.name,
        storage=request.storage,
        channels=request.channels,
        points_per_segment=lengths.points,
        points_per_chunk=lengths.chunk,
        segment_bytes=lengths.segment_bytes,
    )


def _values_points(request: LaneRequest, share: float) -> int:
    """Return the points of a segment of small values: at most half the share."""
    fits = int((share / 2 - ENTRY_OVERHEAD_BYTES) // request.point_bytes)
    return max(1, min(fits, request.wanted_points))


def _values_bytes(request: LaneRequest, share: float, points: int) -> int:
    """Return the bytes that end a segment; with its last entry it fits the share."""
    largest = points * request.point_bytes + ENTRY_OVERHEAD_BYTES
    return max(1, min(MAX_VALUES_SEGMENT_BYTES, int(share) - largest))


def _files_points(request: LaneRequest, fits: int, chunk: int) -> int:
    """Return the most points of a segment of frames; 0 if no chunk fits."""
    if fits < chunk:
        return 0
    # A short scan may have fewer points than a chunk: the chunk is padded.
    wanted = -(-request.longest_points // chunk) * chunk
    return min(fits * _MAX_RATIO, wanted, MAX_FILES_SEGMENT_POINTS) // chunk * chunk


def _files_bytes(request: LaneRequest, share: float, chunk: int) -> int:
    """Return the bytes that end a segment; with its last chunk it fits the share."""
    largest = chunk * (request.point_bytes + ENTRY_OVERHEAD_BYTES)
    return max(1, int(share + _ROUNDING_BYTES) - largest + 1)


def _chunk(request: LaneRequest, fits: int) -> int:
    """Return the points of a chunk: a power of two, about 1 MiB of small frames."""
    frame_bytes = request.channels[0].point_bytes
    if frame_bytes >= _LARGE_FRAME_BYTES:
        return 1
    points = min(_CHUNK_BYTES // frame_bytes, max(fits, 1), request.wanted_points)
    return 1 << (int(points).bit_length() - 1)


def _too_small(request: LaneRequest, chunk: int, share: float) -> str:
    needed = max(chunk, 1) * request.cost_bytes
    return (
        f"open segments may take half of it, which leaves {share / 2**20:.2f} MiB for "
        f"{request.name!r}, less than the {needed / 2**20:.2f} MiB of one chunk; ask "
        "for more (quota_bytes)"
    )
