"""Messages of a simulated DECTRIS detector, as the SIMPLON API documents them.

For tests, and for whoever tries a receiver without a detector. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, Literal, TypeAlias

import cbor2
import lz4.block
import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec

__all__ = ["Compression", "HeaderDetail", "SeriesV1", "SeriesV2"]

Compression: TypeAlias = Literal["bslz4", "lz4", "none"]
HeaderDetail: TypeAlias = Literal["none", "basic", "all"]
Frame: TypeAlias = npt.NDArray[Any]

# RFC 8746: tags of typed arrays.
_TAGS = {
    "|u1": 64, ">u2": 65, ">u4": 66, ">u8": 67, "<u2": 69, "<u4": 70, "<u8": 71,
    "|i1": 72, ">i2": 73, ">i4": 74, ">i8": 75, "<i2": 77, "<i4": 78, "<i8": 79,
    ">f2": 80, ">f4": 81, ">f8": 82, "<f2": 84, "<f4": 85, "<f8": 86,
}  # fmt: skip


def _packed(frame: Frame, compression: Compression) -> bytes:
    """Return a frame as the HDF5 filter stores it; its bytes with ``none``."""
    name = {"bslz4": "bitshuffle-lz4", "lz4": "lz4", "none": "none"}[compression]
    return bytes(find_codec(name).encode(np.ascontiguousarray(frame)))


@dataclass(frozen=True)
class SeriesV1:
    """Messages of one series of stream V1, each a list of parts.

    Parameters
    ----------
    series : int
        Number of the series.
    config : mapping
        Configuration of the detector, part 2 of the header.
    detail : {"none", "basic", "all"}
        How much the header has.
    compression : {"bslz4", "lz4", "none"}
        Compression of the frames.
    header_appendix, image_appendix : bytes
        Last part of these messages; left out if empty.
    flatfield, mask, table : numpy.ndarray
        Arrays of the header with detail ``all``; shapes (i, j), (i, j), (2, n).
    """

    series: int
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    detail: HeaderDetail = "basic"
    compression: Compression = "bslz4"
    header_appendix: bytes = b""
    image_appendix: bytes = b""
    flatfield: Frame = field(default_factory=lambda: np.ones((4, 6), "<f4"))
    mask: Frame = field(default_factory=lambda: np.zeros((4, 6), "<u4"))
    table: Frame = field(default_factory=lambda: np.zeros((2, 1000), "<f4"))

    def header(self) -> list[bytes]:
        """Return the header."""
        first = {
            "htype": "dheader-1.0",
            "series": self.series,
            "header_detail": self.detail,
        }
        parts = [_json(first)]
        if self.detail != "none":
            parts.append(_json(dict(self.config)))
        if self.detail == "all":
            for htype, array, shape in (
                ("dflatfield-1.0", self.flatfield, self.flatfield.shape[::-1]),
                ("dpixelmask-1.0", self.mask, self.mask.shape[::-1]),
                ("dcountrate_table-1.0", self.table, self.table.shape),
            ):
                name = array.dtype.name
                parts.append(_json({"htype": htype, "shape": shape, "type": name}))
                parts.append(array.tobytes())
        return [*parts, self.header_appendix] if self.header_appendix else parts

    def image(
        self, number: int, frame: Frame, times: Mapping[str, int] | None = None
    ) -> list[bytes]:
        """Return the message of one frame of any byte order."""
        blob = _packed(frame, self.compression)
        if self.compression == "lz4":  # a block without framing
            blob = lz4.block.compress(frame.tobytes(), store_size=False)
        bits = f"bs{8 * frame.dtype.itemsize}-" if self.compression == "bslz4" else ""
        order = ">" if frame.dtype.str[0] == ">" else "<"
        described = {
            "htype": "dimage_d-1.0",
            "shape": frame.shape[::-1],
            "type": frame.dtype.name,
            "encoding": f"{bits}{'lz4' if self.compression != 'none' else ''}{order}",
            "size": len(blob),
        }
        first = {
            "htype": "dimage-1.0",
            "series": self.series,
            "frame": number,
            "hash": md5(blob, usedforsecurity=False).hexdigest(),
        }
        taken = {"start_time": 0, "stop_time": 0, "real_time": 0, **(times or {})}
        times_part = _json({"htype": "dconfig-1.0", **taken})
        parts = [_json(first), _json(described), blob, times_part]
        return [*parts, self.image_appendix] if self.image_appendix else parts

    def end(self) -> list[bytes]:
        """Return the message of the end."""
        return [_json({"htype": "dseries_end-1.0", "series": self.series})]


def _json(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()


@dataclass(frozen=True)
class SeriesV2:
    """Messages of one series of stream V2, each a list of one part.

    Parameters
    ----------
    series : int
        Number of the series.
    config : mapping
        Keys of the start message; arrays in it become typed arrays.
    compression : {"bslz4", "lz4", "none"}
        Compression of the frames.
    unique_id, date : str
        Unique name of the series; its begin, in ISO 8601.
    """

    series: int
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    compression: Compression = "bslz4"
    unique_id: str = "01HXYZ"
    date: str = "2026-01-02T03:04:05.25Z"

    def header(self) -> list[bytes]:
        """Return the start message."""
        config = {key: self._value(value) for key, value in self.config.items()}
        return [self._message("start", config)]

    def image(
        self,
        number: int,
        frame: Frame | Mapping[str, Frame],
        times: Mapping[str, int] | None = None,
    ) -> list[bytes]:
        """Return the message of one frame, or of one per channel; times in ns."""
        channels = frame if isinstance(frame, Mapping) else {"threshold_1": frame}
        data = {name: self._array(each) for name, each in channels.items()}
        taken = {name: [ticks, 10**9] for name, ticks in (times or {}).items()}
        date = cbor2.CBORTag(0, self.date)
        fields = {"image_id": number, "series_date": date, "data": data, **taken}
        return [self._message("image", fields)]

    def end(self) -> list[bytes]:
        """Return the message of the end."""
        return [self._message("end", {})]

    def _message(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        identity = {"series_id": self.series, "series_unique_id": self.unique_id}
        return cbor2.dumps({"type": kind, **identity, **fields})

    def _value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._value(each) for key, each in value.items()}
        return self._array(value) if isinstance(value, np.ndarray) else value

    def _array(self, array: Frame) -> cbor2.CBORTag:
        content: bytes | cbor2.CBORTag = _packed(array, self.compression)
        if self.compression != "none":
            size = array.dtype.itemsize if self.compression == "bslz4" else 0
            content = cbor2.CBORTag(56500, [self.compression, size, content])
        typed = cbor2.CBORTag(_TAGS[array.dtype.str], content)
        return cbor2.CBORTag(40, [list(array.shape), typed])
