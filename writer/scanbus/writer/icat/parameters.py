"""Find what ICAT is told of a dataset: its keys, from what the files say.

What a publisher gave as metadata is translated (`mirror`). Keys of ICAT that it gave in
the group ``icat`` win over that, and what only scanbus knows wins over all: which
dataset it is, where it stands and when it was taken. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scanbus.schemas import VerdictWord
from scanbus.schemas.wording import counted
from scanbus.writer.icat.contents import DatasetContents, FinishedScan
from scanbus.writer.icat.mirror import (
    icat_from_nexus,
    nexus_from_icat,
    technique_names,
)

__all__ = ["KEYS_GROUP", "Parameters", "compression", "dataset_parameters"]

KEYS_GROUP: Final = "icat"
"""Group of a scan's metadata with keys of ICAT."""

# Of the scan, not of its dataset; the scan itself has them in the file.
_OF_A_SCAN: Final = ("title", "start_time", "end_time", "proposal", "folder_path")
_PERSONAL_KEYS: Final = ("DOI_users",)
_PERSONAL_CLASS: Final = "NXuser"
_PERSONAL_GROUP: Final = "user"
# Names of the HDF Group's list of filters. Values without a codec have none.
_FILTERS: Final = {
    "gzip-shuffle": "deflate",
    "bitshuffle-lz4": "bitshuffle",
    "bitshuffle-zstd": "bitshuffle",
}
_NO_FILTER: Final = "none"
_FRAMES_PATH: Final = "/entry_0000/measurement/data"
_NOTES: Final = tuple(f"Notes_note_{number:02d}" for number in range(10))
_NAMED_SCANS: Final = 20
# The characters that XML 1.0 has are named in its section 2.2.
_NOT_IN_XML: Final = re.compile(r"[^\t\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What ICAT is told of a dataset.

    Attributes
    ----------
    values : dict
        Text by key of ICAT.
    unknown : tuple of str
        Metadata without a key of ICAT: they stand in the files alone.
    problems : tuple of str
        A sentence for each value that is not sent, although there is a key for it.
    """

    values: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def dataset_parameters(
    dataset: DatasetContents,
    *,
    machine: str,
    software: str,
    with_users: bool = False,
) -> Parameters:
    """Return the keys of ICAT for a dataset.

    Parameters
    ----------
    machine, software : str
        Computer and program that wrote the files, unless the metadata say it.
    with_users : bool
        Whether personal data are sent: names of users, as authors of a DOI.

    Raises
    ------
    ImportError
        If the extra ``scanbus[icat]`` is not installed.
    IcatMessageError
        If the definitions refuse the metadata as a whole.
    """
    problems: list[str] = []
    tree = _of_dataset(dataset.metadata, problems)
    given = tree.pop(KEYS_GROUP, {})
    mirrored = icat_from_nexus(tree)
    unknown, problems = [*mirrored.unknown], [*problems, *mirrored.problems]
    values = {
        "Sample_name": dataset.sample,
        "machine": machine,
        "software": software,
        **compression(dataset.codecs),
        **mirrored.values,
    }
    if isinstance(given, Mapping):
        keys = nexus_from_icat({k: v for k, v in given.items() if "@" not in k})
        translated = icat_from_nexus(keys.values)
        values |= translated.values
        unknown += [f"{KEYS_GROUP}/{key}" for key in keys.unknown]
        problems += [*keys.problems, *translated.problems]
    elif given is not None:
        problems.append(f"{KEYS_GROUP}: it is no group of keys of ICAT; not sent")
    if not with_users:
        hidden = [key for key in _PERSONAL_KEYS if values.pop(key, None)]
        problems += [f"{key}: personal data are not sent" for key in hidden]
    _add_note(values, dataset.scans)
    values |= {
        "datasetName": dataset.place.folder.name,
        "proposal": dataset.proposal,
        "location": str(dataset.place.folder),
        "beamlineID": dataset.beamline,
        "startDate": dataset.start.isoformat(),
        "endDate": dataset.end.isoformat(),
    }
    if not values["Sample_name"].strip():
        values["Sample_name"] = dataset.sample
    return Parameters(
        {key: _plain(text) for key, text in values.items()},
        tuple(unknown),
        tuple(dict.fromkeys(problems)),
    )


def compression(codecs: Mapping[str, str]) -> dict[str, str]:
    """Return how frames are compressed, for ICAT; empty if none are.

    No codec of scanbus loses anything. Data that somebody reduced before publishing are
    lossy only if the metadata say so.

    Parameters
    ----------
    codecs : mapping
        By detector, the codec of its frames.

    Examples
    --------
    >>> compression({"eiger": "bitshuffle-lz4"})["Compression_codec"]
    'bitshuffle'
    """
    used = {name: codec for name, codec in codecs.items() if codec != _NO_FILTER}
    if not used:
        return {}
    filters = sorted({_FILTERS.get(codec, codec) for codec in used.values()})
    scope = [f"scan*/{name}_*.h5?path={_FRAMES_PATH}" for name in sorted(used)]
    return {
        "Compression_type": "lossless",
        "Compression_codec": ",".join(filters),
        "Compression_scope": ",".join(scope),
    }


def _plain(text: str) -> str:
    """Return text that XML can hold, in one line: the message has no others."""
    return _NOT_IN_XML.sub("?", " ".join(text.splitlines()))


def _of_dataset(metadata: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the tree of a dataset: without what is of a scan, and without persons."""
    names = technique_names()
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        if key.partition("@")[0] in _OF_A_SCAN:
            continue
        if isinstance(value, Mapping):
            kept = _without_users(key, value, problems)
            if kept is None:
                continue
            name = key.upper() if key.upper() in names else key
            found[name] = {**found.get(name, {}), **kept}
        else:
            found[key] = value
    return found


def _without_users(
    name: str, group: Mapping[str, Any], problems: list[str]
) -> dict[str, Any] | None:
    if group.get("@NX_class", "") == _PERSONAL_CLASS or name == _PERSONAL_GROUP:
        problems.append(f"{name}: personal data are not sent")
        return None
    found = {}
    for key, value in group.items():
        kept = value
        if isinstance(value, Mapping):
            kept = _without_users(key, value, problems)
            if kept is None:
                continue
        if key != "@NX_class":  # ICAT has classes of its own.
            found[key] = kept
    return found


def _add_note(values: dict[str, str], scans: Iterable[FinishedScan]) -> None:
    """Say in the first free note which scans are not complete."""
    bad = [scan for scan in scans if scan.verdict is not VerdictWord.COMPLETE]
    free = next((key for key in _NOTES if key not in values), None)
    if not bad or free is None:
        return
    named = [
        f"scan {scan.number} is {scan.verdict.value} ({scan.reason})"
        for scan in bad[:_NAMED_SCANS]
    ]
    more = len(bad) - _NAMED_SCANS
    named += [f"and {counted(more, 'more scan')}"] if more > 0 else []
    values[free] = "; ".join(named)
