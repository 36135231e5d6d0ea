"""Links of one file: an inventory of links and virtual datasets, and their targets.

Targets are resolved here and not by HDF5, which also searches the current folder and
folders from the environment: the result must hold wherever the folder tree is moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import h5py

from scanbus.writer.check.report import UNREADABLE, Tally
from scanbus.writer.check.scanbus_files import open_file, uid_of
from scanbus.writer.layouts.common.links import SUBSCANS

__all__ = [
    "Inventory",
    "check_external",
    "note_without_uid",
    "take_inventory",
    "target_of",
]

_DEEPEST_GROUP: Final = 64
_MOST_HOPS: Final = 16
_NAMED: Final = 3


@dataclass
class Inventory:
    """External links and virtual datasets of one file.

    Attributes
    ----------
    external : dict
        File name in the links, to pairs of a link's path and its target's path.
    virtual : list of str
        Paths of virtual datasets.
    """

    external: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    virtual: list[str] = field(default_factory=list)


def take_inventory(file: h5py.File, path: Path, tally: Tally) -> Inventory:
    """Visit every group of a file once; record dangling soft links as findings."""
    visitor = _Visitor(path, tally)
    groups: list[tuple[str, int]] = [("/", 0)]
    while groups:
        name, depth = groups.pop()
        if depth > _DEEPEST_GROUP:
            tally.record(path, name, f"groups nested deeper than {_DEEPEST_GROUP}")
            continue
        with tally.guard(path, name):
            group = file[name]
            for child in group:
                below = f"{name.rstrip('/')}/{child}"
                with tally.guard(path, below):
                    if visitor.visit(group, child, below):
                        groups.append((below, depth + 1))
    return visitor.found


class _Visitor:
    def __init__(self, path: Path, tally: Tally) -> None:
        self.found = Inventory()
        self._path = path
        self._tally = tally
        self._seen: set[int] = set()

    def visit(self, group: h5py.Group, name: str, below: str) -> bool:
        """Visit one link; return whether it leads to a group not visited before."""
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            self._tally.count(links=1)
            links = self.found.external.setdefault(link.filename, [])
            links.append((below, link.path))
            return False
        if isinstance(link, h5py.SoftLink):
            self._tally.count(links=1)
            if _dangles(group, name):
                sentence = f"soft link to {link.path}, which is not there"
                self._tally.record(self._path, below, sentence)
            return False
        return self._visit_object(group, name, below)

    def _visit_object(self, group: h5py.Group, name: str, below: str) -> bool:
        info = h5py.h5o.get_info(group.id, name.encode())
        if info.addr in self._seen:
            return False
        self._seen.add(info.addr)
        if info.type == h5py.h5o.TYPE_GROUP:
            return True
        if info.type == h5py.h5o.TYPE_DATASET:
            dataset = group[name]
            if dataset.is_virtual:
                self.found.virtual.append(below)
            # HDF5 reads any file of this computer so, and zeros where it ends.
            for file in sorted({each[0] for each in dataset.external or ()}):
                sentence = f"its values are the bytes of another file, {file}"
                self._tally.record(self._path, below, sentence)
        return False


def _dangles(group: h5py.Group, path: str, hops: int = 0) -> bool:
    """Return whether a path dangles within its own file.

    Targets of external links are checked with these links.
    """
    here = group.file if path.startswith("/") else group
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for position, part in enumerate(parts):
        if not isinstance(here, h5py.Group):
            return True
        link = here.get(part, getlink=True)
        if link is None:
            return True
        if isinstance(link, h5py.ExternalLink):
            return False
        if isinstance(link, h5py.SoftLink):
            rest = "/".join((link.path, *parts[position + 1 :]))
            return hops >= _MOST_HOPS or _dangles(here, rest, hops + 1)
        here = here[part]
    return False


def target_of(path: Path, name: str) -> Path:
    """Return the file named by a link in `path`: relative to its folder, as in HDF5."""
    beside = path.parent / name
    if beside.exists():
        return beside
    behind = path.resolve().parent / name  # if `path` is a symbolic link
    return behind if behind.exists() else beside


def check_external(
    path: Path,
    name: str,
    links: list[tuple[str, str]],
    uids: dict[str, str],
    tally: Tally,
) -> Path | None:
    """Check all links to one other file; return its path if it exists.

    Parameters
    ----------
    path : pathlib.Path
        The file with the links.
    name : str
        The other file, as named in the links.
    links : list of tuple
        Pairs of a link's path and its target's path.
    uids : dict
        Path of each NXentry in `path` to its scan's uid, if `path` is a scan master.
    """
    where = _listed([link for link, _ in links])
    if Path(name).is_absolute():
        tally.record(path, where, f"absolute link to {name}: breaks when files move")
    target = target_of(path, name)
    if not target.is_file():
        tally.record(path, where, f"external link to {name}, which is not there")
        return None
    try:
        file = open_file(target)
    except UNREADABLE:
        return target  # The error is recorded when the file is visited.
    with file, tally.guard(target, ""):
        uid = uid_of(file)
        for link, inner in links:
            if inner not in file:
                sentence = f"external link to {inner} in {name}, which is not there"
                owner = f": the file belongs to scan {uid}" if uid is not None else ""
                tally.record(path, link, f"{sentence}{owner}")
            elif uid is not None and uid not in inner:
                note_without_uid(path, tally)
            entry, *inside = link.strip("/").split("/")
            if inside[:1] == [SUBSCANS]:
                continue  # The scans of a sequence are others than the sequence.
            ours = uids.get(f"/{entry}")
            if uid is not None and ours is not None and uid != ours:
                tally.record(path, link, f"{name} belongs to scan {uid}, not {ours}")
    return target


def note_without_uid(path: Path, tally: Tally) -> None:
    """Add a note on a master from before links carried the uid of the scan."""
    tally.note(
        f"{path} was written by an earlier scanbus: HDF5 may read files of other scans "
        "in its place, if they have the same names and are in the current folder"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
