"""Faulty mounts: frozen, dead, read-only, small. All of them need root."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = [
    "dead_mount",
    "frozen",
    "lacking_mount",
    "loop_mount",
    "read_only_mount",
    "small_disk",
]

IMAGE_BYTES = 48 * 2**20


@contextmanager
def loop_mount(image: Path, folder: Path) -> Iterator[None]:
    """Mount an ext4 file system from a file; skip the test where that is impossible."""
    programs = ("mkfs.ext4", "fsfreeze", "mount", "umount")
    if missing := [name for name in programs if not shutil.which(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], check=False).returncode:
        pytest.skip("this machine has no loop device that could be mounted")
    try:
        yield
    finally:
        # Lazily: a process that was killed while it was frozen may still exist.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Freeze a mount: writes block, and the writing process cannot be killed."""
    subprocess.run(["fsfreeze", "--freeze", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=True)


@contextmanager
def dead_mount(folder: Path) -> Iterator[None]:
    """Mount over a folder that never answers, like a network mount without its server.

    It is a FUSE mount without the program that would answer; closing its device ends
    it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"/dev/fuse cannot be opened: {error.strerror}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", os.fsencode(folder), b"fuse", 0, options):
        os.close(device)
        pytest.skip(f"FUSE cannot be mounted: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(device)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only_mount(folder: Path) -> Iterator[None]:
    """Mount a folder over itself, read-only.

    By way of a second folder: a mount on which a file is open for writing cannot become
    read-only.
    """
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    aside = folder.with_name("aside")
    aside.mkdir()
    if subprocess.run(["mount", "--bind", folder, aside], check=False).returncode:
        pytest.skip("this machine allows no bind mounts")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(aside)], check=True)
        subprocess.run(["mount", "--bind", str(aside), str(folder)], check=True)
        yield
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(aside)], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a small file system; skip the test where that is impossible."""
    folder.mkdir(parents=True)
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        # Lazily: a process that was killed may still exist.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def lacking_mount(folder: Path, *faults: str) -> Iterator[Path]:
    """Mount a file system that lacks things; yield the folder of what is in it.

    Parameters
    ----------
    faults : str
        What it lacks; see :mod:`tests.support.fuse_server`.
    """
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    backing = folder.with_name(f"{folder.name}.backing")
    folder.mkdir(parents=True, exist_ok=True)
    backing.mkdir(exist_ok=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fuse_server", folder, backing, *faults],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        if server.stdout is None or server.stdout.readline() != "mounted\n":
            pytest.skip(f"no file system of ours here: {server.communicate()[1]}")
        try:
            yield backing
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            server.kill()
