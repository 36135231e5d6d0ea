"""Make the message about a dataset, in the XML of ESRF's ingester.

pyicat-plus makes it: its schema is the one that ICAT reads. Its licence is the LGPL, so
it is an optional package, loaded where a message is made and nowhere else.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Final
from xml.parsers import expat

from scanbus.schemas.errors import IcatMessageError
from scanbus.writer.icat.parameters import Parameters

__all__ = ["MAX_MESSAGE_BYTES", "make_message", "subject_of"]

MAX_MESSAGE_BYTES: Final = 16 * 2**20
"""Largest message that is read or sent."""
# What the package requires, and connects to when it sends; here it never does.
_NO_BROKER: Final = "localhost:1"
_PATHS: Final = "input_datasets"
_SUBJECT: Final = ("investigation", "name")
_REFUSED: Final = (ValueError, TypeError, AttributeError, LookupError, AssertionError)


def make_message(parameters: Parameters) -> tuple[bytes, tuple[str, ...]]:
    """Return the XML about a dataset, and what the package said of the values.

    Equal parameters give equal bytes.

    Raises
    ------
    ImportError
        If the extra ``scanbus[icat]`` is not installed.
    IcatMessageError
        If the package refuses.
    """
    from pyicat_plus.client.main import IcatClient  # noqa: PLC0415 - optional, slow

    values = dict(parameters.values)
    metadata: dict[str, object] = dict(values)
    if _PATHS in values:  # The package takes them one by one.
        metadata[_PATHS] = values[_PATHS].split(",")
    with (
        tempfile.TemporaryDirectory(prefix="scanbus-icat-") as folder,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        path = Path(folder) / "message.xml"
        catalogue = IcatClient(metadata_urls=[_NO_BROKER])
        try:
            catalogue.store_dataset(
                beamline=values["beamlineID"],
                proposal=values["proposal"],
                dataset=values["datasetName"],
                path=values["location"],
                metadata=metadata,
                store_filename=str(path),
            )
        except _REFUSED as error:
            raise IcatMessageError(values["location"], str(error)) from error
        octets = path.read_bytes()
    if len(octets) > MAX_MESSAGE_BYTES:
        raise IcatMessageError(
            values["location"], f"it has {len(octets)} bytes, over {MAX_MESSAGE_BYTES}"
        )
    said = {" ".join(str(each.message).split()): None for each in caught}
    return octets, tuple(said)


def subject_of(octets: bytes) -> tuple[str, str] | None:
    """Return proposal and dataset that a message is about; None if it is none.

    No document type is accepted, so that no entity is expanded.

    Examples
    --------
    >>> subject_of(b'<d xmlns="u"><investigation>hg1</investigation><name>a</name></d>')
    ('hg1', 'a')
    >>> subject_of(b"<!DOCTYPE d><d/>")
    """
    reader = _SubjectReader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(octets, True)
    except (expat.ExpatError, ValueError):
        return None
    found = tuple(reader.found.get(name, "") for name in _SUBJECT)
    return (found[0], found[1]) if all(found) else None


class _SubjectReader:
    """The text of the elements below the root that say what a message is about."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._path: list[str] = []

    def refuse(self, *_: object) -> None:
        raise ValueError("a document type is declared")

    def start(self, name: str, _attributes: object) -> None:
        self._path.append(name.rpartition(" ")[2])

    def end(self, _name: str) -> None:
        self._path.pop()

    def text(self, text: str) -> None:
        if len(self._path) == 2 and self._path[1] in _SUBJECT:
            name = self._path[1]
            self.found[name] = self.found.get(name, "") + text
