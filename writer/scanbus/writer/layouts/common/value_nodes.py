"""Small values in the scan master: copied, or virtual datasets where they are large.

Of a finished scan both come from the scan file. While a scan runs, what is finished is
in files that masters may name, and the latest points in one that is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from scanbus.writer.model.nexus_tree import (
    CopiedDataset,
    Dataset,
    Group,
    Node,
    Source,
    Value,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import (
    TIME_ATTRIBUTES,
    TIMES_GROUP,
    ScanContents,
    linked_path,
)
from scanbus.writer.model.value_files import StoredArray, ValueFile

__all__ = ["latest_group", "n_values", "times_group", "value_node", "with_copies"]

_LATEST: Final = "latest"
"""Group below ``scanbus`` with the latest points of datasets that have older ones."""
_TIME: Final = np.dtype("<f8")


def n_values(contents: ScanContents, path: str) -> int | None:
    """Return how many points there are of an array, None if the master has no such.

    That is one without points, unless the scan is over.
    """
    pieces = _pieces(contents, path)
    n_points = sum(array.shape[0] for _, array in pieces)
    return n_points if n_points or (pieces and contents.is_final) else None


def value_node(
    contents: ScanContents,
    path: str,
    dtype: np.dtype[Any] | None,
    fill_value: int | float | complex | bool | None,
    *,
    attributes: Mapping[str, Value] | None = None,
) -> CopiedDataset | VirtualDataset | None:
    """Return the dataset of an array of the files with small values.

    Parameters
    ----------
    path : str
        Its path in the scan file, and in any other.
    dtype : numpy.dtype or None
        Type of one value; None for texts.
    fill_value : number or None
        What stands for a missing one; None for texts.

    Returns
    -------
    CopiedDataset, VirtualDataset or None
        None as of `n_values`.
    """
    if n_values(contents, path) is None:
        return None
    attributes = attributes or {}
    pieces = _pieces(contents, path)
    file = pieces[0][0]
    if len(pieces) == 1 and (not file.is_lasting or path in contents.copied):
        return CopiedDataset(file.name, path, attributes)
    shapes = [array.shape for _, array in pieces]
    point = tuple(max(sizes) for sizes in zip(*(s[1:] for s in shapes), strict=True))
    sources: list[Source] = []
    start = 0
    for file, array in pieces:
        stop = start + array.shape[0]
        name, inside = _source_of(contents, file, path)
        sources.append(Source(name, inside, start, stop, array.shape[1:]))
        start = stop
    # Some readers (blissdata) look whether the file of the last one can be opened.
    sources.sort(key=lambda one: one.file != ".")
    shape = (start, *point)
    return VirtualDataset(shape, dtype, fill_value, tuple(sources), attributes)


def _pieces(contents: ScanContents, path: str) -> list[tuple[ValueFile, StoredArray]]:
    """Return the files with points of an array; without points, those that have it."""
    found = [(one, one.arrays[path]) for one in contents.values if path in one.arrays]
    return [each for each in found if each[1].shape[0]] or found[:1]


def _source_of(contents: ScanContents, file: ValueFile, path: str) -> tuple[str, str]:
    """Return the file and path of a source of a virtual dataset."""
    if file.is_lasting:
        return file.name, linked_path(file.name, contents.record.uid, path)
    return ".", f"/{contents.entry_name}/scanbus/{_LATEST}{path}"


def latest_group(contents: ScanContents) -> dict[str, Node]:
    """Return copies of the latest points for virtual datasets with older ones."""
    tree: dict[str, Any] = {}
    for file in contents.values:
        if file.is_lasting:
            continue
        for path in file.arrays:
            pieces = _pieces(contents, path)
            if len(pieces) > 1 and pieces[-1][0] is file:
                *groups, name = path.strip("/").split("/")
                below = tree
                for group in groups:
                    below = below.setdefault(group, {})
                below[name] = CopiedDataset(file.name, path)
    return {_LATEST: _group_of(tree)} if tree else {}


def _group_of(tree: Mapping[str, Any]) -> Group:
    children = {
        name: _group_of(node) if isinstance(node, dict) else node
        for name, node in tree.items()
    }
    return Group("NXcollection", children=children)


def times_group(contents: ScanContents) -> dict[str, Node]:
    """Return the times of the points of each lane."""
    prepared = contents.record.prepared
    found: dict[str, Node] = {}
    for lane in prepared.lanes if prepared else ():
        # PyMca takes arrays for spectra by the name alone: here that of a lane, `mca`.
        attributes: dict[str, Value] = {**TIME_ATTRIBUTES, "interpretation": "scalar"}
        if lane.original_name:
            attributes["original_name"] = lane.original_name
        path = f"{TIMES_GROUP}/{lane.name}"
        node = value_node(contents, path, _TIME, np.nan, attributes=attributes)
        if node is not None:
            found[lane.name] = node
    return {"times": Group("NXcollection", children=found)} if found else {}


def with_copies(contents: ScanContents, entry: Group) -> Group:
    """Return the NXentry with a list of what it copies from the scan file."""
    copies = dict(_copies_below(f"/{contents.entry_name}", entry))
    own = entry.children["scanbus"]
    if contents.values_file is None or not copies or not isinstance(own, Group):
        return entry
    listed = Group(
        "NXcollection",
        children={
            "file": Dataset(contents.values_file),
            "dataset": Dataset(tuple(copies)),
            "original": Dataset(tuple(copies.values())),
        },
    )
    own = replace(own, children={**own.children, "copies": listed})
    return replace(entry, children={**entry.children, "scanbus": own})


def _copies_below(path: str, group: Group) -> Iterator[tuple[str, str]]:
    for name, node in group.children.items():
        if isinstance(node, CopiedDataset):
            yield f"{path}/{name}", node.path
        elif isinstance(node, Group):
            yield from _copies_below(f"{path}/{name}", node)
