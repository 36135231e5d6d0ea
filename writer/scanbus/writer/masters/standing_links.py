"""What the standing master of a dataset links: the uids of its scans, without them.

A writer that starts would have to open every scan master of a session, for its uid;
10 000 of them took 20 s. The links hold the uids, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import dataset_master_name, parse_scan_folder
from scanbus.writer.model.file_stamp import CREATOR
from scanbus.writer.model.scan_contents import linked_path
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.regular_file import check_regular

__all__ = ["StandingLinks", "creator_of", "standing_links"]


@dataclass(frozen=True)
class StandingLinks:
    """Scans that the master of a dataset links.

    Attributes
    ----------
    written_ns : int
        Time at which it was written, in ns, by the clock of the file system.
    uids : dict
        Name of each scan's folder to the scan's uid.
    """

    written_ns: int = 0
    uids: dict[str, str] = field(default_factory=dict)


def standing_links(dataset: Path, n_most: int) -> StandingLinks:
    """Return what the master of a dataset links; nothing if that cannot be told.

    Parameters
    ----------
    n_most : int
        Number of scans there; a master with more links is none to rely on.
    """
    path = dataset / dataset_master_name(dataset.name)
    try:
        written_ns = check_regular(path).st_mtime_ns
        with open_hdf5(path) as file:
            if file.attrs.get("creator") != CREATOR or len(file) > n_most:
                return StandingLinks()
            names: list[bytes] = []
            links = file.id.links
            links.iterate(names.append)
            targets = [links.get_val(name) for name in names]
    except (NameTakenError, OSError, RuntimeError, ValueError, TypeError, KeyError):
        return StandingLinks()  # Whoever replaces it says what is wrong.
    found = (_scan_behind(target) for target in targets)
    return StandingLinks(written_ns, dict(each for each in found if each is not None))


def _scan_behind(target: object) -> tuple[str, str] | None:
    """Return folder and uid of the scan that a link leads to."""
    match target:
        case (bytes() as file, bytes() as path):
            folder, _, master = file.decode(errors="replace").partition("/")
            inner = path.decode(errors="replace")
        case _:
            return None
    number = parse_scan_folder(folder)
    uid = inner.rpartition("/")[0].removeprefix(f"/{folder}_")
    is_ours = (
        number is not None
        and master == f"{folder}.h5"
        and inner == linked_path(master, uid, f"/{number}.1")
    )
    return (folder, uid) if is_ours else None


def creator_of(path: Path) -> str:
    """Return the program that wrote a file; empty if it does not say.

    Raises
    ------
    NameTakenError
        If it is no HDF5 file, or none that can be read.
    """
    try:
        with open_hdf5(path) as file:
            creator = file.attrs.get("creator")
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise NameTakenError(str(path), "something other than HDF5") from error
    return creator if isinstance(creator, str) else ""
