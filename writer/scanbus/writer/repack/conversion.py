"""Repack a scan or a dataset: check it, copy it, compare the copy, give it its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of the source

from scanbus.schemas.errors import (
    ConfigurationError,
    RootUnusableError,
    VerificationError,
)
from scanbus.schemas.file_names import dataset_master_name, parse_scan_folder
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.check import check_files
from scanbus.writer.model.file_stamp import CONVERTED
from scanbus.writer.repack.copy_tree import TreeCopy, digest_of_object
from scanbus.writer.repack.packing import Packing
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.error_numbers import errno_of
from scanbus.writer.storage.exclusive_names import give_name
from scanbus.writer.storage.hdf5 import changed_hdf5, written_hdf5
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.regular_file import is_there
from scanbus.writer.storage.temporary_files import new_temporary, remove_leftovers

__all__ = ["ConvertedFile", "convert"]

_PAGE_BYTES: Final = 2**22
# Scans that are copied before the file is closed.
_NAMES_AT_ONCE: Final = 50
_MEBIBYTE: Final = 2**20
_TEXT: Final = h5py.string_dtype("utf-8")
_KEYWORD: Final = h5py.string_dtype("ascii")


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A file that was made.

    Attributes
    ----------
    path : str
        The file.
    source : str
        The master that it was made from.
    entries : tuple of str
        Names of the scans in it.
    n_objects : int
        Number of datasets and groups, all compared with their sources.
    n_values_bytes, n_bytes : int
        Size of the values, and of the file, in bytes.
    dangling : tuple of str
        Links of the source that led nowhere, and are not in the file.
    """

    path: str
    source: str
    entries: tuple[str, ...]
    n_objects: int
    n_values_bytes: int
    n_bytes: int
    dangling: tuple[str, ...] = ()


def convert(
    source: Path,
    target: Path,
    packing: Packing | None = None,
    *,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
    external_roots: Sequence[Path] = (),
) -> ConvertedFile:
    """Write a scan or a dataset into one file without links and virtual datasets.

    Nothing is lost: the source is compared with its checksums before, and each value
    and attribute of the copy is read again and compared with the source. The file gets
    its name when that is done, and replaces none.

    Parameters
    ----------
    source : pathlib.Path
        A master of a scan, dataset or collection, or the folder of a scan or dataset.
    target : pathlib.Path
        The new file.
    packing : Packing, optional
        How values are stored; by default gzip, an image per chunk.
    progress : callable
        Called with ``("MiB copied", done, total)`` and ``("MiB compared", …)``; before
        that as that of `check_files`.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are opened.

    Raises
    ------
    ConfigurationError
        If there is no such source, no folder for the target, or the target exists; if
        frames by reference are not below `external_roots`.
    VerificationError
        If the source is damaged, or the copy differs from it.
    RootUnusableError
        If the file system refuses the copy.
    """
    packing = packing or Packing()
    master = _master_of(source)
    _check_target(target)
    _check_source(master, progress, external_roots)
    made = new_temporary(target)
    try:
        remove_leftovers(target.parent)
        result = _Conversion(master, made, packing, progress, external_roots).run(
            target
        )
        fsync_path(made)
        _give_name(made, target)
        fsync_path(target.parent)
    except OSError as error:
        raise RootUnusableError(str(target.parent), _reason(error)) from error
    finally:
        made.unlink(missing_ok=True)
    return result


def _reason(error: BaseException) -> str:
    number = errno_of(error)
    if number is not None:
        return os.strerror(number)
    return " ".join(str(error).split()) or type(error).__name__


def _give_name(made: Path, target: Path) -> None:
    try:
        give_name(made, target)
    except FileExistsError as error:
        raise _taken(target) from error


def _taken(target: Path) -> ConfigurationError:
    reason = f"{target} exists, and nothing is replaced: choose another name"
    return ConfigurationError("target", reason)


def _master_of(source: Path) -> Path:
    """Return the master that is meant by a path.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    path = source.resolve()
    if path.is_dir():
        is_dataset = parse_scan_folder(path.name) is None
        path /= dataset_master_name(path.name) if is_dataset else f"{path.name}.h5"
    if not path.is_file():
        raise ConfigurationError(
            "source", f"{path}: there is no such file; give a master, or its folder"
        )
    return path


def _check_target(target: Path) -> None:
    if is_there(target):
        raise _taken(target)
    if not target.parent.is_dir():
        raise ConfigurationError("target", f"{target.parent} is no folder")


def _check_source(
    master: Path,
    progress: Callable[[str, int, int | None], None],
    external_roots: Sequence[Path],
) -> None:
    """Refuse a source that is not what was written.

    HDF5 reads fill values in place of what is not there, and most filters unpack a
    damaged chunk without an error.
    """
    report = check_files(
        [master], everything=True, progress=progress, external_roots=external_roots
    )
    for finding in report.findings:
        more = len(report.findings) - 1
        also = f", and {more} more; `scanbus check` lists all" if more else ""
        raise VerificationError(finding.file, f"{finding.problem}{also}")


class _Conversion:
    """One copy in the making."""

    def __init__(
        self,
        master: Path,
        made: Path,
        packing: Packing,
        progress: Callable[[str, int, int | None], None],
        external_roots: Sequence[Path],
    ) -> None:
        self._master = master
        self._made = made
        self._packing = packing
        self._progress = progress
        self._external_roots = external_roots
        self._done = 0
        self._total: int | None = None

    def run(self, target: Path) -> ConvertedFile:
        """Write and compare the copy."""
        tree = TreeCopy(
            self._packing,
            lambda n: self._report("MiB copied", n),
            self._external_roots,
        )
        with h5py.File(self._master, "r", locking=False) as source:
            self._total = tree.size_of(source)
            names = list(source)
            with self._written(is_new=True) as file:
                tree.copy(source, file, names[:_NAMES_AT_ONCE])
            for start in range(_NAMES_AT_ONCE, len(names), _NAMES_AT_ONCE):
                with self._written() as file:
                    tree.copy(source, file, names[start : start + _NAMES_AT_ONCE])
        with self._written() as file:
            entries = _entries(file)
            self._describe(file, entries, target)
        # Texts are larger than their places.
        total = self._total = self._done
        self._report("MiB copied", 0)
        self._compare(tree)
        n_objects = sum(path not in entries for path in tree.digests)
        return ConvertedFile(
            str(target),
            str(self._master),
            tuple(entries),
            n_objects,
            total,
            self._made.stat().st_size,
            tuple(tree.dangling),
        )

    def _report(self, name: str, n_bytes: int) -> None:
        self._done += n_bytes
        total = None if self._total is None else self._total // _MEBIBYTE
        done = self._done // _MEBIBYTE
        self._progress(name, done if total is None else min(done, total), total)

    @contextmanager
    def _written(self, *, is_new: bool = False) -> Iterator[h5py.File]:
        """Yield the file; close it, or give it up without touching its disk.

        While it is open, HDF5 keeps all its metadata in memory, half a megabyte for
        each scan.
        """
        page_bytes = _PAGE_BYTES if self._packing.pages else 0
        try:
            with (
                written_hdf5(self._made, track_order=True, page_bytes=page_bytes)
                if is_new
                else changed_hdf5(self._made)
            ) as file:
                yield file
        except RuntimeError as error:  # h5py, if a write fails within HDF5
            folder = str(self._made.parent)
            raise RootUnusableError(folder, _reason(error)) from error

    def _describe(self, file: h5py.File, entries: list[str], target: Path) -> None:
        """Say in the file how it was made."""
        stamp = stamp_now()
        for name, text in (
            ("file_name", target.name),
            ("file_update_time", stamp.time),
            (CONVERTED, self._master.name),
        ):
            file.attrs.create(name, text, dtype=_TEXT)
        for entry in entries:
            taken = set(file[entry])  # The source may be such a copy itself.
            name = unique_name("scanbus_convert", taken)
            process = file[entry].create_group(name, track_order=True)
            process.attrs.create("NX_class", "NXprocess", dtype=_KEYWORD)
            fields = {
                "program": "scanbus convert",
                "version": stamp.scanbus_version,
                "date": stamp.time,
                "source": self._master.name,
                "configuration": json.dumps(asdict(self._packing)),
            }
            for field, text in fields.items():
                process.create_dataset(field, data=text, dtype=_TEXT)

    def _compare(self, tree: TreeCopy) -> None:
        """Read the copy again.

        Raises
        ------
        VerificationError
            If an object of it is not like its source.
        """
        self._done = 0
        with h5py.File(self._made, "r", locking=False) as file:
            for path, expected in tree.digests.items():
                if path == "/":
                    continue  # It says how it was made.
                found = digest_of_object(
                    file[path], lambda n: self._report("MiB compared", n)
                )
                if found != expected:
                    raise VerificationError(
                        str(self._master), f"the copy of {path} came out different"
                    )
        self._report("MiB compared", 0)


def _entries(file: h5py.File) -> list[str]:
    return [name for name in file if file[name].attrs.get("NX_class") == "NXentry"]
