"""What users and other programs leave in the place of a file: none may be opened."""

import os
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["SPECIAL_FILES", "take_away"]


def _socket(path: Path) -> None:
    """Make a socket; by way of the folder, as its path may be too long for one."""
    here = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def _device(path: Path) -> None:
    """Make the device that never ends."""
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _file(path: Path) -> None:
    path.write_bytes(b"something")


SPECIAL_FILES: Final[Mapping[str, Callable[[Path], None]]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "device": _device,
    "folder": _folder,
    "file": _file,
    "dangling": _dangling,
    "loop": _loop,
}


def take_away(path: Path) -> None:
    """Remove what was made."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()
