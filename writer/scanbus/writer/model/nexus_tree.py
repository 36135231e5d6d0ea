"""Contents of an HDF5 file as plain data: groups, datasets, links.

Layouts build such trees from the contents of a scan, and one function writes any tree
to a file. So a layout can be defined, tested and compared without a file, and does not
depend on HDF5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "CopiedArray",
    "CopiedDataset",
    "Dataset",
    "ExternalLink",
    "FrameSource",
    "Group",
    "HardLink",
    "Node",
    "SoftLink",
    "Source",
    "Value",
    "VirtualArray",
    "VirtualDataset",
]

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = (
    str | bool | int | float | complex | tuple[str, ...] | np.generic | Array
)
"""A string, a number, a list of strings, or a numerical array."""


@dataclass(frozen=True)
class Dataset:
    """A dataset with its values in the file itself.

    Attributes
    ----------
    value : Value
        The values; their type is kept.
    attributes : mapping
        HDF5 attributes, including ``units``.
    """

    value: Value
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class CopiedDataset:
    """A dataset whose values, type and chunks are copied from another file.

    Attributes
    ----------
    file : str
        File name relative to the folder of the file that gets the copy.
    path : str
        Absolute path of the dataset in that file.
    attributes : mapping
        HDF5 attributes; those of the original are not copied.
    """

    file: str
    path: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SoftLink:
    """A soft link to an object in the same file.

    Attributes
    ----------
    path : str
        Absolute path, so that the link also resolves through an external link to this
        file.
    """

    path: str


@dataclass(frozen=True, slots=True)
class HardLink:
    """Another name for a group or dataset of the same file, made before.

    Attributes
    ----------
    path : str
        Absolute path.
    """

    path: str


@dataclass(frozen=True, slots=True)
class ExternalLink:
    """An external link to an object in another file.

    Attributes
    ----------
    file : str
        File name relative to the folder of the file that holds the link.
    path : str
        Absolute path in that file.
    """

    file: str
    path: str


@dataclass(frozen=True, slots=True)
class Source:
    """A source of a virtual dataset, mapped contiguously along the first axis.

    Attributes
    ----------
    file : str
        File name relative to the folder of the file that holds the virtual dataset; a
        dot for that file itself.
    path : str
        Absolute path of the dataset in that file.
    start, stop : int
        The whole source is mapped to ``[start, stop)`` along the first axis.
    point : tuple of int or None
        Shape of one of its points, if they are shorter than those of the virtual
        dataset.
    """

    file: str
    path: str
    start: int
    stop: int
    point: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Frames of a detector's own file in a virtual dataset, in even steps.

    Attributes
    ----------
    file : str
        File name, absolute or relative to the folder of the file that holds the virtual
        dataset.
    path : str
        Absolute path of the dataset in that file.
    start, step, count : int
        The points ``start + k * step`` of the virtual dataset, `count` of them.
    first, frame_step : int
        The frames ``first + k * frame_step`` of the file.
    is_single : bool
        Whether the dataset is one frame, without an axis that counts frames.
    """

    file: str
    path: str
    start: int
    step: int
    count: int
    first: int
    frame_step: int
    is_single: bool = False


@dataclass(frozen=True)
class VirtualDataset:
    """A virtual dataset (HDF5 VDS): datasets of other files, joined along axis 0.

    Attributes
    ----------
    shape : tuple of int
        Shape of the virtual dataset, points first.
    dtype : numpy.dtype or None
        Type of the sources; None for texts.
    fill_value : number or None
        Value read where no source is mapped, or where the source file is missing; None
        for texts, where it is empty.
    sources : tuple of Source
        Sources in ascending order of `start`.
    frames : tuple of FrameSource
        Sources that are files of a detector; there are no others then.
    attributes : mapping
        HDF5 attributes, including ``units``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    fill_value: int | float | complex | bool | None
    sources: tuple[Source, ...]
    attributes: Mapping[str, Value] = field(default_factory=dict)
    frames: tuple[FrameSource, ...] = ()


@dataclass(frozen=True)
class VirtualArray:
    """A virtual dataset that is the whole of one dataset of another file.

    Attributes
    ----------
    file, path : str
        File name relative to the folder of the file that holds this, and absolute path
        of the dataset in it.
    source_shape : tuple of int
        Shape of that dataset, with as many values.
    shape : tuple of int
        Shape of this one.
    dtype : numpy.dtype
        Type of both.
    fill_value : number
        Value read where the file is missing.
    attributes : mapping
        HDF5 attributes, including ``units``.
    """

    file: str
    path: str
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: int | float | complex | bool
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class CopiedArray:
    """A dataset with the values of another, for readers that cannot reach that one.

    Attributes
    ----------
    source : Dataset or VirtualArray
        An array; its attributes are those of this one.
    dtype : numpy.dtype
        Type of this one, to which values are converted.
    is_contiguous : bool
        Whether it is in one piece and not compressed, however large; otherwise a large
        one is compressed with a filter that all readers have.
    """

    source: Dataset | VirtualArray
    dtype: np.dtype[Any]
    is_contiguous: bool = False

    @property
    def attributes(self) -> Mapping[str, Value]:
        """HDF5 attributes, including ``units``."""
        return self.source.attributes


@dataclass(frozen=True)
class Group:
    """A group with its NeXus class.

    Attributes
    ----------
    nx_class : str or None
        NeXus class; empty if unspecified, which is written as ``NXcollection``; None
        for a group without the attribute.
    attributes : mapping
        HDF5 attributes without ``NX_class``.
    children : mapping
        Members by name, in the order in which they are written.
    """

    nx_class: str | None = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    children: Mapping[str, Node] = field(default_factory=dict)


Node: TypeAlias = (
    Group
    | Dataset
    | CopiedDataset
    | SoftLink
    | HardLink
    | ExternalLink
    | VirtualDataset
    | VirtualArray
    | CopiedArray
)
