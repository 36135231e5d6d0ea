"""Layouts of the masters of datasets, collections and proposals.

These masters hold only external links to entries, so the names of the scan masters
determine them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from scanbus.schemas.valid_names import unique_name
from scanbus.writer.layouts.common.root import root_attributes
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import ExternalLink, Group, Node
from scanbus.writer.model.scan_contents import linked_path

__all__ = ["ScanMaster", "collection_layout", "dataset_layout"]


class ScanMaster(NamedTuple):
    """A scan master found on the disk.

    Attributes
    ----------
    dataset : str
        Name of the dataset's folder, ``{collection}_{dataset}``.
    scan_number : int
        Number in the name of the scan's folder.
    path : str
        Path relative to the folder of the master that links it, separated by ``/``.
    uid : str
        Uid of the scan.
    """

    dataset: str
    scan_number: int
    path: str
    uid: str

    @property
    def entry_name(self) -> str:
        """Name of its NXentry."""
        return f"{self.scan_number}.1"

    @property
    def link(self) -> ExternalLink:
        """A link to its NXentry, by a path with the uid."""
        name = self.path.rpartition("/")[2]
        path = linked_path(name, self.uid, f"/{self.entry_name}")
        return ExternalLink(self.path, path)


def dataset_layout(
    file_name: str,
    scans: Iterable[ScanMaster],
    stamp: FileStamp,
    taken: Collection[str] = (),
) -> Group:
    """Return the master of a dataset: links to its entries by entry name.

    Parameters
    ----------
    taken : collection of str
        Names that are there already; an entry has the same in no two scans.

    Examples
    --------
    >>> scan = ScanMaster("lyso_0001", 7, "scan0007/scan0007.h5", "uid00007")
    >>> stamp = FileStamp("2024-01-31T00:00:00+01:00", "1.0", "1.14.6", "3.13.0")
    >>> list(dataset_layout("lyso_0001.h5", [scan], stamp).children)
    ['7.1']
    """
    del taken
    links: dict[str, Node] = {scan.entry_name: scan.link for scan in sorted(scans)}
    return _master(file_name, links, stamp)


def collection_layout(
    file_name: str,
    scans: Iterable[ScanMaster],
    stamp: FileStamp,
    taken: Collection[str] = (),
) -> Group:
    """Return the master of a collection or proposal: a ``{dataset}_N.1`` per entry.

    Folder names may contain hyphens, NeXus names must not: a hyphen becomes an
    underscore. If two names collide after that, the later one gets a number.

    Parameters
    ----------
    taken : collection of str
        Names of scans before these.
    """
    links: dict[str, Node] = {}
    names = {*taken}
    for scan in sorted(scans):
        name = unique_name(f"{scan.dataset}_{scan.entry_name}", names)
        names.add(name)
        links[name] = scan.link
    return _master(file_name, links, stamp)


def _master(file_name: str, links: dict[str, Node], stamp: FileStamp) -> Group:
    attributes = root_attributes(file_name, "", stamp)
    if links:
        attributes["default"] = next(reversed(links))
    return Group("NXroot", attributes, links)
