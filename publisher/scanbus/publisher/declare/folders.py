"""Names of the folders of a scan, from those that a program has. Pure."""

from __future__ import annotations

from scanbus.publisher.declare.json_text import key_text
from scanbus.schemas.valid_names import MAX_GIVEN_NAME_LENGTH, folder_name, plain_text

__all__ = ["folders_of"]


def folders_of(**given: object) -> tuple[dict[str, str], dict[str, str]]:
    """Return names of folders, and as the program has them those that are none.

    Examples
    --------
    >>> folders_of(proposal="ch-5432", collection="Fe:MgO")
    ({'proposal': 'ch-5432', 'collection': 'Fe_MgO_e110fc0'}, {'collection': 'Fe:MgO'})
    """
    names = {key: key_text(name) for key, name in given.items()}
    folders = {key: folder_name(name) for key, name in names.items()}
    original = {
        key: plain_text(name, MAX_GIVEN_NAME_LENGTH)
        for key, name in names.items()
        if folders[key] != name
    }
    return folders, original
