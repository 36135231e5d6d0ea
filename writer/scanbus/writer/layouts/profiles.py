"""Find the profiles of a scan, and make the trees of their files.

Whatever goes wrong in one profile is a sentence; the scan master, and the files of the
other profiles, are made all the same.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from scanbus.schemas.errors import LayoutError
from scanbus.schemas.layout_names import is_reserved_name
from scanbus.writer.layouts.common.root import root_attributes
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.esrf import view_of
from scanbus.writer.layouts.nxmx import NXMX
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.site import parse_stored, site_profile
from scanbus.writer.layouts.techniques import CXI, NXFLUO, NXSAS, NXTOMO, NXXAS, OPENPMD
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.layout_choice import ESRF, LayoutChoice
from scanbus.writer.model.nexus_tree import Group, Value
from scanbus.writer.model.scan_contents import ScanContents

__all__ = [
    "LAYOUT_ATTRIBUTE",
    "PROFILES",
    "UID_ATTRIBUTE",
    "LaidOut",
    "find_profile",
    "lay_out",
]

LAYOUT_ATTRIBUTE: Final = "scanbus_layout"
"""Attribute of the root: name of the profile."""
UID_ATTRIBUTE: Final = "scanbus_uid"
"""Attribute of the root: uid of the scan."""
_MISSING_ATTRIBUTE: Final = "scanbus_missing"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)
_MAX_FILES: Final = 64
_MAX_NAMED: Final = 12

_BUILT_IN: Final[tuple[Profile, ...]] = (
    NXMX,
    NXTOMO,
    NXFLUO,
    NXXAS,
    NXSAS,
    CXI,
    OPENPMD,
)
PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile for profile in _BUILT_IN
}
"""The built-in profiles by name, besides ESRF's own layout."""


@dataclass(frozen=True)
class LaidOut:
    """The files of a scan's profiles, as trees.

    Attributes
    ----------
    files : mapping
        Tree of each file, an NXroot, by its name in the scan's folder.
    notes : tuple of str
        What is missing, and why a profile or a file of one is not there.
    """

    files: Mapping[str, Group]
    notes: tuple[str, ...]


def find_profile(name: str, choice: LayoutChoice) -> Profile:
    """Return a built-in profile, or that of a site template of the choice.

    Raises
    ------
    LayoutError
        If there is none of that name, or its template is wrong.
    """
    # First: a later version may have a layout of that name.
    if name in choice.templates:
        return site_profile(parse_stored(name, choice.templates[name]))
    if name in PROFILES:
        return PROFILES[name]
    known = [ESRF, *PROFILES, *choice.templates]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    raise LayoutError(name, f"there is no such layout; {hint}")


def lay_out(contents: ScanContents, stamp: FileStamp) -> LaidOut:
    """Return the files of all profiles of a scan, with notes.

    Parameters
    ----------
    contents : ScanContents
        The scan, with the layouts that it has in its choice.
    stamp : FileStamp
        Time of writing and software versions.
    """
    files: dict[str, Group] = {}
    notes: list[str] = []
    owners: dict[str, str] = {}
    if contents.choice.names:
        view = view_of(contents, stamp)
        for name in contents.choice.names:
            notes += _add_profile(view, name, stamp, files, owners)
    return LaidOut(files, tuple(notes))


def _add_profile(
    view: ScanView,
    name: str,
    stamp: FileStamp,
    files: dict[str, Group],
    owners: dict[str, str],
) -> Iterator[str]:
    try:
        profile = find_profile(name, view.contents.choice)
        masters = profile.masters(view)
    except LayoutError as error:
        yield str(error)
        return
    except Exception as error:  # noqa: BLE001 - a profile never costs the scan
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        yield f"layout {name}: its files are not written ({reason})"
        return
    kept: dict[str, Master] = {}
    for file_name, master in list(masters.items())[:_MAX_FILES]:
        refused = _refusal(view, file_name)
        if refused:
            yield f"layout {name}: {file_name!r} is not written: {refused}"
        elif file_name in owners:
            yield (
                f"layout {name}: {file_name} is not written, as layout "
                f"{owners[file_name]} has a file of that name"
            )
        else:
            owners[file_name] = name
            kept[file_name] = master
            files[file_name] = _root(view, name, file_name, master, stamp)
    yield from _sentences(name, kept)
    if len(masters) > _MAX_FILES:
        n_more = len(masters) - _MAX_FILES
        yield f"layout {name}: {n_more} more files are not written"


def _refusal(view: ScanView, file_name: str) -> str:
    """Return why a profile must not write a file of that name; empty if it may."""
    if not file_name.startswith(view.scan_name) or not _FILE_NAME.fullmatch(file_name):
        return (
            f"the names of its files start with {view.scan_name}, and have letters, "
            "digits, underscores, hyphens and dots alone"
        )
    if is_reserved_name(file_name):
        return "the name is kept for files of the scan itself"
    return ""


def _sentences(name: str, masters: Mapping[str, Master]) -> Iterator[str]:
    """Yield what files lack, once for those that lack the same, and other remarks."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for file_name, master in masters.items():
        if master.missing:
            lacking.setdefault(master.missing, []).append(file_name)
    for missing, file_names in lacking.items():
        named = ", ".join(missing[:_MAX_NAMED])
        n_more = len(missing) - _MAX_NAMED
        more = f" and {n_more} more" if n_more > 0 else ""
        have = "has" if len(file_names) == 1 else "have"
        yield (
            f"layout {name}: {' and '.join(file_names)} {have} no definition, as the "
            f"scan lacks {named}{more}"
        )
    remarks = (remark for master in masters.values() for remark in master.remarks)
    for remark in dict.fromkeys(remarks):
        yield f"layout {name}: {remark}"


def _root(
    view: ScanView, name: str, file_name: str, master: Master, stamp: FileStamp
) -> Group:
    prepared = view.record.prepared
    attributes: dict[str, Value] = {
        **root_attributes(file_name, prepared.publisher if prepared else "", stamp),
        **master.attributes,
        LAYOUT_ATTRIBUTE: name,
        UID_ATTRIBUTE: view.record.uid,
    }
    if master.missing:
        attributes[_MISSING_ATTRIBUTE] = master.missing
    entry = next((key for key, node in master.children.items() if _is_entry(node)), "")
    if entry:
        attributes["default"] = entry
    return Group("NXroot", attributes, master.children)


def _is_entry(node: object) -> bool:
    return isinstance(node, Group) and node.nx_class == "NXentry"
