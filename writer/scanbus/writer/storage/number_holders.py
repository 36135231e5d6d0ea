"""Which scan has a number of a dataset, by the files on the disk.

Before its first file a scan claims its number; see `number_claims`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scanbus.schemas.claim_names import owner_uid
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import (
    parse_scan_folder,
    parse_shared_segment,
    values_file_name,
)
from scanbus.writer.model.scan_contents import OWN_GROUP
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.number_claims import (
    claims,
    files_of_number,
    folder_of_number,
    numbers,
)
from scanbus.writer.storage.regular_file import kind_of
from scanbus.writer.storage.shared_sections import uid_of_shared_segment

__all__ = ["number_holder", "number_of"]

_NO_FILE: Final = (OSError, KeyError, ValueError, TypeError, AttributeError)


def number_of(dataset: Path, uid: str, announced: int) -> int | None:
    """Return the number under which a scan has files, or may have them.

    Parameters
    ----------
    dataset : pathlib.Path
        Folder of its dataset.
    announced : int
        The number that it was given last.

    Returns
    -------
    int or None
        None if the number is taken, and the scan has no other.
    """
    own = {number for number, holder in claims(dataset) if holder == uid}
    # Its last number first.
    first = [announced] if announced in own or not own else []
    for number in (*first, *sorted(own - {announced}, reverse=True)):
        if not number_holder(dataset, uid, number):
            return number
    # It has finished under another number, but the bus has lost that.
    for number in numbers(dataset):
        path = folder_of_number(dataset, number) / values_file_name(number)
        if _uid_in(path) == uid:
            return number
    return None


def number_holder(dataset: Path, uid: str, number: int) -> str:
    """Return what has a number, in words; empty if nothing, or the scan itself."""
    folder = folder_of_number(dataset, number)
    try:
        holders = sorted({_holder(path) for path in files_of_number(folder, number)})
    except NotADirectoryError:
        return f"{folder}, {kind_of(folder.lstat().st_mode)}"
    # Files count first: a claim without any file can be given up.
    holders = holders or [
        f"scan {owner_uid(by)}" for claimed, by in claims(dataset) if claimed == number
    ]
    return "" if f"scan {uid}" in holders else next(iter(holders), "")


def _holder(path: Path) -> str:
    uid = _uid_in(path)
    return f"scan {uid}" if uid else f"{path}, which is of another program"


def _uid_in(path: Path) -> str:
    """Return the uid in a scan file or a segment; of a master, in its entry."""
    if parse_shared_segment(path.name) is not None:
        try:
            return uid_of_shared_segment(path)
        except (NameTakenError, OSError):
            return ""
    number = parse_scan_folder(path.stem)
    group = OWN_GROUP if number is None else f"{number}.1/scanbus"
    try:
        with open_hdf5(path) as file:
            return str(file[f"{group}/uid"].asstr()[()])
    except (NameTakenError, *_NO_FILE):
        return ""
