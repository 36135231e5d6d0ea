"""Look at images in another process, where those that kill their reader do no harm.

A damaged mar345 file may overwrite memory in fabio, and a damaged HDF5 file have its
library loop for ever, uninterruptibly: a gateway would end, or stand still, with all
its scans, and again with the next start. An image plate takes longer to be read out
than a process to start; for HDF5 files one process looks at all of them.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scanbus.schemas.errors import SourceError

__all__ = ["Examiner", "examine_hdf5", "is_mar345", "pixels_read_apart"]

_MAR345_PROGRAM: Final = Path(__file__).with_name("mar345_child.py")
_HDF5_MODULE: Final = "scanbus.publisher.gateways.files.hdf5_child"
_HDF5_COMMAND: Final = (sys.executable, "-P", "-m", _HDF5_MODULE)
# The first number of the file, in either byte order.
_MAR345: Final = (b"\xd2\x04\0\0", b"\0\0\x04\xd2")
# Somebody ends processes so, and not a file.
_STOPPED: Final = frozenset((-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP))
_MAX_KNOWN: Final = 256


def is_mar345(start: bytes) -> bool:
    """Whether these are the first bytes of a mar345 file."""
    return start.startswith(_MAR345)


def pixels_read_apart(path: Path, content: bytes) -> npt.NDArray[Any]:
    """Return the pixels of a mar345 file.

    Raises
    ------
    SourceError
        If it is truncated or damaged.
    """
    done = _unpacked(content)
    if done.returncode in _STOPPED:
        done = _unpacked(content)
    if done.returncode != 0:
        raise SourceError(
            str(path), "the file is truncated or damaged: its pixels do not unpack"
        )
    found: npt.NDArray[Any] = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    return found


def _unpacked(content: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", str(_MAR345_PROGRAM)],
        input=content,
        capture_output=True,
        check=False,
        start_new_session=True,
    )


def examine_hdf5(path: Path, *, follows_links: bool) -> None:
    """Return if an HDF5 file can be read without harm, valid or not.

    Raises
    ------
    SourceError
        If it kills the process that reads it, or does not let it end.
    OSError
        If it is not there.
    """
    _EXAMINER.examine(path, follows_links)


class Examiner:
    """A process that looks at HDF5 files, made again when one has killed it.

    It is safe for threads.

    Parameters
    ----------
    command : sequence of str
        Command line of the process, which answers as `hdf5_child`.
    """

    def __init__(self, command: Sequence[str] = _HDF5_COMMAND) -> None:
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._owner = 0
        # What became of the process: each file is opened for its header, then for its
        # frames.
        self._known: dict[tuple[object, ...], int | None] = {}

    def examine(self, path: Path, follows_links: bool) -> None:
        """Return if an HDF5 file can be read without harm; see `examine_hdf5`."""
        found = path.stat()
        key = path, found.st_ino, found.st_size, found.st_mtime_ns, follows_links
        with self._lock:
            if key not in self._known:
                self._known[key] = self._code_of(path, follows_links)
                if len(self._known) > _MAX_KNOWN:
                    self._known.pop(next(iter(self._known)))
            code = self._known[key]
        if code is not None:
            how = "does not come to an end with it"
            if code != -signal.SIGXCPU:
                how = f"dies of it (exit code {code})"
            raise SourceError(str(path), f"the file is damaged: the HDF5 library {how}")

    def _code_of(self, path: Path, follows_links: bool) -> int | None:
        octets = os.fsencode(path.absolute()).hex()
        line = json.dumps({"path": octets, "follows_links": follows_links})
        code = self._ask(line)
        return self._ask(line) if code in _STOPPED else code

    def _ask(self, line: str) -> int | None:
        """Send a request; return with what code the child ended, None if it lives."""
        child = self._running()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(f"{line}\n")
            child.stdin.flush()
            if child.stdout.readline():
                return None
        except BrokenPipeError:
            pass
        child.wait()  # It has closed its output: nothing but its end does that.
        return self.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._owner != os.getpid():  # A fork has its parent's pipes.
            self._child, self._owner = None, os.getpid()
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        return self._child

    def close(self) -> int | None:
        """End the process, and return its exit code if there was one."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return None
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        return child.wait()


_EXAMINER: Final = Examiner()
atexit.register(_EXAMINER.close)
