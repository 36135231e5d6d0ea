"""Read CBOR from the network: bounds first, then cbor2.

cbor2 builds what a message declares, and knows tags that regular expressions, e-mails
or shared references hide behind. So the heads of all items are looked at before: a
message of few items, whose lengths all fit into it, costs little more memory than
itself. Typed arrays and compressed bytes stay bytes.

Pure.

References
----------
RFC 8949 (CBOR); RFC 8746 (typed arrays); DECTRIS stream V2 (tag 56500); Jungfraujoch,
"CBOR messages" (``bszstd``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2
import numpy as np

from scanbus.publisher.gateways.runner.messages import FrameData
from scanbus.publisher.gateways.wire.json_part import shown
from scanbus.schemas.errors import MessageError

__all__ = ["Unusable", "read_map"]

# A start message of a detector with four thresholds has about 200 items.
MAX_ITEMS: Final = 10_000
_MAX_DEPTH: Final = 16
_MAX_TEXT_BYTES: Final = 2**20
_MULTI_DIM, _MULTI_DIM_COLUMNS, _COMPRESSED = 40, 1040, 56500
_TYPES: Final = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4",
    71: "<u8", 72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4",
    79: "<i8", 80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
_CODECS: Final = {
    "bslz4": "bitshuffle-lz4",
    "bszstd": "bitshuffle-zstd",
    "lz4": "lz4",
}
_BYTES, _TEXT, _ARRAY, _MAP, _TAG = 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Unusable:
    """What stands for an array that cannot be used; it costs what it is part of.

    Parameters
    ----------
    error : MessageError
        What is wrong with it.
    """

    error: MessageError


@dataclass(frozen=True, slots=True)
class _Compressed:
    codec: str
    item_bytes: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Typed:
    dtype: np.dtype[Any]
    content: bytes | _Compressed

    def with_shape(self, source: str, shape: tuple[int, ...]) -> FrameData:
        content = self.content
        if isinstance(content, bytes):
            data = FrameData(content, "none", shape, self.dtype)
        else:
            if content.item_bytes not in {0, self.dtype.itemsize}:
                raise MessageError(
                    source,
                    f"compressed as items of {content.item_bytes} bytes, but typed as "
                    f"{self.dtype.name}",
                )
            data = FrameData(content.payload, content.codec, shape, self.dtype)
        data.check(source)
        return data


def read_map(source: str, message: bytes) -> dict[Any, Any]:
    """Return a message that is one map; its typed arrays are `FrameData`.

    Those that are inconsistent are `Unusable`: users may send any along. Values of
    tags that are not known here stand without their tag.

    Parameters
    ----------
    source : str
        Which message, for errors.
    message : bytes
        The whole message. Not a memoryview: cbor2 copies it ten times slower.

    Raises
    ------
    MessageError
        If it is truncated, too long or too deep, or no map.
    """
    _check_heads(source, message)

    def untag(tag: cbor2.CBORTag, immutable: bool) -> Any:  # noqa: ARG001
        try:
            return _untagged(source, tag)
        except MessageError as error:
            return Unusable(error)

    try:
        found = cbor2.loads(
            message,
            tag_hook=untag,
            semantic_decoders=_PLAIN,
            max_depth=2 * _MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except cbor2.CBORDecodeError as error:
        raise MessageError(source, f"no CBOR: {error}") from error
    if not isinstance(found, dict):
        raise MessageError(source, f"expected a map, got {type(found).__name__}")
    return found


def _plain(value: Any, immutable: bool) -> Any:  # noqa: ARG001
    return value


# Tags that cbor2 would make objects of, some of them at great cost.
_PLAIN: Final[Mapping[int, Any]] = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261,
     1004, 43000, 55799),
    _plain,
)  # fmt: skip


def _untagged(source: str, tag: cbor2.CBORTag) -> Any:
    if tag.tag == _COMPRESSED:
        return _compressed(source, tag.value)
    if tag.tag in _TYPES:
        if isinstance(tag.value, Unusable):
            return tag.value
        if not isinstance(tag.value, bytes | _Compressed):
            raise MessageError(source, f"tag {tag.tag} without bytes")
        return _Typed(np.dtype(_TYPES[tag.tag]), tag.value)
    if tag.tag == _MULTI_DIM:
        return _multi_dim(source, tag.value)
    if tag.tag == _MULTI_DIM_COLUMNS:
        raise MessageError(source, "arrays in column-major order are not supported")
    return tag.value


def _compressed(source: str, value: Any) -> _Compressed:
    match value:
        case (str(name), int(size), bytes(payload)) if name in _CODECS:
            return _Compressed(_CODECS[name], size, payload)
    raise MessageError(
        source,
        f"compression {shown(value)}: expected one of "
        f"{', '.join(_CODECS)}, a size, and bytes",
    )


def _multi_dim(source: str, value: Any) -> FrameData:
    match value:
        case ([*dims], _Typed() as typed) if 0 < len(dims) <= 4 and all(
            type(n) is int and 0 < n < 2**31 for n in dims
        ):
            return typed.with_shape(source, tuple(dims))
        case (_, Unusable() as unusable):
            raise unusable.error
    raise MessageError(
        source, f"array {shown(value)}: expected its dimensions and a typed array"
    )


# ------------------------------------------------------------------------ the heads


def _check_heads(source: str, message: bytes) -> None:
    """Raise MessageError if building the items could cost much more than `message`."""
    end = len(message)
    position = n_items = 0
    open_items = [1]
    while open_items:
        if not open_items[-1]:
            open_items.pop()
            continue
        open_items[-1] -= 1
        n_items += 1
        kind, length, position = _head(source, message, position)
        if kind in {_BYTES, _TEXT}:
            if kind == _TEXT and length > _MAX_TEXT_BYTES:
                raise MessageError(source, f"a text of {shown(length)} bytes")
            position += length
        elif kind in {_ARRAY, _MAP, _TAG}:
            n_inside = {_ARRAY: length, _MAP: 2 * length, _TAG: 1}[kind]
            n_items_left = MAX_ITEMS - n_items
            if n_inside > min(end - position, n_items_left):
                raise MessageError(
                    source,
                    f"{shown(n_inside)} items in {end - position} bytes; at most "
                    f"{MAX_ITEMS} are read",
                )
            open_items.append(n_inside)
        if position > end:
            raise MessageError(
                source, f"truncated: {shown(position - end)} bytes are missing"
            )
        if n_items > MAX_ITEMS or len(open_items) > _MAX_DEPTH:
            raise MessageError(
                source, f"more than {MAX_ITEMS} items, or {_MAX_DEPTH} levels"
            )
    if position != end:
        raise MessageError(source, f"{end - position} bytes follow the message")


def _head(source: str, message: bytes, position: int) -> tuple[int, int, int]:
    """Return kind and length of the item at a position, and where its content is."""
    if position >= len(message):
        raise MessageError(source, "truncated")
    kind, info = divmod(message[position], 32)
    position += 1
    if info < 24:
        return kind, info, position
    if info > 27:
        raise MessageError(source, "an item of indefinite length")
    stop = position + (1 << (info - 24))
    return kind, int.from_bytes(message[position:stop], "big"), stop
