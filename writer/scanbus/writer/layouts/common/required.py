"""Application definitions: what they require, and what a tree lacks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scanbus.writer.model.nexus_tree import Dataset, Group, Node

__all__ = ["DEFINITIONS_VERSION", "lacking", "with_definition"]

DEFINITIONS_VERSION = "v2026.01"
"""Version of the NeXus definitions by which files are made and validated."""


def lacking(
    entry: Group, required: Sequence[str], sources: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return where to say what a tree does not have, in the order of `required`.

    Parameters
    ----------
    required : sequence of str
        Paths in the tree.
    sources : mapping, optional
        Path to the one of the metadata by which it comes, if that is another; empty for
        what comes with another one.

    Examples
    --------
    >>> entry = Group("NXentry", children={"title": Dataset("ascan")})
    >>> lacking(entry, ("title", "sample/name"))
    ('sample/name',)
    """
    sources = sources or {}
    missing = (path for path in required if not _has(entry, path))
    said = (sources.get(path, path) for path in missing)
    return tuple(dict.fromkeys(filter(None, said)))


def _has(entry: Group, path: str) -> bool:
    node: Node | None = entry
    for name in path.split("/"):
        if not isinstance(node, Group):
            return False
        node = node.children.get(name)
    if isinstance(node, Dataset) and isinstance(node.value, str | tuple):
        return bool(node.value)
    return node is not None


def with_definition(entry: Group, name: str, missing: Sequence[str]) -> Group:
    """Return an NXentry with its definition, unless something is missing."""
    if missing:
        return entry
    definition = Dataset(name, {"version": DEFINITIONS_VERSION})
    return replace(entry, children={"definition": definition, **entry.children})
