"""Patterns for names that become Redis keys, NeXus names and folders.

Names from the bus are untrusted until they match. A name that matches has no separator,
no leading or trailing dot and at most 63 characters (68 for lanes), so it can be part
of a path or a Redis key without further checks.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2s
from typing import Annotated

from pydantic import StringConstraints

__all__ = [
    "MAX_NAME_LENGTH",
    "NEXUS_NAME",
    "FolderName",
    "LaneName",
    "NexusName",
    "PlainText",
    "ScanUid",
    "nexus_name",
]

MAX_NAME_LENGTH = 63

# NeXus definitions v2026.01, "Naming conventions".
NEXUS_NAME = r"^[a-zA-Z0-9_]([a-zA-Z0-9_.]*[a-zA-Z0-9_])?$"
# Also allows inner hyphens: ESRF proposals have names like ch-5432.
_FOLDER_NAME = r"^[a-zA-Z0-9_]([a-zA-Z0-9_.\-]*[a-zA-Z0-9_])?$"

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
        digest = blake2s(os.fsencode(wanted), digest_size=4).hexdigest()[:7]
        name = f"{name[: MAX_NAME_LENGTH - 8]}_{digest}"
    return name
