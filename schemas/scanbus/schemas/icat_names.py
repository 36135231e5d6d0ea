"""Names of the files that say what ICAT, the catalogue, was told of a dataset.

::

    {proposal}/{beamline}/{session}/RAW_DATA/__icat__/
        {collection}@{dataset}.xml      a message that no broker has taken yet
        {collection}@{dataset}.sent     a broker has taken the message of this dataset
        .lock                           held by whoever sends

No name of a collection or dataset has an ``@``, so no two datasets of a session share a
file. ESRF's own programs keep unsent messages in this folder too. Pure.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ICAT_FOLDER", "LOCK_NAME", "message_name", "sent_name", "split_dataset"]

ICAT_FOLDER: Final = "__icat__"
"""In the folder of a session's data."""
LOCK_NAME: Final = ".lock"
_SEPARATOR: Final = "@"


def message_name(collection: str, dataset: str) -> str:
    """Return the name of the file with a dataset's unsent message.

    Examples
    --------
    >>> message_name("lyso", "0001")
    'lyso@0001.xml'
    """
    return f"{collection}{_SEPARATOR}{dataset}.xml"


def sent_name(collection: str, dataset: str) -> str:
    """Return the name of the file that says that a dataset's message was sent."""
    return f"{collection}{_SEPARATOR}{dataset}.sent"


def split_dataset(collection: str, folder_name: str) -> str | None:
    """Return the dataset whose folder has this name; None if it is no dataset's.

    Examples
    --------
    >>> split_dataset("lyso", "lyso_0001")
    '0001'
    """
    prefix = f"{collection}_"
    is_named = folder_name.startswith(prefix) and len(folder_name) > len(prefix)
    return folder_name.removeprefix(prefix) if is_named else None
