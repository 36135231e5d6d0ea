"""What stands in an HDF5 file, as plain data: groups, datasets, links.

Layouts make such trees from what is known of a scan, and one function writes any of
them. So how a file looks can be decided, tested and compared without a file, and no
layout knows HDF5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Dataset",
    "ExternalLink",
    "Group",
    "Node",
    "SoftLink",
    "Source",
    "Value",
    "VirtualDataset",
]

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = (
    str | bool | int | float | complex | tuple[str, ...] | np.generic | Array
)
"""A text, a number, a list of texts, or numbers as an array."""


@dataclass(frozen=True)
class Dataset:
    """Values that stand in the file itself.

    Attributes
    ----------
    value : Value
        What stands there; its type is kept.
    attributes : mapping
        Among them ``units``.
    """

    value: Value
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SoftLink:
    """Another name for something in the same file.

    Attributes
    ----------
    path : str
        Absolute, so that it also holds behind an external link to this file.
    """

    path: str


@dataclass(frozen=True, slots=True)
class ExternalLink:
    """Something in another file.

    Attributes
    ----------
    file : str
        Relative to the folder of the file that holds the link.
    path : str
        Absolute path in that file.
    """

    file: str
    path: str


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset that is a contiguous part of a virtual one.

    Attributes
    ----------
    file : str
        Relative to the folder of the file that holds the virtual dataset.
    path : str
        Absolute path of the dataset in that file.
    start, stop : int
        The whole of it stands at ``[start, stop)`` along the first axis.
    """

    file: str
    path: str
    start: int
    stop: int


@dataclass(frozen=True)
class VirtualDataset:
    """Datasets of other files, joined along the first axis.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole, points first.
    dtype : numpy.dtype
        That of the sources.
    fill_value : number
        What is read where no source is, or where its file is not there.
    sources : tuple of Source
        In ascending order.
    attributes : mapping
        Among them ``units``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: int | float | complex | bool
    sources: tuple[Source, ...]
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A group with its class.

    Attributes
    ----------
    nx_class : str
        NeXus class; empty where nobody said, then it is written as ``NXcollection``.
    attributes : mapping
        Without ``NX_class``.
    children : mapping
        In the order in which they are written.
    """

    nx_class: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    children: Mapping[str, Node] = field(default_factory=dict)


Node: TypeAlias = Group | Dataset | SoftLink | ExternalLink | VirtualDataset
