"""Uids of scan masters on the disk; masters above use them in their links."""

from __future__ import annotations

from functools import lru_cache
from os import stat_result
from pathlib import Path
from typing import Any, Final

from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.model.scan_contents import linked_path
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.regular_file import version_of

__all__ = ["linkable_uid", "read_uid"]

log = get_logger()

_CACHED: Final = 1 << 16


def read_uid(path: Path, entry_name: str) -> str:
    """Return the uid in a scan master.

    Raises
    ------
    NameTakenError
        If the file is not a scan master, or cannot be read.
    """
    uid, _ = _read(path, entry_name)
    return uid


def linkable_uid(path: str, entry_name: str, status: stat_result) -> str | None:
    """Return the uid in a scan master, None if masters above cannot link to it.

    Each version of a file is opened once if masters can link to it, and otherwise each
    time, as the cause may pass. The reason is logged once.

    Parameters
    ----------
    status : os.stat_result
        Of the file, to recognise that it was replaced.
    """
    version = version_of(status)
    try:
        uid, is_linkable = _read_once(path, entry_name, *version)
    except NameTakenError as error:
        _warn_once(path, str(error), *version)
        return None
    if is_linkable:
        return uid
    reason = "an earlier scanbus wrote it without the group that masters above need"
    _warn_once(path, reason, *version)
    return None


@lru_cache(maxsize=_CACHED)
def _warn_once(path: str, reason: str, _ino: int, _time: int) -> None:
    log.warning(LogEvent.MASTER_NOT_LINKED, file=path, reason=reason)


@lru_cache(maxsize=_CACHED)
def _read_once(path: str, entry_name: str, _ino: int, _time: int) -> tuple[str, bool]:
    return _read(Path(path), entry_name)


def _read(path: Path, entry_name: str) -> tuple[str, bool]:
    """Return the uid, and whether the group for links of other masters exists."""
    try:
        with open_hdf5(path) as file:
            stated: Any = file[f"{entry_name}/scanbus/uid"]
            uid = str(stated.asstr()[()])
            return uid, linked_path(path.name, uid, f"/{entry_name}") in file
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise NameTakenError(str(path), "something other than a scan master") from error
