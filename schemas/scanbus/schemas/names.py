"""What a name may look like, so that it can become a key, a NeXus name or a folder.

Names come over the bus and are hostile until they match. A name that matches has no
separator, no leading or trailing dot and at most 63 characters, so it can be joined
to a path or a Redis key without further care.
"""

from __future__ import annotations

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
]

MAX_NAME_LENGTH = 63

# NeXus definitions v2026.01, "Naming conventions".
NEXUS_NAME = r"^[a-zA-Z0-9_]([a-zA-Z0-9_.]*[a-zA-Z0-9_])?$"
# The same with hyphens inside: proposals are called ch-5432 at ESRF.
_FOLDER_NAME = r"^[a-zA-Z0-9_]([a-zA-Z0-9_.\-]*[a-zA-Z0-9_])?$"

NexusName = Annotated[
    str, StringConstraints(pattern=NEXUS_NAME, max_length=MAX_NAME_LENGTH)
]
# A lane for late points has a prefix before the name of its channel.
LaneName = Annotated[
    str, StringConstraints(pattern=NEXUS_NAME, max_length=MAX_NAME_LENGTH + 5)
]
FolderName = Annotated[
    str, StringConstraints(pattern=_FOLDER_NAME, max_length=MAX_NAME_LENGTH)
]
# HDF5 ends a text at NUL: one that holds it cannot be stored.
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
ScanUid = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{8,40}$")]
