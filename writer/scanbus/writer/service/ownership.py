"""The writer's side of the root: is it the bus's own, is it there, who else writes.

A root knows which bus writes which beamline, by heartbeats of writers in it. A thread
writes ours, as a mount that does not answer would block the service.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from scanbus.bus.protocol import HEARTBEATS_TO_LAPSE
from scanbus.bus.store import Bus, BusRoot, take_bus_id, take_root, writers_alive
from scanbus.schemas.errors import RootConflictError, RootUnusableError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.scan.admission import compare_root, own_root
from scanbus.writer.settings import WriterSettings
from scanbus.writer.storage.beamline_claims import (
    remove_beat,
    remove_old_beats,
    sees_writer,
    write_beat,
)

__all__ = ["Ownership"]

log = get_logger()
_LOOK_S: Final = 0.2
_LEAVE_S: Final = 1.0


class Ownership:
    """Root and bus of one writer process; the service owns it.

    Parameters
    ----------
    settings : WriterSettings
        Settings of the process.
    writer : str
        Its name on the bus.
    """

    def __init__(self, settings: WriterSettings, writer: str) -> None:
        self._root = settings.root
        self._every_s = settings.heartbeat_s
        self._writer = writer
        self._own: BusRoot | None = None
        self._bus_id = secrets.token_hex(16)
        self._n_beats = 0
        self._conflict = self._loss = ""
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def root_id(self) -> str:
        """Id of the root; empty before `begin`."""
        return self._own.id if self._own else ""

    @property
    def n_beats(self) -> int:
        """Number of heartbeats in the root: it shows that this writer lives."""
        return self._n_beats

    @property
    def problems(self) -> list[str]:
        """Sentences about what is wrong with the root now."""
        return [text for text in (self._loss, self._conflict) if text]

    def begin(self, client: Bus, is_stopping: Callable[[], bool]) -> None:
        """Check that this writer may write; then say that it lives, until `end`.

        Parameters
        ----------
        is_stopping : callable
            Whether the writer was asked to leave: then nothing is waited for.

        Raises
        ------
        NoRootError, RootUnusableError
            If the folder is no root, or cannot be written.
        RootConflictError
            If the bus has another root, or another writer of this bus writes below a
            copy of the root.
        """
        self._own = own_root(self._root)
        compare_root(client, self._own)
        self.restore(client)
        self._beat()
        with suppress(OSError, RootUnusableError):
            remove_old_beats(self._root, self.root_id, self._writer)
        self._refuse_copy(client, is_stopping)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def restore(self, client: Bus) -> None:
        """Put back what Redis has lost: the root, and the id of the bus."""
        if self._own is None:
            return
        known = take_root(client, self._own)
        is_own = known.id == self._own.id
        self._conflict = "" if is_own else f"the bus has another root now: {known.path}"
        self._bus_id = take_bus_id(client, self._bus_id)

    def end(self) -> None:
        """Remove the heartbeat; a mount that does not answer is not waited for."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join(_LEAVE_S)

    def _refuse_copy(self, client: Bus, is_stopping: Callable[[], bool]) -> None:
        """Raise if another living writer of this bus is not in this root."""
        # On the bus, a heartbeat lapses by Redis' clock, which may jump, and a writer
        # that died or left may not have removed it: only one that is renewed counts.
        until = time.monotonic() + (HEARTBEATS_TO_LAPSE + 1) * self._every_s
        first: dict[str, dict[str, Any]] = {}
        while True:
            absent = {
                writer: info
                for writer, info in writers_alive(client).items()
                if writer != self._writer and not sees_writer(self._root, writer)
            }
            if not absent or is_stopping():
                return
            for writer, info in absent.items():
                first.setdefault(writer, info)
            if time.monotonic() > until:
                break
            time.sleep(_LOOK_S)
        renewed = [each for each, info in absent.items() if info != first[each]]
        if not renewed:
            return
        info = absent[renewed[0]]
        where = f"{info.get('root')} on {info.get('host')}"
        self._remove()
        raise RootConflictError(
            str(self._root),
            f"writer {renewed[0]} ({where}) of this bus is alive, but writes "
            "elsewhere: below a copy of this root. All writers of a bus need the same "
            "root; stop one",
        )

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                self._beat()
            except (OSError, RootUnusableError) as error:
                if not self._loss:
                    log.warning(LogEvent.ROOT_LOST, reason=str(error))
                self._loss = str(error)
            else:
                if self._loss:
                    log.warning(LogEvent.ROOT_RESTORED, root=str(self._root))
                self._loss = ""
        self._remove()

    def _beat(self) -> None:
        self._n_beats += 1
        beat: dict[str, Any] = {
            "bus": self._bus_id,
            "n": self._n_beats,
            "every_s": self._every_s,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_beat(self._root, self.root_id, self._writer, beat)

    def _remove(self) -> None:
        # It lapses by itself where it cannot be removed.
        with suppress(OSError, RootUnusableError):
            remove_beat(self._root, self.root_id, self._writer)
