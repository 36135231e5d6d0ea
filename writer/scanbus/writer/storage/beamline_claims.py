"""Which bus writes which beamline below a root, and whether its writers live.

Several buses may share a root under different beamlines; two buses that write the same
beamline would give the same scan numbers twice. So the root records, in ``.scanbus``::

    beamlines/{beamline}.{generation}.json    the bus that writes the beamline
    writers/{writer}.json                     a counter that a living writer raises

A claim is a name that is given once, so only one of two can make it; the largest
generation counts. A writer lives if its counter changes while it is watched: clocks of
several hosts are not compared.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from scanbus.bus.protocol import HEARTBEATS_TO_LAPSE
from scanbus.schemas.errors import NameTakenError, RootConflictError, RootUnusableError
from scanbus.writer.storage.durable_files import fsync_descriptor
from scanbus.writer.storage.exclusive_names import give_name
from scanbus.writer.storage.regular_file import read_regular
from scanbus.writer.storage.root_identity import open_own_folder

__all__ = [
    "BeamlineClaim",
    "remove_beat",
    "remove_old_beats",
    "sees_writer",
    "write_beat",
]

_BEAMLINES: Final = "beamlines"
_WRITERS: Final = "writers"
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As the setting of writers; another number in a file is not waited for.
_LONGEST_BEAT_S: Final = 20.0
_WATCH_S: Final = 0.1
# Of writers that were killed. Much longer than a file system may be away.
_OLD_BEAT_S: Final = 7 * 86400.0
# Others may claim at the same time; each of them once.
_MOST_ROUNDS: Final = 8


class BeamlineClaim:
    """The right of a bus to write a beamline below a root.

    Parameters
    ----------
    root : pathlib.Path
        The root.
    beamline : str
        Name of the beamline's folders.
    bus : str
        Id of the bus.
    writer : str
        Name of the process that claims it, for messages.
    """

    def __init__(self, root: Path, beamline: str, bus: str, writer: str) -> None:
        self._root = root
        self._beamline = beamline
        self._bus = bus
        self._writer = writer

    def take(self, wait: Callable[[float], None] = time.sleep) -> None:
        """Claim the beamline, unless the bus has it or another living bus does.

        Parameters
        ----------
        wait : callable
            Waits for some seconds, while writers of the other bus are watched.

        Raises
        ------
        RootConflictError
            If another bus has it, and one of its writers lives.
        RootUnusableError
            If the record cannot be read.
        OSError
            If the file system refuses.
        """
        for _ in range(_MOST_ROUNDS):
            with _opened(self._root, _BEAMLINES) as folder:
                generation, holder = self._newest(folder)
            if holder == self._bus:
                return
            if holder:
                self._refuse_living(holder, wait)
            with (
                suppress(FileExistsError),  # Another one was faster: look again.
                _opened(self._root, _BEAMLINES) as folder,
            ):
                self._record(folder, generation + 1)
        raise RootUnusableError(str(self._root), "its record of beamlines changes")

    def check(self) -> None:
        """Check that no other bus has taken the beamline.

        Raises
        ------
        RootConflictError
            If another bus has it now.
        """
        with _opened(self._root, _BEAMLINES) as folder:
            _, holder = self._newest(folder)
        if holder != self._bus:
            raise RootConflictError(
                str(self._root), f"another bus has taken beamline {self._beamline}"
            )

    def _refuse_living(self, holder: str, wait: Callable[[float], None]) -> None:
        living = _living_writer(self._root, holder, wait)
        if living:
            raise RootConflictError(
                str(self._root),
                f"another bus writes beamline {self._beamline} there: its writer "
                f"{living} is alive. Stop it if this bus is to take over; buses share "
                "a root under different beamlines only",
            )

    def _newest(self, folder: int) -> tuple[int, str]:
        """Return the newest generation and its bus; 0 and no bus if there is none."""
        newest = max(self._generations(folder), default=0)
        if not newest:
            return 0, ""
        name = self._name(newest)
        try:
            return newest, str(_read(name, folder)["bus"])
        except FileNotFoundError:  # A newer one was made, and this one removed.
            return self._newest(folder)
        except (ValueError, TypeError, KeyError, NameTakenError) as error:
            reason = f".scanbus/{_BEAMLINES}/{name} in it cannot be read: {error}"
            raise RootUnusableError(str(self._root), reason) from error

    def _generations(self, folder: int) -> Iterator[int]:
        for name in _names(folder):
            stem, _, suffix = name.rpartition(".")
            beamline, _, number = stem.rpartition(".")
            if suffix == "json" and beamline == self._beamline and number.isdecimal():
                yield int(number)

    def _name(self, generation: int) -> str:
        return f"{self._beamline}.{generation}.json"

    def _record(self, folder: int, generation: int) -> None:
        claim = {"bus": self._bus, "writer": self._writer, "time": time.time()}
        aside = f".{secrets.token_hex(8)}"
        _write(aside, folder, claim)
        try:
            give_name(aside, self._name(generation), dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):  # It was renamed.
                os.unlink(aside, dir_fd=folder)
        fsync_descriptor(folder)
        for old in [one for one in self._generations(folder) if one < generation]:
            with suppress(FileNotFoundError):
                os.unlink(self._name(old), dir_fd=folder)


def write_beat(root: Path, root_id: str, writer: str, beat: dict[str, Any]) -> None:
    """Write the heartbeat of a writer into its root.

    Parameters
    ----------
    beat : dict
        With ``bus``, ``n`` (it changes every time) and ``every_s``.

    Raises
    ------
    NoRootError, RootConflictError, RootUnusableError
        If the folder is not that root any more; nothing was written.
    """
    try:
        with _opened(root, _WRITERS, root_id) as folder:
            aside = f".{writer}.tmp"
            with suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=folder)
            _write(aside, folder, beat, is_durable=False)
            name = f"{writer}.json"
            os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        raise RootUnusableError(str(root), error.strerror or str(error)) from error


def remove_beat(root: Path, root_id: str, writer: str) -> None:
    """Remove the heartbeat of a writer that leaves."""
    with _opened(root, _WRITERS, root_id) as folder, suppress(FileNotFoundError):
        os.unlink(f"{writer}.json", dir_fd=folder)


def remove_old_beats(root: Path, root_id: str, writer: str) -> None:
    """Remove heartbeats a week older than that of `writer`, by the disk's own clock."""
    with _opened(root, _WRITERS, root_id) as folder:
        now = os.stat(f"{writer}.json", dir_fd=folder).st_mtime
        for name in _names(folder):
            with suppress(OSError):  # Another writer removes it, too.
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if now - found.st_mtime > _OLD_BEAT_S:
                    os.unlink(name, dir_fd=folder)


def sees_writer(root: Path, writer: str) -> bool:
    """Whether a writer has a heartbeat in this root, living or not."""
    with _opened(root, _WRITERS) as folder:
        return f"{writer}.json" in _names(folder)


def _living_writer(root: Path, bus: str, wait: Callable[[float], None]) -> str:
    """Watch the writers of a bus; return one that lives, or nothing if all lapsed."""
    before = _beats(root, bus)
    periods = [_period(beat) for beat in before.values()]
    deadline = time.monotonic() + HEARTBEATS_TO_LAPSE * max(periods, default=0.0)
    while before and time.monotonic() < deadline:
        wait(_WATCH_S)
        for writer, beat in _beats(root, bus).items():
            if beat != before.get(writer):
                return writer
    return ""


def _period(beat: dict[str, Any]) -> float:
    try:
        return min(_LONGEST_BEAT_S, max(_WATCH_S, float(beat["every_s"])))
    except (KeyError, TypeError, ValueError):
        return _LONGEST_BEAT_S


def _beats(root: Path, bus: str) -> dict[str, dict[str, Any]]:
    """Return the heartbeats of the writers of a bus, by writer."""
    found: dict[str, dict[str, Any]] = {}
    with _opened(root, _WRITERS) as folder:
        for name in _names(folder):
            stem, _, suffix = name.rpartition(".")
            if suffix != "json":
                continue
            # What is no heartbeat is of no writer.
            with suppress(OSError, ValueError, NameTakenError):
                beat = _read(name, folder)
                if isinstance(beat, dict) and beat.get("bus") == bus:
                    found[stem] = beat
    return found


@contextmanager
def _opened(root: Path, name: str, root_id: str = "") -> Iterator[int]:
    """Open a folder in ``.scanbus`` of a root, made if needed; yield its descriptor."""
    with open_own_folder(root) as (own, found):
        if root_id and found != root_id:
            raise RootConflictError(str(root), "it is another root now")
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=own)
        folder = os.open(name, _FOLDER_FLAGS, dir_fd=own)
        try:
            yield folder
        finally:
            os.close(folder)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as found:
        return [one.name for one in found]


def _read(name: str, folder: int) -> Any:
    return json.loads(read_regular(name, dir_fd=folder))


def _write(name: str, folder: int, said: object, *, is_durable: bool = True) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=folder), "wb") as file:
        file.write(json.dumps(said).encode() + b"\n")
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
