"""List the groups and datasets of a NeXus file as a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from scanbus.schemas.errors import VerificationError
from scanbus.schemas.wording import counted

__all__ = ["OutlineLine", "read_outline"]

_MAX_TEXT = 60


@dataclass(frozen=True, slots=True)
class OutlineLine:
    """One group or dataset.

    Attributes
    ----------
    depth : int
        0 for members of the root group.
    name : str
        Name of the group or dataset.
    text : str
        Class of a group; value, or shape and type of a dataset; target of a link.
    """

    depth: int
    name: str
    text: str


def read_outline(file: Path, max_depth: int = 3) -> tuple[OutlineLine, ...]:
    """Return the groups and datasets of a file down to a depth, not through links.

    External links are opened only for the shape of their target.

    Raises
    ------
    VerificationError
        If the file cannot be opened.
    """
    try:
        with h5py.File(file, "r", locking=False) as root:
            return tuple(_lines(root, 0, max_depth))
    except OSError as error:
        raise VerificationError(str(file), f"cannot be opened: {error}") from error


def _lines(group: Any, depth: int, max_depth: int) -> Iterator[OutlineLine]:
    for name in group:
        link = group.get(name, getlink=True)
        node = group.get(name)
        if node is None:
            yield OutlineLine(depth, name, "broken link")
        elif isinstance(link, h5py.SoftLink):
            yield OutlineLine(depth, name, _link_text(node, link))
        elif isinstance(node, h5py.Group):
            yield OutlineLine(depth, name, str(node.attrs.get("NX_class", "")))
            if depth + 1 < max_depth and not isinstance(link, h5py.ExternalLink):
                yield from _lines(node, depth + 1, max_depth)
        else:
            yield OutlineLine(depth, name, _dataset_text(node, link))


def _link_text(node: Any, link: Any) -> str:
    shape = f"{_shape_text(node)} " if isinstance(node, h5py.Dataset) else ""
    return f"{shape}-> {link.path}"


def _shape_text(node: Any) -> str:
    kind = "text" if h5py.check_string_dtype(node.dtype) else node.dtype.name
    return " ".join([" x ".join(str(length) for length in node.shape), kind])


def _dataset_text(node: Any, link: Any) -> str:
    if node.shape == ():
        value = node[()]
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        units = node.attrs.get("units", "")
        return " ".join(f"{text}".split())[:_MAX_TEXT] + (f" {units}" if units else "")
    shape = _shape_text(node)
    if isinstance(link, h5py.ExternalLink):
        return f"{shape}, in {link.filename}"
    if not node.is_virtual:
        return shape
    return f"{shape}, in {counted(len(node.virtual_sources()), 'file')}"
