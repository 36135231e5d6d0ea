"""Messages of stream V2 as a simulated sender makes them.

For tests, and for whoever tries a receiver without a detector. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
import numpy as np

from scanbus.publisher.gateways.wire.simulated_frames import (
    Compression,
    Frame,
    packed_frame,
)

__all__ = ["SeriesV2"]

# RFC 8746: tags of typed arrays.
_TAGS = {
    "|u1": 64, ">u2": 65, ">u4": 66, ">u8": 67, "<u2": 69, "<u4": 70, "<u8": 71,
    "|i1": 72, ">i2": 73, ">i4": 74, ">i8": 75, "<i2": 77, "<i4": 78, "<i8": 79,
    ">f2": 80, ">f4": 81, ">f8": 82, "<f2": 84, "<f4": 85, "<f8": 86,
}  # fmt: skip


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
    channel : str
        Name of the channel, where a frame has only one.
    """

    series: int
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    compression: Compression = "bslz4"
    unique_id: str = "01HXYZ"
    channel: str = "threshold_1"
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
        channels = frame if isinstance(frame, Mapping) else {self.channel: frame}
        data = {name: self._array(each) for name, each in channels.items()}
        taken = {name: [ticks, 10**9] for name, ticks in (times or {}).items()}
        date = cbor2.CBORTag(0, self.date)
        fields = {"image_id": number, "series_date": date, "data": data, **taken}
        return [self._message("image", fields)]

    def calibration(self, name: str, array: Frame) -> list[bytes]:
        """Return a message with an array of Jungfraujoch's calibration."""
        return [self._message("calibration", {"data": {name: self._array(array)}})]

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
        content: bytes | cbor2.CBORTag = packed_frame(array, self.compression)
        if self.compression != "none":
            size = array.dtype.itemsize if self.compression == "bslz4" else 0
            content = cbor2.CBORTag(56500, [self.compression, size, content])
        typed = cbor2.CBORTag(_TAGS[array.dtype.str], content)
        return cbor2.CBORTag(40, [list(array.shape), typed])
