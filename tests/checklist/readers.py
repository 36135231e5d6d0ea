"""What readers show of our files: the page that is made of what they said.

A test that asks a reader is marked with `reads` and the cells of the table that it
decides: "ok", or the reader's own limit in words, which the test shows as well. A limit
that is gone fails its test, so that the page follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

__all__ = ["COLUMNS", "PAGE", "READERS", "Cells", "page", "reads"]

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "reference" / "readers.md"
Cells = Mapping[str, Mapping[str, str]]
"""Words by reader and column."""

COLUMNS = {
    "values": "counters, positions, texts",
    "spectra": "spectra",
    "frames": "frames",
    "dataset": "from the dataset master",
    "running": "while the scan runs",
}
DEBIAN = "of Debian 12"
READERS = {
    "h5py": "h5py",
    "h5py with HDF5 1.10": f"3.7.0 {DEBIAN}",
    "h5py without filters, of a copy by `scanbus convert`": f"3.7.0 {DEBIAN}",
    "h5dump": f"1.10.8 {DEBIAN}",
    "silx": "silx",
    "silx convert": "silx",
    "PyMca": "PyMca5",
    "fabio": "fabio",
    "pyFAI": "pyFAI",
    "nexusformat (NeXpy)": "nexusformat",
    "blissdata `static_hdf5`": "blissdata",
    "blissdata `dynamic_hdf5`": "blissdata",
    "nxtomomill": "nxtomomill",
    "esrf-data-compressor": "esrf-data-compressor",
    "dectris-compression": "dectris-compression",
    "h5grove (jupyterlab-h5web)": "h5grove",
    "H5Web": "@h5web/app",
    "h5wasm in node": "h5wasm",
    "Tiled": "tiled",
}
"""In the order of the page: a package among the pinned ones, or a version."""
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def reads(reader: str, **cells: str) -> pytest.MarkDecorator:
    """Mark a test as deciding cells of the page: columns with their words."""
    assert reader in READERS, reader
    assert set(cells) <= set(COLUMNS), cells
    return pytest.mark.reads(reader, **cells)


def page(text: str, cells: Cells) -> str:
    """Return the page of readers with the table made anew."""
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    table = "".join(f"{line}\n" for line in _table(cells))
    return f"{head}{_BEGIN}{table}{_END}{tail}"


def _table(cells: Cells) -> Iterator[str]:
    yield "| reader | " + " | ".join(COLUMNS.values()) + " |"
    yield "|---" * (1 + len(COLUMNS)) + "|"
    for reader, version in READERS.items():
        found = [cells[reader].get(column, "") for column in COLUMNS]
        name = f"{reader} {pinned().get(version, version)}"
        yield f"| {name} | " + " | ".join(found) + " |"


def pinned() -> dict[str, str]:
    """Return the versions of judges, by package."""
    found = dict(
        re.findall(
            r"^([\w-]+)(?:\[[\w,]+\])?==([\w.]+)",
            (FOLDER / "requirements.txt").read_text(),
            re.MULTILINE,
        )
    )
    of_node = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    return {**found, **of_node}
