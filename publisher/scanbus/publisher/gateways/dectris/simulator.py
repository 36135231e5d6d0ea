"""A simulated DECTRIS detector: sends series over a real socket.

For tests, and for trying a set-up without a detector.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import zmq

from scanbus.publisher.gateways.dectris.simulated_messages import (
    Compression,
    SeriesV1,
    SeriesV2,
)
from scanbus.schemas.errors import ConfigurationError

__all__ = ["SimulatedDetector", "simulate_series"]

_SEND_BUFFER = 100


class SimulatedDetector:
    """A bound PUSH socket; messages wait in it, up to a bound, for who pulls them.

    Parameters
    ----------
    address : str
        Where it listens, such as ``tcp://127.0.0.1:9999``; port ``*`` for a free one.
    buffer : int
        Messages that it keeps while nobody takes them; then `send` waits.

    Attributes
    ----------
    address : str
        Where it listens.
    dropped : int
        Messages that nobody took in time.
    """

    def __init__(self, address: str, *, buffer: int = _SEND_BUFFER) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, buffer)
        self.dropped = 0
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigurationError("address", f"{address!r}: {error}") from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def __enter__(self) -> Self:
        """Return the detector."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the socket."""
        self.close()

    def send(self, parts: Sequence[bytes], timeout_s: float = 30.0) -> bool:
        """Send a message; return False if its buffer is full for so long.

        A detector drops the message then.
        """
        if not self._socket.poll(int(timeout_s * 1000), zmq.POLLOUT):
            self.dropped += 1
            return False
        self._socket.send_multipart(parts)
        return True

    def close(self, linger_s: float = 10.0) -> None:
        """Close the socket when its messages were taken, or after `linger_s`."""
        self._socket.setsockopt(zmq.LINGER, int(linger_s * 1000))
        self._socket.close()
        with suppress(zmq.ZMQError):
            self._context.term()


def simulated_frames(
    shape: tuple[int, int], dtype: str = "<u2", seed: int = 0
) -> Iterator[npt.NDArray[Any]]:
    """Yield frames for ever: Poisson noise, of which each has the one after shifted."""
    rng = np.random.default_rng(seed)
    base = rng.poisson(20, shape).astype(dtype)
    while True:
        yield base
        base = np.roll(base, 1, axis=0)


def simulate_series(
    detector: SimulatedDetector,
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
    config: dict[str, Any] = {"count_time": 0.01}
    messages: SeriesV1 | SeriesV2
    if stream == "v1":
        config |= {"nimages": n_frames, "ntrigger": 1, "description": "simulated"}
        messages = SeriesV1(series, config, compression=compression)
    else:
        config |= {"number_of_images": n_frames, "channels": ["threshold_1"]}
        messages = SeriesV2(series, config, compression=compression)
    detector.send(messages.header())
    started = time.monotonic()
    for number, frame in zip(range(n_frames), simulated_frames(shape), strict=False):
        timeout_s = 30.0
        if rate_hz is not None:
            time.sleep(max(0.0, started + number / rate_hz - time.monotonic()))
            timeout_s = 1.0
        ticks = number * 10**7
        times = {"start_time": ticks, "stop_time": ticks + 10**7, "real_time": 10**7}
        detector.send(messages.image(number, frame, times), timeout_s)
    detector.send(messages.end())
