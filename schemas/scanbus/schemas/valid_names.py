"""Patterns for names that become Redis keys, NeXus names and folders.

Names from the bus are untrusted until they match. A name that matches has no separator,
no leading or trailing dot and at most 63 characters (68 for lanes), so it can be part
of a path or a Redis key without further checks.

Programs have other names: EPICS PVs, hyphens, letters of their language. The functions
here make valid names of them, by one rule for publishers, writers and readers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import blake2s
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, StringConstraints

__all__ = [
    "MAX_NAME_LENGTH",
    "NEXUS_NAME",
    "FolderName",
    "GivenName",
    "LaneName",
    "NexusName",
    "PlainText",
    "ScanUid",
    "WantedName",
    "folder_name",
    "nexus_name",
    "nexus_names",
    "plain_text",
    "scan_uid",
    "unique_name",
]

MAX_NAME_LENGTH = 63
MAX_GIVEN_NAME_LENGTH = 1024

# NeXus definitions v2026.01, "Naming conventions".
NEXUS_NAME = r"^[a-zA-Z0-9_]([a-zA-Z0-9_.]*[a-zA-Z0-9_])?$"
# Also allows inner hyphens: ESRF proposals have names like ch-5432.
_FOLDER_NAME = r"^[a-zA-Z0-9_]([a-zA-Z0-9_.\-]*[a-zA-Z0-9_])?$"

_FOLDER = re.compile(_FOLDER_NAME[:-1] + r"\Z")
_ELSEWHERE = re.compile(r"^/|(^|/)\.\.?(/|$)")

NexusName = Annotated[
    str, StringConstraints(pattern=NEXUS_NAME, max_length=MAX_NAME_LENGTH)
]
# Longer by the prefix "late." of lanes for late points.
LaneName = Annotated[
    str, StringConstraints(pattern=NEXUS_NAME, max_length=MAX_NAME_LENGTH + 5)
]
FolderName = Annotated[
    str, StringConstraints(pattern=_FOLDER_NAME, max_length=MAX_NAME_LENGTH)
]
# HDF5 strings end at NUL: text that contains it cannot be stored.
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
ScanUid = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{8,40}$")]
# A name as the program has it, for people to recognise; never a path or a key.
GivenName = Annotated[
    str, StringConstraints(pattern=r"^[^\x00]*$", max_length=MAX_GIVEN_NAME_LENGTH)
]


def nexus_name(wanted: str) -> str:
    """Return a NeXus name, the wanted one if it can be.

    Examples
    --------
    >>> nexus_name("lysozyme-2_0001_1.1")
    'lysozyme_2_0001_1.1'
    >>> nexus_name("a" * 80)[-12:]
    'aaaa_b8bd094'
    """
    name = re.sub(r"[^a-zA-Z0-9_.]", "_", wanted).strip(".") or "_"
    if len(name) > MAX_NAME_LENGTH:
        # A digest, so that the same name is cut the same way in every file.
        name = f"{name[: MAX_NAME_LENGTH - 8]}_{_digest(wanted, 4)[:7]}"
    return name


def folder_name(wanted: str) -> str:
    """Return the name of a folder, the wanted one if it can be.

    Others end with a digest: two different names never share a folder, as data of
    one proposal must not come into that of another. A path that leads elsewhere stays,
    and is no valid name.

    Examples
    --------
    >>> folder_name("ch-5432")
    'ch-5432'
    >>> folder_name("LaB6 (NIST 660c)")
    'LaB6__NIST_660c__d3cf20e'
    """
    is_kept = len(wanted) <= MAX_NAME_LENGTH and _FOLDER.match(wanted)
    if not wanted or is_kept or _ELSEWHERE.search(wanted):
        return wanted
    name = re.sub(r"[^a-zA-Z0-9_.\-]", "_", wanted[:1000]).lstrip(".-")
    return f"{name[: MAX_NAME_LENGTH - 8]}_{_digest(wanted, 4)[:7]}"


def _wanted(name: object) -> object:
    return nexus_name(name) if isinstance(name, str) and name else name


# A name that nothing refers to: a program may give any text.
WantedName = Annotated[NexusName, BeforeValidator(_wanted)]


def unique_name(wanted: str, taken: Collection[str]) -> str:
    """Return a valid NeXus name that is not taken, `wanted` if possible.

    Examples
    --------
    >>> unique_name("lysozyme-2_0001_1.1", ())
    'lysozyme_2_0001_1.1'
    >>> unique_name("plot", {"plot"})
    'plot_2'
    """
    name = nexus_name(wanted)
    if name not in taken:
        return name
    stem = name[: MAX_NAME_LENGTH - 7]
    last, free = 1, 2
    while f"{stem}_{free}" in taken:
        last, free = free, 2 * free
    # Between these two: thousands of names may become the same one.
    while free - last > 1:
        middle = (last + free) // 2
        is_taken = f"{stem}_{middle}" in taken
        last, free = (middle, free) if is_taken else (last, middle)
    return f"{stem}_{free}"


def nexus_names(wanted: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Return a different NeXus name for each wanted one.

    Those that are valid keep theirs, wherever they stand among the others.

    Parameters
    ----------
    wanted : iterable of str
        Names as a program has them.
    taken : collection of str
        Names that none of them may have.

    Examples
    --------
    >>> nexus_names(["mca:det0", "mca_det0"])
    {'mca:det0': 'mca_det0_2', 'mca_det0': 'mca_det0'}
    """
    each = list(dict.fromkeys(wanted))
    is_kept = {name: name not in taken and nexus_name(name) == name for name in each}
    found = {name: name for name in each if is_kept[name]}
    used = {*taken, *found}
    for name in each:
        if name not in found:
            found[name] = unique_name(name, used)
            used.add(found[name])
    return {name: found[name] for name in each}


def scan_uid(wanted: str) -> str:
    """Return a valid uid of a scan, always the same for the same wanted one.

    Examples
    --------
    >>> scan_uid("0f8fad5b-d9cb-469f-a165-70867728950e")
    '0f8fad5bd9cb469fa16570867728950e'
    >>> scan_uid("ID00/scan 7")
    'ID00scan785e8cca3c0e639e8'
    """
    if re.fullmatch(r"[0-9A-Za-z]{8,40}", wanted):
        return wanted
    try:
        return UUID(wanted).hex
    except ValueError:
        kept = re.sub(r"[^0-9A-Za-z]", "", wanted)[:24]
        return f"{kept}{_digest(wanted, 8)}"


def plain_text(text: str, max_length: int) -> str:
    """Return text that a document and HDF5 can hold, as much of it as possible.

    NUL and unpaired surrogates are replaced; what is too long ends with an ellipsis.

    Examples
    --------
    >>> plain_text("ascan th 0 1", 7)
    'ascan …'
    """
    known = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return known if len(known) <= max_length else f"{known[: max_length - 1]}…"


def _digest(text: str, size: int) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return blake2s(data, digest_size=size).hexdigest()
