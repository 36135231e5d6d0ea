"""A simulated IOC: images and PVs over PVAccess, as areaDetector sends them.

For tests, and for trying a set-up without a detector.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from p4p import Value
from p4p.nt import NTNDArray, NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

from scanbus.publisher.gateways.epics.slow_pv import wrong_addresses

__all__ = ["SimulatedIoc", "simulate_images"]

_LAST_S = 2.0
_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


class _Handler:
    """Takes note of the first client of a PV.

    Parameters
    ----------
    has_client : threading.Event
        Set while there is one.
    """

    def __init__(self, has_client: threading.Event) -> None:
        self._has_client = has_client

    def onFirstConnect(self, _pv: Any) -> None:  # noqa: N802 - the name of p4p
        """Somebody connects."""
        self._has_client.set()

    def onLastDisconnect(self, _pv: Any) -> None:  # noqa: N802 - the name of p4p
        """Nobody is connected."""
        self._has_client.clear()


class SimulatedIoc:
    """A server with one PV of images, and others.

    Parameters
    ----------
    image : str
        PV of the images.
    values : mapping
        Other PVs, with their first values: numbers or text.
    is_isolated : bool
        Listen at free ports of this host only; else as EPICS's environment says.

    Attributes
    ----------
    conf : dict
        Addresses for clients.

    Raises
    ------
    ConfigurationError
        If it cannot listen where the environment says.
    """

    def __init__(
        self,
        image: str,
        values: Mapping[str, float | str] | None = None,
        *,
        is_isolated: bool = False,
    ) -> None:
        self._image = image
        self._values = dict(values or {})
        self._type = NTNDArray()
        self._server: Any = None
        self.conf = self._start(
            **({"isolate": True} if is_isolated else {"useenv": True})
        )

    def _start(self, **how: Any) -> dict[str, str]:
        self._pvs = {
            name: SharedPV(
                nt=NTScalar("s" if isinstance(value, str) else "d", display=True),
                initial=value,
                timestamp=time.time(),
            )
            for name, value in self._values.items()
        }
        self._has_client = threading.Event()
        self._images = SharedPV(
            initial=Value(self._type.type, {}), handler=_Handler(self._has_client)
        )
        try:
            self._server = Server(
                providers=[{self._image: self._images, **self._pvs}], **how
            )
        except RuntimeError as error:
            raise wrong_addresses(error) from error
        return dict(self._server.conf())

    def __enter__(self) -> Self:
        """Return the IOC."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.close()

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def wait_for_client(self, timeout_s: float) -> bool:
        """Return whether somebody has connected to the images in time."""
        return self._has_client.wait(timeout_s)

    def restart(self) -> None:
        """Serve again at the same addresses, with no image and the last values."""
        self.close()
        self._start(conf=self.conf, useenv=False)

    def remove(self, name: str) -> None:
        """Disconnect the clients of a PV."""
        self._pvs[name].close(destroy=True)

    def add(self, name: str, **how: Any) -> None:
        """Have a PV again that was removed, with its last value."""
        self._pvs[name].open(self._values[name], **{"timestamp": time.time(), **how})

    def post(self, name: str, value: float | str, **how: Any) -> None:
        """Change the value of a PV."""
        self._values[name] = value
        self._pvs[name].post(value, **{"timestamp": time.time(), **how})

    def send(
        self,
        number: int,
        frame: npt.NDArray[Any],
        attributes: Mapping[str, Any] | None = None,
        *,
        taken: float | None = None,
    ) -> None:
        """Send an image.

        Parameters
        ----------
        frame : numpy.ndarray
            The pixels.
        taken : float, optional
            When it was taken, in seconds since 1970; by default now.
        """
        value = self._type.wrap(frame, attrib={"ColorMode": 0, **(attributes or {})})
        # A PV keeps what is not set.
        value.codec = {"name": ""}
        self.send_value(number, value, taken=taken)

    def send_packed(
        self, number: int, blob: bytes, codec: str, shape: tuple[int, ...], dtype: str
    ) -> None:
        """Send an image that a codec of areaDetector has packed."""
        empty: npt.NDArray[Any] = np.zeros(shape, dtype)
        value = self._type.wrap(empty)
        value.value = ("ubyteValue", np.frombuffer(blob, "u1"))
        value.codec = {
            "name": codec,
            "parameters": _TYPES.index(np.dtype(dtype).str[1:]),
        }
        value.compressedSize = len(blob)
        value.uncompressedSize = empty.nbytes
        self.send_value(number, value)

    def send_value(
        self, number: int, value: Any, *, taken: float | None = None
    ) -> None:
        """Send any NTNDArray, with number and time."""
        taken = time.time() if taken is None else taken
        stamp = {
            "secondsPastEpoch": int(taken),
            "nanoseconds": int(taken % 1 * 1e9),
        }
        value.uniqueId = number
        value.dataTimeStamp = value.timeStamp = stamp
        self._images.post(value)


def simulate_images(
    ioc: SimulatedIoc,
    *,
    n_frames: int,
    shape: tuple[int, int] = (1024, 1024),
    rate_hz: float = 10.0,
    wait_s: float = 0.0,
) -> None:
    """Send one series of noise to whoever connects; keep the PV for its last images.

    Parameters
    ----------
    rate_hz : float
        Images per second; nobody tells an IOC that they are too many.
    wait_s : float
        Longest wait for a client, and time for it to take the last images, in seconds.
    """
    ioc.wait_for_client(wait_s)
    base = np.random.default_rng(0).poisson(20, shape).astype("u2")
    began = time.monotonic()
    for number in range(n_frames):
        time.sleep(max(0.0, began + number / rate_hz - time.monotonic()))
        ioc.send(number, np.roll(base, number, axis=0), {"Exposure": 1 / rate_hz})
    time.sleep(min(wait_s, _LAST_S))
