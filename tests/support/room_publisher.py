"""A publisher in a process of its own, which does as it is told and can be killed."""

import multiprocessing
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from scanbus.publisher import Publisher, Scan
from scanbus.schemas.errors import DeadlineError, QuotaRefusedError, ScanbusError

__all__ = ["FRAME_BYTES", "N_FRAMES", "Room", "RoomPublisher"]

FRAME_BYTES = 2**16
N_FRAMES = 20
_CONTEXT = multiprocessing.get_context("spawn")
_ANSWER_S = 60.0


@dataclass(frozen=True)
class Room:
    """What a publisher believes of the room of one of its scans, in bytes."""

    reserved: int
    wanted: int
    kept: int
    is_fully_sent: bool


class RoomPublisher:
    """The process, as the test sees it; each call returns when it is done."""

    def __init__(self, url: str) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_run, args=(theirs, url), daemon=True)
        self._process.start()
        theirs.close()
        self.uids: set[str] = set()
        self.n_left = 0

    @property
    def has_open_scan(self) -> bool:
        return self.n_left > 0

    def open(self) -> None:
        """Open a scan, unless there is no room for it."""
        uid = self._ask("open")
        if uid:
            self.uids.add(uid)
            self.n_left = N_FRAMES

    def send(self, n_frames: int) -> None:
        n_frames = min(n_frames, self.n_left - 1)
        self._ask("send", n_frames)
        self.n_left -= n_frames

    def finish(self) -> None:
        self._ask("finish")
        self.n_left = 0

    def refuse(self) -> None:
        """Open a scan that can never fit."""
        assert self._ask("refuse") == "refused"

    def rooms(self) -> dict[str, Room]:
        """Return the room of each scan without a verdict."""
        found: dict[str, Room] = self._ask("rooms")
        return found

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _ask(self, *order: Any) -> Any:
        self._pipe.send(order)
        if not self._pipe.poll(_ANSWER_S):
            raise AssertionError(f"no answer to {order}")
        return self._pipe.recv()


def _run(pipe: Connection, url: str) -> None:
    with Publisher(url, send_deadline_s=10, close_timeout_s=0.1) as publisher:
        stack = ExitStack()
        scan: Scan | None = None
        while True:
            match pipe.recv():
                case ("open",):
                    scan = publisher.scan()
                    pipe.send(_opened(scan, stack))
                case ("send", n_frames):
                    assert scan is not None
                    for _ in range(n_frames):
                        scan.send("d", np.zeros((128, 256), np.uint16))
                    pipe.send("sent")
                case ("finish",):
                    stack.close()
                    pipe.send("finished")
                case ("refuse",):
                    pipe.send(_refused(publisher))
                case ("rooms",):
                    pipe.send(_rooms(publisher))


def _opened(scan: Scan, stack: ExitStack) -> str:
    try:
        stack.enter_context(scan)
        scan.detector(
            "d", shape=(128, 256), dtype="uint16", codec="none", points=N_FRAMES
        )
        scan.prepare()
    except (DeadlineError, QuotaRefusedError):
        with suppress(ScanbusError):
            stack.close()
        return ""
    return scan.uid


def _refused(publisher: Publisher) -> str:
    try:
        with publisher.scan(quota_bytes=2**45) as scan:
            scan.channel("a")
            scan.send("a", 1.0)
    except QuotaRefusedError:
        return "refused"
    return "taken"


def _rooms(publisher: Publisher) -> dict[str, Room]:
    return {
        queue.uid: Room(
            queue.watch.reserved_bytes,
            queue.watch.wanted_bytes,
            queue.watch.kept_bytes,
            queue.watch.is_fully_sent,
        )
        for queue in publisher._monitor.unreleased
    }
