"""Messages of a simulated DECTRIS detector, as the SIMPLON API documents them.

For tests, and for whoever tries a receiver without a detector. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, Literal, TypeAlias

import lz4.block
import numpy as np

from scanbus.publisher.gateways.wire.simulated_frames import (
    Compression,
    Frame,
    packed_frame,
)

__all__ = ["HeaderDetail", "SeriesV1"]

HeaderDetail: TypeAlias = Literal["none", "basic", "all"]


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
        blob = packed_frame(frame, self.compression)
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
