"""Provenance of files written by this process: time and software versions."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import h5py

from scanbus.writer.model.file_stamp import CREATOR, FileStamp

__all__ = ["commit_of", "stamp_now"]

# Packages whose libraries compress chunks, here or in a publisher.
_CODEC_PACKAGES: Final = ("bitshuffle", "lz4", "zstandard", "blosc2")
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}\Z")


def stamp_now() -> FileStamp:
    """Return the stamp of a file written now by this process."""
    return FileStamp(
        time=datetime.now(UTC).astimezone().isoformat(),
        scanbus_version=_version(CREATOR) or "0+unknown",  # From a source tree.
        hdf5_version=h5py.version.hdf5_version,
        h5py_version=h5py.version.version,
        hdf5plugin_version=_version("hdf5plugin"),
        codecs=_codecs(),
        commit=_own_commit(),
    )


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def _codecs() -> tuple[str, ...]:
    found = [(name, _version(name)) for name in _CODEC_PACKAGES]
    found.append(("zlib", zlib.ZLIB_RUNTIME_VERSION))
    return tuple(f"{name} {its}" for name, its in found if its)


@cache
def _own_commit() -> str:
    try:
        text = distribution(CREATOR).read_text("direct_url.json")
        return commit_of(json.loads(text)) if text else ""
    except (PackageNotFoundError, ValueError, OSError):
        return ""


def commit_of(origin: Any) -> str:
    """Return the commit from which a package was installed, empty if none is known.

    Parameters
    ----------
    origin : dict
        Its ``direct_url.json``, as pip writes it (PEP 610): of a repository, or of a
        folder, which may be a clone.
    """
    if not isinstance(origin, dict):
        return ""
    said = origin.get("vcs_info")
    if isinstance(said, dict):
        return _checked(str(said.get("commit_id", "")))
    address = urlsplit(str(origin.get("url", "")))
    if address.scheme != "file" or not origin.get("dir_info", {}).get("editable"):
        return ""
    return _head_of(Path(unquote(address.path)) / ".git")


def _head_of(repository: Path) -> str:
    """Return the commit that is checked out, without running git."""
    with suppress(OSError, ValueError):
        head = (repository / "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return _checked(head)
        if os.path.lexists(repository / name):
            return _checked((repository / name).read_text().strip())
        return next(_packed(repository / "packed-refs", name), "")
    return ""


def _packed(path: Path, name: str) -> Iterator[str]:
    for line in path.read_text().splitlines():
        commit, _, its = line.partition(" ")
        if its == name:
            yield _checked(commit)


def _checked(commit: str) -> str:
    return commit if _COMMIT.match(commit) else ""
