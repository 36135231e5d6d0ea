"""Simulated senders of frames over ZeroMQ, to try a set-up without a detector."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from scanbus.publisher.gateways.wire.simulated_frames import Compression
from scanbus.publisher.gateways.wire.simulated_series import (
    SeriesMessages,
    send_series,
)
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.wire.sockets import SimulatedSender
from scanbus.publisher.gateways.zmq.simulated_messages import ArrayFrames, MaxivSeries

__all__ = ["simulate_frames"]


def simulate_frames(
    sender: SimulatedSender,
    *,
    n_frames: int,
    convention: Literal["array", "maxiv", "jungfraujoch"] = "array",
    shape: tuple[int, int] = (512, 1030),
    compression: Compression = "bslz4",
    rate_hz: float | None = None,
) -> None:
    """Send one series.

    Parameters
    ----------
    convention : {"array", "maxiv", "jungfraujoch"}
        Frames alone; a series of JSON and bytes; a series of CBOR.
    rate_hz : float, optional
        Frames per second; by default as fast as they are taken. With a rate, frames
        that are not taken in time are dropped, as a detector does.
    """
    messages: SeriesMessages
    calibration: list[list[bytes]] = []
    if convention == "array":
        messages = ArrayFrames(compression)
    elif convention == "maxiv":
        meta: dict[str, Any] = {"exptime": 0.01, "nimages": n_frames, "ntrigger": 1}
        messages = MaxivSeries(1, meta, compression)
    else:
        config = {"number_of_images": n_frames, "count_time": 0.01}
        series = SeriesV2(1, config, compression, channel="default")
        calibration = [series.calibration("pedestal_G0", np.zeros(shape, "<u2"))]
        messages = series
    send_series(
        sender,
        messages,
        n_frames=n_frames,
        shape=shape,
        rate_hz=rate_hz,
        after_start=calibration,
    )
