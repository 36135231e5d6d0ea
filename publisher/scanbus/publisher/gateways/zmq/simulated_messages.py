"""Messages of JSON and bytes as a simulated sender makes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanbus.publisher.gateways.wire.simulated_frames import (
    Compression,
    Frame,
    packed_frame,
)

__all__ = ["ArrayFrames", "MaxivSeries"]


@dataclass(frozen=True)
class ArrayFrames:
    """Frames of ``array-1.0``, without start and end.

    Parameters
    ----------
    compression : {"bslz4", "lz4", "none"}
        Compression of the frames.
    fields : mapping
        Further keys of each header.
    """

    compression: Compression = "none"
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def header(self) -> list[bytes]:
        """Return nothing: there is no message of the start."""
        return []

    def image(
        self,
        number: int,
        frame: Frame,
        times: Mapping[str, int] | None = None,  # noqa: ARG002 - a frame has none
    ) -> list[bytes]:
        """Return the message of one frame of any byte order."""
        described = _described("array-1.0", number, frame)
        if self.compression != "none":
            described["compression"] = self.compression
        if frame.dtype.str[0] == ">":
            described["encoding"] = "big"
        return [
            _json({**described, **self.fields}),
            packed_frame(frame, self.compression),
        ]

    def end(self) -> list[bytes]:
        """Return nothing: there is no message of the end."""
        return []


@dataclass(frozen=True)
class MaxivSeries:
    """Messages of one series as MAX IV's detectors send them.

    Parameters
    ----------
    number : int
        Number of the message of the start.
    config : mapping
        Second part of that message.
    compression : {"bslz4", "lz4", "none"}
        Compression of the frames.
    """

    number: int
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    compression: Compression = "bslz4"

    def header(self) -> list[bytes]:
        """Return the message of the start."""
        filename = f"/data/scan_{self.number:06}.h5"
        first = {"htype": "header", "msg_number": self.number, "filename": filename}
        return [_json(first), _json(dict(self.config))]

    def image(
        self,
        number: int,
        frame: Frame,
        times: Mapping[str, int] | None = None,  # noqa: ARG002 - a frame has none
    ) -> list[bytes]:
        """Return the message of one frame."""
        described = _described("image", number, frame)
        described["compression"] = self.compression
        described["msg_number"] = self.number + 1 + number
        return [_json(described), packed_frame(frame, self.compression)]

    def end(self) -> list[bytes]:
        """Return the message of the end."""
        return [_json({"htype": "series_end", "msg_number": self.number})]


def _described(htype: str, number: int, frame: Frame) -> dict[str, Any]:
    return {
        "htype": htype,
        "shape": list(frame.shape),
        "type": frame.dtype.name,
        "frame": number,
    }


def _json(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()
