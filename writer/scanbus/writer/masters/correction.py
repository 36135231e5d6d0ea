"""Correct the metadata of a finished scan: an event beside it, and a new master."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from scanbus.schemas import merged
from scanbus.schemas.errors import (
    ConfigurationError,
    NameTakenError,
    RootUnusableError,
)
from scanbus.schemas.file_names import (
    parse_scan_folder,
    scan_master_name,
    values_file_name,
)
from scanbus.schemas.metadata import MetadataTree, is_array
from scanbus.writer.masters.layout_notes import current_notes
from scanbus.writer.masters.rebuild import has_references, read_contents
from scanbus.writer.masters.write import write_amended_master
from scanbus.writer.storage.amendments import (
    Amendment,
    add_amendment,
    amendments_of,
    locked_amendments,
    read_amendments,
    with_amendments,
)
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.references import allow_references_below
from scanbus.writer.storage.regular_file import is_there

__all__ = ["AmendedScan", "amend", "amendments", "scan_folder_of", "tree_of"]

# More than the deepest tree of the longest names.
_LONGEST_PLACE: Final = 1200
_NOT_SCAN: Final = "give a scan's folder or master, such as scan0001/scan0001.h5"


@dataclass(frozen=True, slots=True)
class AmendedScan:
    """A scan whose metadata were corrected.

    Attributes
    ----------
    master : pathlib.Path
        Its master, as it is now.
    problems : tuple of str
        A sentence for each value that it cannot show, or not in its place.
    notes : tuple of str
        What other layouts of the scan lack now.
    history : pathlib.Path
        The file with all corrections.
    amendment : Amendment
        This correction.
    """

    master: Path
    history: Path
    amendment: Amendment
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def scan_folder_of(path: Path) -> Path:
    """Return the folder of a scan, of which that or one of its files is given.

    Raises
    ------
    ConfigurationError
        If it is neither.
    """
    resolved = path.resolve()
    folder = resolved if resolved.is_dir() else resolved.parent
    if not resolved.exists():
        raise ConfigurationError("scan", f"{path}: there is no such file; {_NOT_SCAN}")
    if parse_scan_folder(folder.name) is None:
        raise ConfigurationError("scan", f"{path} is not of one scan; {_NOT_SCAN}")
    return folder


def amendments(path: Path) -> tuple[Amendment, ...]:
    """Return the corrections of a scan so far, the oldest first.

    Raises
    ------
    ConfigurationError
        If the path is not of a scan.
    VerificationError, OSError
        If they cannot be read.
    """
    return read_amendments(scan_folder_of(path))


def amend(
    path: Path,
    changes: Mapping[str, Any],
    *,
    reason: str,
    author: str,
    external_roots: Sequence[Path] = (),
) -> AmendedScan:
    """Correct the metadata of a finished scan.

    Data and scan files stay as they are, byte for byte.

    Parameters
    ----------
    path : pathlib.Path
        The scan's folder, or its master.
    changes : mapping
        Path of a field, such as ``sample/name`` or ``sample/mass@units``, to its value;
        None withdraws it. ``title`` is the title of the scan.
    reason, author : str
        Why, and who says so.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are looked at.

    Raises
    ------
    ConfigurationError
        If the path is not of a finished scan, a name or a value cannot stand in a file,
        or the scan has frames by reference and there are no `external_roots`.
    NameTakenError, VerificationError, DocumentError
        If its files are not those of one scan.
    RootUnusableError
        If the file system refuses; nothing was corrected then.
    """
    folder = scan_folder_of(path)
    tree = _checked(changes)
    number = parse_scan_folder(folder.name) or 0
    values = folder / values_file_name(number)
    if not is_there(values):
        reason = "is not finished: until it is, its publisher corrects it, or nobody"
        raise ConfigurationError("scan", f"{folder.name} {reason}")
    allow_references_below(external_roots)
    history = amendments_of(folder)
    assert history is not None
    contents = read_contents(folder)
    if has_references(contents) and not external_roots:
        reason = "it has frames by reference: name the folders of their files"
        raise ConfigurationError("external_roots", reason)
    with _usable(folder), locked_amendments(history) as descriptor:
        earlier = read_amendments(folder)
        known = with_amendments(contents, earlier).record
        title = {"title": known.title}
        before = merged(known.metadata(), title)
        amendment = Amendment(
            time=time.time(),
            author=author,
            reason=reason,
            metadata=tree,
            before={place: _value_at(before, place) for place in changes},
            version=stamp_now().scanbus_version,
        )
        before_it = _problems(folder / scan_master_name(number), number)
        master = write_amended_master(
            folder,
            contents,
            (*earlier, amendment),
            lambda: add_amendment(descriptor, history, amendment),
        )
    problems = _problems(master, number)
    new = tuple(one for one in problems if one not in before_it)
    notes = current_notes(with_amendments(contents, (*earlier, amendment)))
    return AmendedScan(master, history, amendment, new, notes)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Say which folder it is that the file system refuses."""
    try:
        yield
    except OSError as error:
        raise RootUnusableError(str(folder), error.strerror or str(error)) from error


def _problems(master: Path, number: int) -> tuple[str, ...]:
    """Return what the master says of metadata that it could not show as they are."""
    try:
        with open_hdf5(master) as file:
            found = file.get(f"{number}.1/scanbus/problems")
            return () if found is None else tuple(found.asstr()[()])
    except (OSError, RuntimeError, NameTakenError):
        return ()  # An old one that is damaged, or not there, is made new.


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    if not changes:
        raise ConfigurationError("set", "there is nothing to correct")
    if not isinstance(changes.get("title", ""), str):
        raise ConfigurationError("set", "title: text is needed, in quotes if a number")
    for place in changes:
        if len(place) > _LONGEST_PLACE:
            reason = f"{place[:40]}…: more than {_LONGEST_PLACE} characters"
            raise ConfigurationError("set", reason)
    try:
        return TypeAdapter(MetadataTree).validate_python(tree_of(changes))
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        reason = reason.removeprefix("Value error, ")
        raise ConfigurationError("set", reason) from error


def tree_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes by path as a tree.

    Raises
    ------
    ConfigurationError
        If a field is a group, too.

    Examples
    --------
    >>> tree_of({"sample/name": "lysozyme", "sample/mass@units": "mg"})
    {'sample': {'name': 'lysozyme', 'mass@units': 'mg'}}
    """
    tree: dict[str, Any] = {}
    for place, value in changes.items():
        *groups, name = place.strip("/").split("/")
        found = tree
        for group in groups:
            found = found.setdefault(group, {})
            if not isinstance(found, dict):
                raise ConfigurationError("set", f"{place}: {group} is a value, too")
        if isinstance(found.get(name), dict):
            raise ConfigurationError("set", f"{place} is a group, too")
        found[name] = value
    return tree


def _value_at(tree: Mapping[str, Any], place: str) -> Any:
    """Return the value at a path; None if there is none, or a large array."""
    found: Any = tree
    for name in place.strip("/").split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return None if is_array(found) else found
