"""The attribute `target` of linked objects, and links to the scans of a sequence.

NeXus asks that an object to which others link names its own path, so that a reader of
a link knows the original. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from scanbus.schemas.file_names import scan_folder_name, scan_master_name
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.model.nexus_tree import (
    Dataset,
    ExternalLink,
    Group,
    Node,
    SoftLink,
    Value,
    VirtualArray,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import linked_path

__all__ = ["SUBSCANS", "subscan_links", "with_targets"]

SUBSCANS: Final = "subscans"
"""Group of the metadata with entry names and uids of a sequence's scans."""
_TARGET: Final = "target"
_ENTRY: Final = re.compile(r"([1-9][0-9]{0,8})\.1\Z")
_UID: Final = re.compile(r"[0-9A-Za-z]{8,40}\Z")


def with_targets(entry: Group, path: str) -> Group:
    """Return an entry in which each object that is linked has the attribute `target`.

    Parameters
    ----------
    path : str
        Absolute path of the entry.
    """
    return _marked(entry, path, frozenset(_linked(entry)))


def _linked(group: Group) -> Iterator[str]:
    for node in group.children.values():
        if isinstance(node, SoftLink):
            yield node.path
        elif isinstance(node, Group):
            yield from _linked(node)


def _marked(group: Group, path: str, linked: frozenset[str]) -> Group:
    children: dict[str, Node] = {}
    for name, child in group.children.items():
        node, here = child, f"{path}/{name}"
        if isinstance(node, Group):
            node = _marked(node, here, linked)
        elif isinstance(node, Dataset | VirtualDataset | VirtualArray):
            attributes = _with_target(node.attributes, here, is_linked=here in linked)
            node = replace(node, attributes=attributes)
        children[name] = node
    attributes = _with_target(group.attributes, path, is_linked=path in linked)
    return replace(group, attributes=attributes, children=children)


def _with_target(
    attributes: Mapping[str, Value], here: str, *, is_linked: bool
) -> dict[str, Value]:
    """Return attributes with the path of a linked object as `target`.

    One of the metadata is called otherwise, unless it says the same: to nexusformat it
    makes the object a link, and the whole file unreadable.
    """
    found = dict(attributes)
    given = found.pop(_TARGET, None)
    if given is not None and not (isinstance(given, str) and given == here):
        found[unique_name(_TARGET, {_TARGET, *found})] = given
        given = None
    return {_TARGET: here, **found} if is_linked or given is not None else found


def subscan_links(named: Node | None, own: str) -> Group | None:
    """Return links to the scans of a sequence; None if that is not what is named.

    Parameters
    ----------
    named : Node or None
        Metadata: a group with the uid of each scan under the name of its entry, all of
        the sequence's own dataset.
    own : str
        Name of the sequence's entry, which is no part of itself and stays text: readers
        that follow links would find no end.
    """
    if not isinstance(named, Group) or not named.children:
        return None
    links: dict[str, Node] = {}
    for name, node in named.children.items():
        found = _ENTRY.match(name)
        uid = node.value if isinstance(node, Dataset) else None
        if found is None or not isinstance(uid, str) or not _UID.match(uid):
            return None
        if name == own:
            links[name] = node
            continue
        number = int(found[1])
        file = scan_master_name(number)
        links[name] = ExternalLink(
            f"../{scan_folder_name(number)}/{file}",
            linked_path(file, uid, f"/{name}"),
        )
    return Group("NXcollection", named.attributes, links)
