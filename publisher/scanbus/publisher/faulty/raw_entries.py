"""Build valid and invalid entries of the simulated scan, as bytes for Redis."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    Times,
    checksum_of,
    encode_block,
    encode_times,
    entry_id,
    pack_header,
    pack_variable,
)
from scanbus.publisher.faulty.content import points_of
from scanbus.schemas import ChannelDescription, LaneDescription, PointRange, Storage

__all__ = ["FORMS_AT_THE_EDGE", "FORMS_WITHIN", "RawEntryBuilder"]

# A string that is not UTF-8, and a payload that no codec made.
_NO_UTF8 = b"\xff\xfe"
_NOISE = b"these bytes were never packed by anything"


@dataclass(frozen=True)
class _Draft:
    """An entry before its checksum is computed."""

    first: int
    count: int
    blocks: tuple[bytes, ...]
    codecs: tuple[str, ...]
    gaps: Mapping[str, tuple[PointRange, ...]]
    is_padded: bool = False

    def with_block(self, index: int, block: bytes, codec: str) -> _Draft:
        blocks, codecs = list(self.blocks), list(self.codecs)
        blocks[index], codecs[index] = block, codec
        return replace(self, blocks=tuple(blocks), codecs=tuple(codecs))


class RawEntryBuilder:
    """Builds the entries of one lane, for one session.

    Parameters
    ----------
    lane : LaneDescription
        The lane.
    seed : int
        Seed of the points.
    session : bytes
        Names the publisher; random if empty.
    """

    def __init__(self, lane: LaneDescription, seed: int, session: bytes = b"") -> None:
        self._lane = lane
        self._seed = seed
        self._session = session or secrets.token_bytes(16)

    def good(
        self,
        first: int,
        stop: int,
        gaps: Mapping[str, tuple[PointRange, ...]] | None = None,
        *,
        is_padded: bool = False,
    ) -> EncodedEntry:
        """Return the entry of points ``[first, stop)``."""
        return self._entry(self._draft(first, stop, gaps or {}, is_padded=is_padded))

    def gap(self, first: int, stop: int) -> EncodedEntry:
        """Return the entry that declares points as a gap."""
        header = pack_header(
            session=self._session, checksum=checksum_of(b""), is_gap=True
        )
        return EncodedEntry(entry_id(first, stop - first), stop, header)

    def seal(self, length: int) -> EncodedEntry:
        """Return the seal of a lane of `length` points."""
        header = pack_header(
            session=self._session, checksum=checksum_of(b""), length=length
        )
        return EncodedEntry(SEAL_ID, length, header)

    def corrupt(self, first: int, stop: int, bit: int) -> EncodedEntry:
        """Return an entry with one bit of its payload flipped."""
        entry = self.good(first, stop)
        payload = bytearray(entry.payload)
        place, shift = divmod(bit % (8 * len(payload)), 8)
        payload[place] ^= 1 << shift
        return replace(entry, payload=bytes(payload))

    def late(self, arrival: int, point: int) -> EncodedEntry:
        """Return the entry of a late point, for a lane of late points."""
        channel = self._lane.channels[0]
        block = _block(channel, self._points(channel, point, point + 1), channel.codec)
        header = pack_header(
            session=self._session,
            checksum=checksum_of(block),
            codecs=(channel.codec,),
            ends=(1.7e9 + point, 1.7e9 + point),
            point=point,
        )
        return EncodedEntry(entry_id(arrival, 1), arrival + 1, header, block)

    def wrong(self, form: str, first: int, stop: int) -> EncodedEntry:
        """Return an entry of a form that cannot be stored, with a valid checksum."""
        draft = self._draft(first, stop, {})
        if form == "header":
            return replace(self._entry(draft), header=_NOISE)
        return self._entry(_WRONG[form](self._lane, draft))

    def forms(self, among: tuple[str, ...]) -> list[str]:
        """Return the invalid forms that are possible for this lane."""
        return [form for form in among if _applies(form, self._lane)]

    def _points(self, channel: ChannelDescription, first: int, stop: int) -> list[Any]:
        return list(points_of(self._seed, channel, first, stop))

    def _draft(
        self,
        first: int,
        stop: int,
        gaps: Mapping[str, tuple[PointRange, ...]],
        *,
        is_padded: bool = False,
    ) -> _Draft:
        is_files = self._lane.storage is Storage.FILES
        blocks, codecs = [], []
        for channel in self._lane.channels:
            points = self._points(channel, first, stop)
            for start, end in gaps.get(channel.name, ()):
                for point in range(start, end):
                    points[point - first] = _nothing(channel)
            if is_padded:
                n_more = self._lane.points_per_chunk - len(points)
                points += [np.zeros(channel.shape, channel.numpy_dtype)] * n_more
            codec = channel.codec if is_files else "none"
            blocks.append(_block(channel, points, codec))
            codecs.append(codec)
        count = stop - first
        return _Draft(first, count, tuple(blocks), tuple(codecs), gaps, is_padded)

    def _entry(self, draft: _Draft) -> EncodedEntry:
        payload = b"".join(draft.blocks)
        ends, times = encode_times(_times(draft.first, draft.count))
        header = pack_header(
            session=self._session,
            checksum=checksum_of(payload),
            codecs=draft.codecs,
            sizes=tuple(len(block) for block in draft.blocks),
            ends=ends,
            times_checksum=checksum_of(times) if times else None,
            gaps=draft.gaps,
            is_padded=draft.is_padded,
        )
        stop = draft.first + draft.count
        return EncodedEntry(
            entry_id(draft.first, draft.count), stop, header, payload + times
        )


def _times(first: int, count: int) -> Times:
    """Return times of points that are not evenly spaced, the same in every entry."""
    points = np.arange(first, first + count)
    return 1.7e9 + points + points % 3 / 10


def _nothing(channel: ChannelDescription) -> Any:
    if channel.is_string:
        return ""
    shape = (0,) if channel.is_ragged else channel.shape
    return np.full(shape, channel.missing_value, channel.numpy_dtype)


def _block(channel: ChannelDescription, points: list[Any], codec: str) -> bytes:
    if channel.is_variable:
        return b"".join(
            bytes(p) for p in encode_block(channel, pack_variable(channel, points))
        )
    array = np.ascontiguousarray(np.stack(points), channel.numpy_dtype)
    return b"".join(bytes(part) for part in encode_block(channel, array, codec))


def _unknown_codec(_: LaneDescription, draft: _Draft) -> _Draft:
    return draft.with_block(0, draft.blocks[0], "rot13")


def _wrong_size(_: LaneDescription, draft: _Draft) -> _Draft:
    return draft.with_block(0, draft.blocks[0] + b"?", "none")


def _wrong_shape(lane: LaneDescription, draft: _Draft) -> _Draft:
    """Return frames that are one column wider than declared."""
    channel = lane.channels[0]
    wide = channel.model_copy(
        update={"shape": (*channel.shape[:-1], channel.shape[-1] + 1)}
    )
    points = points_of(0, wide, draft.first, draft.first + draft.count)
    return draft.with_block(0, _block(wide, list(points), channel.codec), channel.codec)


def _undecodable(lane: LaneDescription, draft: _Draft) -> _Draft:
    codec = lane.channels[0].codec
    return draft.with_block(0, _NOISE, "zstd" if codec == "none" else codec)


def _no_text(_: LaneDescription, draft: _Draft) -> _Draft:
    lengths = np.full(draft.count, len(_NO_UTF8), "<u4").tobytes()
    return draft.with_block(-1, lengths + _NO_UTF8 * draft.count, "none")


def _too_long(lane: LaneDescription, draft: _Draft) -> _Draft:
    channel = lane.channels[-1]
    n_values = (channel.max_point_bytes or 0) // channel.numpy_dtype.itemsize + 1
    lengths = np.full(draft.count, n_values, "<u4").tobytes()
    nbytes = draft.count * n_values * channel.numpy_dtype.itemsize
    return draft.with_block(-1, lengths + b"a" * nbytes, "none")


_WRONG: Mapping[str, Callable[[LaneDescription, _Draft], _Draft]] = {
    "codec": _unknown_codec,
    "size": _wrong_size,
    "shape": _wrong_shape,
    "undecodable": _undecodable,
    "no text": _no_text,
    "too long": _too_long,
}
FORMS_AT_THE_EDGE = ("header", "codec", "size")
"""Detected without decoding; such an entry's id counts only if it is the next one."""
FORMS_WITHIN = ("shape", "undecodable", "no text", "too long")
"""Detected when the payload is decoded."""


def _applies(form: str, lane: LaneDescription) -> bool:
    first, last = lane.channels[0], lane.channels[-1]
    return {
        "size": not first.is_variable,
        "shape": lane.storage is Storage.FILES,
        "undecodable": not first.is_variable,
        "no text": last.is_string,
        "too long": last.is_variable,
    }.get(form, True)
