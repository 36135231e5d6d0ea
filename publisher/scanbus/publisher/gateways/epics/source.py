"""Subscribe to the images of an IOC, and to PVs beside them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from time import time as wall_clock
from typing import Any

from p4p.client.raw import Context, RemoteError

from scanbus.publisher.gateways.epics.ndarray_message import (
    NdArray,
    image_time,
    is_image,
    is_ndarray,
    is_readable,
)
from scanbus.publisher.gateways.epics.slow_pv import SlowPv, wrong_addresses
from scanbus.publisher.gateways.runner.frame_numbers import is_far_behind
from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.messages import (
    NoteArrived,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.schemas.errors import ConfigurationError, SourceFailedError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["OpenedScan", "PvaSettings", "PvaSource"]

log = get_logger()

# The server keeps so many images for us; it drops what comes when they are all there.
_QUEUE = "record[queueSize={},pipeline=true]field()"
# What a PV has when we connect may be an image of yesterday.
_FRESH_S = 5.0
# So long an IOC may take to answer, before it is said that none does.
_FIND_S = 5.0
_NOT_FOUND = (
    "no IOC answers for PV {}: is the name right, and does EPICS_PVA_ADDR_LIST have "
    "its address?"
)


@dataclass(frozen=True, slots=True)
class PvaSettings:
    """What is subscribed to.

    Parameters
    ----------
    pv : str
        PV of the images, such as ``13SIM1:Pva1:Image``.
    slow : mapping
        Channel to the PV whose values it has.
    n_frames : int, optional
        Frames of a series, after which it ends.
    idle_s : float
        A series ends when no image has come for so long, in seconds.
    stale_s : float, optional
        Age beyond which a value from before the series counts as stale, in seconds.
    queue_images : int
        Images that the server keeps for us.
    find_s : float, optional
        Longest wait for an IOC that has the images, in seconds; by default for ever.
    conf : mapping, optional
        Addresses, as EPICS names them; by default those of the environment.
    """

    pv: str
    slow: Mapping[str, str] = field(default_factory=dict[str, str])
    n_frames: int | None = None
    idle_s: float = 10.0
    stale_s: float | None = None
    queue_images: int = 100
    find_s: float | None = None
    conf: Mapping[str, str] | None = None


class OpenedScan:
    """What the runner says of the scan of the series on the way."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._next_number = 0

    def forget(self) -> None:
        """Wait for another scan."""
        self._opened.clear()

    def set(self, next_number: int) -> None:
        """Note that a scan is open, with all frames before a number."""
        self._next_number = next_number
        self._opened.set()

    def wait(self, timeout_s: float) -> int | None:
        """Return that number; None if no scan was opened in time."""
        return self._next_number if self._opened.wait(timeout_s) else None


class PvaSource:
    """Subscriptions of one context; they reconnect by themselves.

    Parameters
    ----------
    settings : PvaSettings
        What is subscribed to.
    opened : OpenedScan
        What the runner says.
    """

    def __init__(self, settings: PvaSettings, opened: OpenedScan) -> None:
        self._settings = settings
        self._opened = opened
        conf = settings.conf
        try:
            self._context = Context(
                "pva", conf=dict(conf) if conf else None, useenv=conf is None, nt=False
            )
        except RuntimeError as error:
            raise wrong_addresses(error) from error
        self._wakeup = threading.Event()
        request = _QUEUE.format(settings.queue_images)
        self._slow = [
            (SlowPv(channel, pv), self._context.monitor(pv, self._wakeup.set))
            for channel, pv in settings.slow.items()
        ]
        self._images = self._context.monitor(
            settings.pv, self._wakeup.set, request=request
        )
        self._messages: deque[RawMessage] = deque()
        # The first image of a series, until its scan is open.
        self._held: Any = None
        self._is_connected = self._is_found = False
        self._began, self._are_missing_told = monotonic(), False
        # A series that a process before this one began waits for its next image.
        self._is_on_way = self._is_left = False
        self._n_images = self._stop = 0
        self._last_id: int | None = None
        self._last_time = self._last_arrival = 0.0

    def close(self) -> None:
        """Disconnect."""
        self._images.close()
        for _, subscription in self._slow:
            subscription.close()
        self._context.close()

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message; None if there is none in time."""
        deadline = monotonic() + timeout_s
        while True:
            self._wakeup.clear()
            message = self._next()
            left_s = deadline - monotonic()
            if message is not None or left_s <= 0:
                return message
            self._wakeup.wait(min(left_s, 0.02) if self._held is not None else left_s)

    def _next(self) -> RawMessage | None:
        if self._messages:
            return self._messages.popleft()
        self._look_at_slow()
        self._look_for_missing()
        if self._messages:
            return self._messages.popleft()
        if self._held is not None:
            return self._release()
        found = self._images.pop()
        if found is None:
            self._look_for_left()
            return self._end_if_idle()
        if isinstance(found, RemoteError):
            # Unlike a disconnection, it is final.
            reason = f"its server refuses to send images ({found})"
            raise SourceFailedError(f"PV {self._settings.pv}", reason)
        if isinstance(found, Exception):
            self._disconnect()
        else:
            self._note_found(found)
            if not is_readable(found):
                self._put(NdArray(self._settings.pv, found))  # Decoding says why.
            elif is_image(found):
                self._take(found)
            else:
                self._is_connected = True  # To a PV without image: the next is new.
        return self._messages.popleft() if self._messages else None

    # ------------------------------------------------------------- PVs not found

    def _look_for_missing(self) -> None:
        """Say once which PVs nobody has; raise if the images must be there by now."""
        waited_s, settings = monotonic() - self._began, self._settings
        if waited_s > _FIND_S and not self._are_missing_told:
            self._are_missing_told = True
            missing = [pv.pv for pv, _ in self._slow if pv.is_missing]
            for name in [*([] if self._is_found else [settings.pv]), *missing]:
                log.warning(LogEvent.SENDER_NOTE, text=_NOT_FOUND.format(name))
        if self._is_found or settings.find_s is None or waited_s < settings.find_s:
            return
        reason = f"{_NOT_FOUND.format(settings.pv)} Waited for {settings.find_s:g} s"
        raise ConfigurationError("pv", reason)

    def _note_found(self, found: Any) -> None:
        """Note that the images are there; raise if the PV is none for images."""
        if not (self._is_found or is_ndarray(found)):
            reason = f"{self._settings.pv} is no NTNDArray, but {found.getID()}"
            raise ConfigurationError("pv", reason)
        if self._are_missing_told and not self._is_found:
            text = f"PV {self._settings.pv} is connected"
            log.warning(LogEvent.SENDER_NOTE, text=text)
        self._is_found = True

    # --------------------------------------------------------------------- images

    def _disconnect(self) -> None:
        if self._is_connected:
            self._note(NoteArrived(f"PV {self._settings.pv} is disconnected"))
        self._is_connected = False

    def _take(self, image: Any) -> None:
        """Send an image, after the start of its series if it is the first one."""
        is_first, self._is_connected = not self._is_connected, True
        number, taken = int(image.uniqueId), image_time(image) or 0.0
        if is_first and self._is_old(number, taken):
            return
        is_anew = taken > self._last_time or is_far_behind(number, self._stop - 1)
        if self._is_on_way and number < self._stop and is_anew:
            self._end()  # Its numbers begin again.
        if not self._is_on_way:
            self._begin(image)
            return
        self._send(image)

    def _is_old(self, number: int, taken: float) -> bool:
        """Whether the image that a PV has when we connect is not a new one."""
        if self._last_id is not None:
            return number == self._last_id and taken == self._last_time
        return wall_clock() - taken > _FRESH_S

    def _begin(self, image: Any) -> None:
        now, number = image_time(image) or wall_clock(), int(image.uniqueId)
        settings = self._settings
        self._is_on_way, self._is_left, self._n_images = True, False, 0
        self._stop, self._last_time = number, 0.0
        self._last_arrival = monotonic()
        self._opened.forget()
        self._held = image
        self._put(
            SeriesStarted(
                settings.pv,
                n_frames=settings.n_frames,
                # The first two may have changed places. After 2**31 - 1 an IOC
                # counts from -2**31.
                first_number=None if number in {0, 1} else number,
                slow=[each.at_start(now, settings.stale_s) for each, _ in self._slow],
            )
        )
        for each, _ in self._slow:
            if each.trouble:
                text = f"{each.channel} has no value, PV {each.pv}: {each.trouble}"
                self._put(NoteArrived(text))

    def _release(self) -> RawMessage | None:
        """Send the first image when its scan is open."""
        next_number = self._opened.wait(0.0)
        if next_number is None:
            return None
        image, self._held = self._held, None
        number = int(image.uniqueId)
        if number == next_number - 1:
            # The last image that a process before this one has sent.
            self._note_sent(image)
        elif number < next_number:
            self._end()
            self._begin(image)
        else:
            self._send(image)
        return self._messages.popleft() if self._messages else None

    def _note_sent(self, image: Any) -> None:
        self._last_id = number = int(image.uniqueId)
        self._stop = max(self._stop, number + 1)
        self._last_time = max(self._last_time, image_time(image) or 0.0)
        self._last_arrival = monotonic()

    def _send(self, image: Any) -> None:
        self._note_sent(image)
        self._n_images += 1
        content = NdArray(self._settings.pv, image)
        self._put(content, getattr(image.value, "nbytes", 0))
        if self._n_images == self._settings.n_frames:
            self._end()

    def _look_for_left(self) -> None:
        """Note that the runner goes on with a series, though no image has come yet."""
        is_ours = self._is_on_way or self._is_left
        if not is_ours and self._opened.wait(0.0) is not None:
            self._is_left, self._last_arrival = True, monotonic()

    def _end_if_idle(self) -> RawMessage | None:
        is_idle = monotonic() - self._last_arrival > self._settings.idle_s
        if not (self._is_on_way or self._is_left) or not is_idle:
            return None
        self._end()
        return self._messages.popleft()

    def _end(self) -> None:
        self._is_on_way = self._is_left = False
        self._opened.forget()
        self._put(SeriesEnded(self._settings.pv))

    def _note(self, note: NoteArrived) -> None:
        log.warning(LogEvent.SENDER_NOTE, text=note.text)
        if self._is_on_way:
            self._put(note)

    def _put(self, content: Any, n_bytes: int = 0) -> None:
        self._messages.append(RawMessage(content, n_bytes, wall_clock()))

    # ------------------------------------------------------------------- slow PVs

    def _look_at_slow(self) -> None:
        for pv, subscription in self._slow:
            while (found := subscription.pop()) is not None:
                was_there = pv.is_there
                value = pv.update(found, wall_clock())
                note = pv.note(was_there=was_there)
                if note is not None:
                    self._note(note)
                elif pv.trouble and isinstance(found, Exception):
                    log.warning(LogEvent.SENDER_NOTE, text=f"PV {pv.pv}: {pv.trouble}")
                if value is not None and self._is_on_way:
                    self._put(value)
