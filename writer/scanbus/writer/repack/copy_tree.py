"""Copy an HDF5 tree into one file: links are followed, virtual datasets are read.

Each object is copied once, and has further names as hard links. Of each dataset a
digest of its values is kept, with which the copy is compared.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.bus.external import literal_name, place_below
from scanbus.schemas.errors import (
    ConfigurationError,
    ExternalFileError,
    VerificationError,
)
from scanbus.writer.layouts.common.channel_nodes import BY_REFERENCE
from scanbus.writer.repack.packing import Packing

__all__ = ["TreeCopy", "blocks_of", "digest_of_object"]

_BLOCK_BYTES: Final = 2**25
# Assumed for a text or a list, which are anywhere in the file.
_TEXT_BYTES: Final = 1024
# Of what the files of a scan say of each other; of no use in a single one.
_LEFT_OUT: Final = re.compile(r"/(?:.*[/_])?\d+\.\d+/scanbus/sources")


@dataclass
class TreeCopy:
    """The copy of one tree.

    Parameters
    ----------
    packing : Packing
        How datasets are stored.
    on_bytes : callable
        Called with the number of bytes that were just copied or compared.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are read.

    Attributes
    ----------
    digests : dict
        Path of each object in the copy to the digest of its values and attributes.
    dangling : list of str
        Paths of links that lead nowhere.
    """

    packing: Packing
    on_bytes: Callable[[int], None] = lambda _: None
    external_roots: Sequence[Path] = ()
    digests: dict[str, str] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)
    _known: dict[tuple[str, int], str] = field(default_factory=dict)
    _paths: dict[str, str] = field(default_factory=dict)

    def copy(
        self,
        source: h5py.Group,
        target: h5py.Group,
        names: Sequence[str] | None = None,
    ) -> None:
        """Copy attributes and members of a group; by default all members."""
        self._known.setdefault(self._key(source), target.name)
        if target.name not in self.digests:
            self.digests[target.name] = digest_of_object(source)
            copy_attributes(source, target)
        for name in source if names is None else names:
            if _is_left_out(source, name):
                continue
            found = source.get(name)
            if found is None:
                self.dangling.append(f"{target.name.rstrip('/')}/{name}")
                continue
            known = self._known.get(self._key(found))
            if known is not None:
                target[name] = target.file[known]
            elif isinstance(found, h5py.Group):
                made = target.create_group(name, track_order=_is_ordered(found))
                self.copy(found, made)
            elif isinstance(found, h5py.Dataset):
                self._copy_dataset(found, target, name)

    def size_of(self, source: h5py.Group) -> int:
        """Return the size of all values below a group, each counted once, in bytes."""
        seen: set[tuple[str, int]] = set()

        def count(group: h5py.Group) -> int:
            total = 0
            for name in group:
                found = None if _is_left_out(group, name) else group.get(name)
                if found is None or self._key(found) in seen:
                    continue
                seen.add(self._key(found))
                is_group = isinstance(found, h5py.Group)
                total += count(found) if is_group else getattr(found, "nbytes", 0)
            return total

        return count(source)

    def _key(self, found: Any) -> tuple[str, int]:
        """Return what an object has for itself: its file, and its place there."""
        name = found.file.filename
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = os.path.realpath(name)
        return path, h5py.h5o.get_info(found.id).addr

    def _copy_dataset(
        self, source: h5py.Dataset, parent: h5py.Group, name: str
    ) -> None:
        kind = source.dtype
        if _has_references(kind):
            raise _references(source, source.name)
        if BY_REFERENCE in source.attrs and source.is_virtual:
            _check_places(source, self.external_roots)
        options: dict[str, Any] = {}
        shape: tuple[int, ...] | None = source.shape
        is_plain = kind.kind in "biufc" and kind.names is None
        if shape is not None and source.size > 0 and is_plain:
            options = self.packing.options(shape, kind.itemsize)
            options["fillvalue"] = source.fillvalue
        made = parent.create_dataset(
            name,
            shape=source.shape,
            dtype=kind,
            track_order=_is_ordered(source),
            **options,
        )
        self._known[self._key(source)] = made.name
        digest = xxhash.xxh3_128()
        for block in blocks_of(made):
            values = _read(source, block)
            made[block] = values
            _feed(digest, values)
            self.on_bytes(_size_of(values))
        copy_attributes(source, made)
        self.digests[made.name] = _with_attributes(source, digest)


def _check_places(frames: h5py.Dataset, roots: Sequence[Path]) -> None:
    """Refuse frames by reference in files that no check has looked at.

    Raises
    ------
    ConfigurationError
        If one of them is not below the external roots.
    """
    folder = Path(frames.file.filename).absolute().parent
    for file in sorted({one.file_name for one in frames.virtual_sources()}):
        try:
            place_below(folder / (literal_name(file) or file), roots)
        except ExternalFileError as error:
            raise ConfigurationError("external_roots", str(error)) from error


def digest_of_object(
    found: h5py.Group | h5py.Dataset, on_bytes: Callable[[int], None] = lambda _: None
) -> str:
    """Return the digest of the values and attributes of an object, not of members."""
    digest = xxhash.xxh3_128()
    if isinstance(found, h5py.Dataset):
        for block in blocks_of(found):
            values = found[block]
            _feed(digest, values)
            on_bytes(_size_of(values))
    return _with_attributes(found, digest)


def _with_attributes(found: Any, digest: Any) -> str:
    if isinstance(found, h5py.Dataset):
        digest.update(f"{found.shape} {found.dtype.str}".encode())
    for name in sorted(found.attrs):
        kind = found.attrs.get_id(name)
        digest.update(f"{name} {kind.shape} {kind.dtype}".encode())
        _feed(digest, found.attrs[name])
    return str(digest.hexdigest())


def _is_left_out(group: h5py.Group, name: str) -> bool:
    """Whether a member describes files, or is the way by which others link here."""
    path = f"{group.name}/{name}"
    if _LEFT_OUT.fullmatch(path):
        return True
    is_group = group.get(name, getclass=True, getlink=True) is h5py.HardLink
    if group.name != "/" or not is_group or not isinstance(group[name], h5py.Group):
        return False
    found = group[name]
    links = [found.get(each, getlink=True) for each in found]
    are_soft = all(isinstance(link, h5py.SoftLink) for link in links)
    return bool(links) and are_soft and "NX_class" not in found.attrs


def copy_attributes(source: Any, target: Any) -> None:
    """Copy all attributes, with their types.

    Raises
    ------
    VerificationError
        If one of them refers to other objects, which have other places in the copy.
    """
    for name in source.attrs:
        kind = source.attrs.get_id(name).dtype
        if _has_references(kind):
            raise _references(source, f"{source.name}@{name}")
        target.attrs.create(name, source.attrs[name], dtype=kind)


def _has_references(kind: np.dtype[Any]) -> bool:
    """Whether values of a type refer to other objects, by themselves or in a part."""
    if kind.names is not None:
        return any(_has_references(kind[name]) for name in kind.names)
    if kind.subdtype is not None:
        return _has_references(kind.subdtype[0])
    inner = h5py.check_vlen_dtype(kind)
    if isinstance(inner, np.dtype):
        return _has_references(inner)
    return h5py.check_ref_dtype(kind) is not None


def _references(source: Any, place: str) -> VerificationError:
    reason = f"{place} has references to other objects; they are not kept"
    return VerificationError(source.file.filename, reason)


def _is_ordered(found: h5py.Group | h5py.Dataset) -> bool:
    """Whether an object keeps its members, or its attributes, in creation order."""
    made = found.id.get_create_plist()
    is_group = isinstance(found, h5py.Group)
    order = made.get_link_creation_order if is_group else made.get_attr_creation_order
    return bool(order())


def blocks_of(dataset: h5py.Dataset) -> Iterator[tuple[slice, ...]]:
    """Yield the places of parts of a dataset that fit into memory; whole chunks.

    So each chunk is packed once, and one that is wider than an image is no reason to
    hold the scan.
    """
    if dataset.shape is None or dataset.size == 0:
        return
    itemsize = dataset.dtype.itemsize
    if dataset.dtype.hasobject:
        itemsize = _TEXT_BYTES
    lengths = _block_shape(dataset.shape, dataset.chunks, itemsize)
    starts = (
        range(0, n, length) for n, length in zip(dataset.shape, lengths, strict=True)
    )
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + length, n))
            for start, length, n in zip(corner, lengths, dataset.shape, strict=True)
        )


def _block_shape(
    shape: Sequence[int], chunk: Sequence[int] | None, itemsize: int
) -> list[int]:
    """Return the shape of the largest part: whole chunks, the fastest axes first."""
    block = [min(*each) for each in zip(shape, chunk or [1] * len(shape), strict=True)]
    for axis in reversed(range(len(shape))):
        n_fit = _BLOCK_BYTES // (math.prod(block) * itemsize)
        block[axis] = min(shape[axis], block[axis] * max(1, n_fit))
        if block[axis] < shape[axis]:
            break
    return block


def _read(source: h5py.Dataset, block: tuple[slice, ...]) -> Any:
    """Return a part of a dataset of the source.

    Raises
    ------
    VerificationError
        If it cannot be read: a chunk is damaged, or its filter is not there.
    """
    try:
        return source[block]
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise VerificationError(
            source.file.filename, f"{source.name} cannot be read: {reason}"
        ) from error


def _feed(digest: Any, values: Any) -> None:
    array: npt.NDArray[Any] = np.asarray(values)
    if array.dtype.hasobject or array.dtype.kind in "SU":
        for each in array.reshape(-1).tolist():
            octets = _octets(each)
            digest.update(len(octets).to_bytes(8, "little") + octets)
    else:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):  # of variable length
        return value.tobytes()
    return str(value).encode("utf-8", "surrogateescape")


def _size_of(values: Any) -> int:
    return int(np.asarray(values).nbytes)
