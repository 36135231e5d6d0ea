"""What is done with bytes from anybody, for fuzzing.

What is parsed must come out, or be refused by its named error: anything else is a bug.
CI has the same properties with hypothesis, in tests/unit (entries, documents, codecs).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from scanbus.bus.codecs import CODEC_NAMES, find_codec
from scanbus.bus.protocol import (
    SEAL_ID,
    LaneReader,
    checksum_of,
    decode_block,
    pack_header,
    parse_entry,
    session_of,
)
from scanbus.schemas import (
    EndReason,
    ScanEnded,
    Storage,
    parse_announcement,
    parse_event,
)
from scanbus.schemas.errors import BadEntryError, DocumentError, PayloadError
from tests.support.descriptions import (
    NOW,
    UID,
    announced,
    bytes_lane,
    channel,
    lane_of,
    prepared,
)

__all__ = ["fuzz_one", "seeds"]

_TEXT = channel("t", dtype="string", max_point_bytes=64)
_RAGGED = channel("r", shape=(-1,), max_point_bytes=64)
_FRAMES = channel("d", "d", dtype="uint16", shape=(3, 4), codec="bitshuffle-lz4")
_LANES = (
    bytes_lane(),
    lane_of(channel("a"), _TEXT, _RAGGED),
    lane_of(_FRAMES, per_segment=4, per_chunk=2, storage=Storage.FILES),
)
_IDS = (b"0-1", b"0-2", b"1-3", SEAL_ID)


def _entry(data: bytes) -> None:
    """First byte: which lane and id; second: length of the header; then both."""
    if len(data) < 2:
        return
    lane, stream_id = _LANES[data[0] % 3], _IDS[data[0] // 4 % 4]
    header, payload = data[2 : 2 + data[1]], data[2 + data[1] :]
    session_of(header)
    LaneReader(UID, lane).take([(stream_id, [b"h", header, b"p", payload])])
    try:
        entry = parse_entry(lane, stream_id, {b"h": header, b"p": payload})
    except BadEntryError:
        return
    if entry.codecs:
        for index, one in enumerate(lane.channels):
            _decode(one, entry.block(index), entry.count, entry.codecs[index])


def _decode(one: Any, block: Any, count: int, name: str) -> None:
    try:
        decode_block(one, block, count, name)
    except PayloadError:
        return


def _block(data: bytes) -> None:
    """First byte: which codec; then what it is to unpack."""
    if not data:
        return
    name = sorted(CODEC_NAMES)[data[0] % len(CODEC_NAMES)]
    _decode(_FRAMES, memoryview(data)[1:], 2, name)
    _decode(_TEXT, memoryview(data)[1:], 3, "none")
    _decode(_RAGGED, memoryview(data)[1:], 3, "none")


def _document(data: bytes) -> None:
    for parse in (parse_event, parse_announcement):
        try:
            came: Any = parse(data)
        except DocumentError as error:
            if len(str(error)) > 2000:
                raise AssertionError(str(error)[:2000]) from error
        else:
            assert parse(came.to_json()).to_json() == came.to_json()


_TARGETS: tuple[Callable[[bytes], None], ...] = (_entry, _block, _document)


def fuzz_one(data: bytes) -> None:
    """Give one input to what its first byte says."""
    if data:
        _TARGETS[data[0] % len(_TARGETS)](data[1:])


def seeds() -> list[bytes]:
    """Inputs that are taken, to begin with."""
    payload = bytes(8)
    header = pack_header(session=b"s", checksum=checksum_of(payload), ends=(1.0, 2.0))
    found = [bytes([0, 0, len(header)]) + header + payload]
    points = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    for index, name in enumerate(sorted(CODEC_NAMES)):
        packed = bytes(find_codec(name).encode(points))
        header = pack_header(session=b"s", checksum=checksum_of(packed), codecs=(name,))
        found.append(bytes([1, index]) + packed)
        found.append(bytes([0, 6, len(header)]) + header + packed)
    ended = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS, metadata={"a": [1.0]})
    documents = (announced(), prepared(*_LANES[1:]), ended)
    return found + [bytes([2]) + one.to_json() for one in documents]
