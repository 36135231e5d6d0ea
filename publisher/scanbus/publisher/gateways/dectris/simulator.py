"""A simulated DECTRIS detector: sends a series over a real socket.

For tests, and for trying a set-up without a detector.
"""

from __future__ import annotations

from typing import Any, Literal

from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.wire.simulated_frames import Compression
from scanbus.publisher.gateways.wire.simulated_series import send_series
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.wire.sockets import SimulatedSender

__all__ = ["simulate_series", "simulated_config"]


def simulated_config(n_frames: int) -> dict[str, Any]:
    """Return the configuration of a simulated detector, with the keys of stream V1."""
    return {
        "count_time": 0.01,
        "description": "simulated",
        "nimages": n_frames,
        "ntrigger": 1,
    }


def simulate_series(
    sender: SimulatedSender,
    *,
    n_frames: int,
    series: int = 1,
    stream: Literal["v1", "v2"] = "v1",
    shape: tuple[int, int] = (512, 1030),
    compression: Compression = "bslz4",
    rate_hz: float | None = None,
) -> None:
    """Send one series.

    Parameters
    ----------
    rate_hz : float, optional
        Frames per second; by default as fast as they are taken. With a rate, frames
        that are not taken in time are dropped, as a detector does.
    """
    messages: SeriesV1 | SeriesV2
    if stream == "v1":
        config = simulated_config(n_frames)
        messages = SeriesV1(series, config, compression=compression)
    else:
        config = {
            "count_time": 0.01,
            "number_of_images": n_frames,
            "channels": ["threshold_1"],
        }
        messages = SeriesV2(series, config, compression=compression)
    send_series(sender, messages, n_frames=n_frames, shape=shape, rate_hz=rate_hz)
