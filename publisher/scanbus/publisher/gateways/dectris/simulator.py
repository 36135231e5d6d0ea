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


_OMEGA_DEG, _STEP_DEG = 10.0, 0.1
# What both streams call the same; the pixels are those of an EIGER2.
_COMMON: dict[str, Any] = {
    "beam_center_x": 515.5,
    "beam_center_y": 256.25,
    "count_time": 0.0099,
    "detector_distance": 0.15,
    "frame_time": 0.01,
    "sensor_material": "Si",
    "sensor_thickness": 450e-6,
}


def simulated_config(n_frames: int) -> dict[str, Any]:
    """Return the configuration of a simulated detector, with the keys of stream V1.

    It turns the sample by 0.1 deg a frame, at a wavelength of 1 angstrom.
    """
    return {
        **_COMMON,
        "bit_depth_image": 16,
        "bit_depth_readout": 16,
        "countrate_correction_count_cutoff": 65_000,
        "description": "simulated",
        "detector_number": "E-00-0000",
        "nimages": n_frames,
        "ntrigger": 1,
        "omega_increment": _STEP_DEG,
        "omega_start": _OMEGA_DEG,
        "software_version": "1.8.0",
        "wavelength": 1.0,
        "x_pixel_size": 75e-6,
        "y_pixel_size": 75e-6,
    }


def _simulated_start(n_frames: int) -> dict[str, Any]:
    """Return the same with the keys of stream V2."""
    return {
        **_COMMON,
        "channels": ["threshold_1"],
        "detector_description": "simulated",
        "detector_serial_number": "E-00-0000",
        "goniometer": {"omega": {"start": _OMEGA_DEG, "increment": _STEP_DEG}},
        "incident_wavelength": 1.0,
        "number_of_images": n_frames,
        "pixel_size_x": 75e-6,
        "pixel_size_y": 75e-6,
        "saturation_value": 65_000,
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
        config = _simulated_start(n_frames)
        messages = SeriesV2(series, config, compression=compression)
    send_series(sender, messages, n_frames=n_frames, shape=shape, rate_hz=rate_hz)
