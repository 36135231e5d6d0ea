"""Keep messages that no broker has taken, and note those that one has.

All of it stands in the folder ``__icat__`` of the session, also for other programs:
``icat-store-from-file`` sends these files. Users may write there. So the folder is
opened once, never by a symbolic link, all names are looked up in it, and only regular
files are read. A file gets its name when all of it is on the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scanbus.schemas.errors import (
    IcatMessageError,
    NameTakenError,
    RootUnusableError,
)
from scanbus.schemas.icat_names import (
    ICAT_FOLDER,
    LOCK_NAME,
    message_name,
    sent_name,
)
from scanbus.writer.icat.contents import DatasetPlace
from scanbus.writer.icat.message import MAX_MESSAGE_BYTES, subject_of
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.durable_files import fsync_descriptor, make_folder
from scanbus.writer.storage.regular_file import kind_of, open_regular

__all__ = ["Outbox", "SentMark", "opened_outbox"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_LOOK_S: Final = 0.1
_MAX_MARK_BYTES: Final = 16 * 2**20
_LEFT_S: Final = 3600.0
_TEMPORARY: Final = ".tmp"
# The year 9999, the last one of the calendar.
_LATEST_S: Final = 253370764800.0


class SentMark(BaseModel):
    """What is noted of a message that a broker has taken.

    Attributes
    ----------
    time : float
        When, seconds since 1970 UTC.
    broker : str
        Which, ``host:port``.
    digest : str
        SHA-256 of the message, hexadecimal.
    scans : dict
        Uid by number of each scan that it told of.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    time: float = Field(ge=0, lt=_LATEST_S, allow_inf_nan=False)
    broker: str
    digest: str
    scans: dict[int, str]


class Outbox:
    """What is kept and noted of one dataset, in the open folder ``__icat__``.

    `opened_outbox` makes it; one thread at a time uses it.

    Parameters
    ----------
    place : DatasetPlace
        The dataset.
    descriptor : int
        Of the folder.
    """

    def __init__(self, place: DatasetPlace, descriptor: int) -> None:
        self._place = place
        self._folder = descriptor
        self._message = message_name(place.collection, place.dataset)
        self._sent = sent_name(place.collection, place.dataset)

    @property
    def message_path(self) -> Path:
        """Path of the unsent message."""
        return self._place.session_folder / ICAT_FOLDER / self._message

    def mark(self) -> SentMark | None:
        """Return what is noted of the message that was sent; None if none was.

        Raises
        ------
        NameTakenError
            If no regular file has the name.
        IcatMessageError
            If the file is no such note.
        """
        octets = self._read(self._sent, _MAX_MARK_BYTES)
        if octets is None:
            return None
        try:
            return SentMark.model_validate_json(octets)
        except ValidationError as error:
            path = self.message_path.with_name(self._sent)
            raise IcatMessageError(
                self._place.name,
                f"{path} does not say what was sent. Remove it, and the dataset is "
                "sent again",
            ) from error

    def kept(self) -> bytes | None:
        """Return the unsent message, if there is one.

        Raises
        ------
        NameTakenError
            If something else has its name: no file, or one that is about another
            dataset.
        """
        octets = self._read(self._message, MAX_MESSAGE_BYTES)
        if octets is None:
            return None
        if subject_of(octets) != self._subject():
            raise NameTakenError(
                str(self.message_path), "no message about this dataset"
            )
        return octets

    def keep(self, octets: bytes) -> None:
        """Keep a message until a broker takes it.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        self._replace(self._message, octets)

    def note(self, mark: SentMark) -> None:
        """Note that a broker has taken the message; that lasts when this returns."""
        self._replace(self._sent, mark.model_dump_json().encode())

    def unmark(self) -> None:
        """Note that the message has to be sent again; that lasts when this returns."""
        with suppress(FileNotFoundError):
            os.unlink(self._sent, dir_fd=self._folder)
        fsync_descriptor(self._folder)

    def forget(self) -> None:
        """Remove the message that was sent."""
        with suppress(FileNotFoundError):
            os.unlink(self._message, dir_fd=self._folder)

    def _subject(self) -> tuple[str, str]:
        # The package writes proposals in small letters.
        return self._place.proposal.lower(), self._place.folder.name

    def _read(self, name: str, limit: int) -> bytes | None:
        try:
            descriptor = open_regular(name, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        except NameTakenError as error:
            path = self.message_path.with_name(name)
            raise NameTakenError(str(path), error.holder) from error
        with os.fdopen(descriptor, "rb") as file:
            octets = file.read(limit + 1)
        if len(octets) > limit:
            path = self.message_path.with_name(name)
            raise NameTakenError(str(path), f"more than {limit} bytes")
        return octets

    def _replace(self, name: str, octets: bytes) -> None:
        temporary = f".{name}.{secrets.token_hex(8)}{_TEMPORARY}"
        descriptor = os.open(temporary, _NEW, 0o666, dir_fd=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            os.replace(
                temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder
            )
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._folder)
            raise
        fsync_descriptor(self._folder)


@contextmanager
def opened_outbox(place: DatasetPlace, timeout_s: float | None) -> Iterator[Outbox]:
    """Open what is kept of a dataset, alone among the processes that send.

    Parameters
    ----------
    timeout_s : float or None
        How long to wait for another process that sends for this session. None to look
        only: nothing is made, and nobody waited for.

    Raises
    ------
    IcatMessageError
        If the other one does not end in time.
    NameTakenError
        If no folder has the name.
    RootUnusableError
        If the file system refuses, or links lead out of the root.
    FileNotFoundError
        If there is no folder, and it is to look only.
    """
    path = place.session_folder / ICAT_FOLDER
    inside(place.root, place.session_folder)
    descriptor = _open_folder(path, makes=timeout_s is not None)
    try:
        if timeout_s is None:
            yield Outbox(place, descriptor)
            return
        with _locked(place, descriptor, timeout_s):
            _remove_leftovers(descriptor)
            yield Outbox(place, descriptor)
    finally:
        os.close(descriptor)


def _open_folder(path: Path, *, makes: bool) -> int:
    try:
        if makes:
            make_folder(path)
        return os.open(path, _FOLDER)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
            mode = path.lstat().st_mode
            raise NameTakenError(str(path), f"{kind_of(mode)}, not a folder") from error
        if isinstance(error, FileNotFoundError):
            raise
        raise RootUnusableError(str(path), str(error.strerror)) from error


@contextmanager
def _locked(place: DatasetPlace, folder: int, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a session's folder; without locks, go on without."""
    path = place.session_folder / ICAT_FOLDER / LOCK_NAME
    try:
        descriptor = os.open(LOCK_NAME, _LOCK, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            found: Any = os.stat(LOCK_NAME, dir_fd=folder, follow_symlinks=False)
            raise NameTakenError(str(path), kind_of(found.st_mode)) from error
        raise RootUnusableError(str(path), str(error.strerror)) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NameTakenError(str(path), kind_of(mode))
        _wait_for_lock(place, descriptor, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(place: DatasetPlace, descriptor: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise IcatMessageError(
                    place.name,
                    f"another process has been sending for {timeout_s:.0f} s",
                ) from error
            time.sleep(_LOOK_S)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return
        else:
            return


def _remove_leftovers(folder: int) -> None:
    """Remove what killed processes left."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(_TEMPORARY) and "@" in name:
            with suppress(OSError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if time.time() - status.st_mtime > _LEFT_S:
                    os.unlink(name, dir_fd=folder)
