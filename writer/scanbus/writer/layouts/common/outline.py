"""A tree of a file as JSON: what ``scanbus layout`` prints. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from scanbus.writer.model.nexus_tree import (
    CopiedArray,
    CopiedDataset,
    Dataset,
    ExternalLink,
    FrameSource,
    Group,
    HardLink,
    Node,
    SoftLink,
    Source,
    Value,
    VirtualArray,
    VirtualDataset,
)

__all__ = ["outline"]

_MAX_VALUES: Final = 16
_MAX_TEXT: Final = 1000
_MAX_SOURCES: Final = 100
_LINKS: Final = {SoftLink: "soft", HardLink: "hard", ExternalLink: "external"}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
_NONE: Final[Shapes] = {}


def outline(node: Node, copied: Shapes = _NONE) -> dict[str, Any]:
    """Return a node and what is below it as JSON.

    Parameters
    ----------
    copied : mapping
        Type and shape of datasets that are copied, by their paths in the scan file.

    Returns
    -------
    dict
        With ``kind``: ``group``, ``dataset``, ``virtual``, ``copy`` or ``link``.

    Examples
    --------
    >>> outline(Dataset(1.5, {"units": "mm"}))["shape"]
    []
    """
    if isinstance(node, Group):
        return {
            "kind": "group",
            "class": "NXcollection" if node.nx_class == "" else node.nx_class,
            "attributes": _attributes(node.attributes),
            "children": {
                name: outline(child, copied) for name, child in node.children.items()
            },
        }
    if isinstance(node, SoftLink | HardLink | ExternalLink):
        return _link(node)
    return {**_data(node, copied), "attributes": _attributes(node.attributes)}


def _link(node: SoftLink | HardLink | ExternalLink) -> dict[str, Any]:
    found = {"kind": "link", "type": _LINKS[type(node)]}
    if isinstance(node, ExternalLink):
        found["file"] = node.file
    return {**found, "path": node.path}


def _data(
    node: Dataset | CopiedDataset | VirtualArray | VirtualDataset | CopiedArray,
    copied: Shapes,
) -> dict[str, Any]:
    match node:
        case CopiedArray():
            return {**_data(node.source, copied), "dtype": str(node.dtype)}
        case Dataset():
            return {"kind": "dataset", **_value(node.value)}
        case CopiedDataset():
            source = {"file": node.file, "path": node.path}
            if node.path not in copied:
                return {"kind": "copy", "source": source}
            dtype, shape = copied[node.path]
            return {"kind": "copy", "dtype": dtype, "shape": [*shape], "source": source}
        case VirtualArray():
            return _virtual(node, [{"file": node.file, "path": node.path}], 1)
        case VirtualDataset():
            mapped: tuple[Source | FrameSource, ...] = (*node.sources, *node.frames)
            sources = [
                {"file": one.file, "path": one.path, "start": one.start}
                for one in mapped[:_MAX_SOURCES]
            ]
            return _virtual(node, sources, len(node.sources) + len(node.frames))


def _virtual(
    node: VirtualDataset | VirtualArray, sources: list[dict[str, Any]], count: int
) -> dict[str, Any]:
    return {
        "kind": "virtual",
        "dtype": "string" if node.dtype is None else str(node.dtype),
        "shape": list(node.shape),
        "n_sources": count,
        "sources": sources,
    }


def _attributes(attributes: Mapping[str, Value]) -> dict[str, Any]:
    return {name: _short(value) for name, value in attributes.items()}


def _short(value: Value) -> Any:
    found = _value(value)
    return found.get("value", f"{found['dtype']} {found['shape']}")


def _value(value: Value) -> dict[str, Any]:
    """Return type and shape of a value; itself, too, if it is small."""
    if isinstance(value, str):
        shown = value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}…"
        return {"dtype": "string", "shape": [], "value": shown}
    if isinstance(value, tuple):
        found: dict[str, Any] = {"dtype": "string", "shape": [len(value)]}
        is_small = len(value) <= _MAX_VALUES and sum(map(len, value)) <= _MAX_TEXT
        return {**found, "value": list(value)} if is_small else found
    array = np.asarray(value)
    found = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size <= _MAX_VALUES and array.dtype.kind in "biuf":
        found["value"] = _finite(array.tolist())
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
