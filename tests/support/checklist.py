"""Numbered checklist of requirements for a scan master, run on a written file.

``assert check_file(path) == []``. Each problem starts with the number of the
requirement that is violated. The numbers:

root 1-10, strings 11-14, entry 15-23, instrument and plots 25-39, arrays 41-50,
links and virtual datasets 51-57, HDF5 file level 61-69.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from silx.io.nxdata import parse as nxdata

NAME = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_.]*[a-zA-Z0-9_])?\Z")
WORDS = {
    "NX_class",
    "auxiliary_signals",
    "axes",
    "default",
    "interpretation",
    "signal",
    "target",
    "units",
}
END_REASONS = {"SUCCESS", "FAILURE", "USER_ABORT", "DELETION"}
STATUS = {"STARTING", "RUNNING", "SUCCEEDED", "FAILED"}
RANKS = {2: ("spectrum",), 3: ("image",)}
MORE = ("image", "rgb-image", "rgba-image")
BITSHUFFLE = 32008
H5DUMP = shutil.which("h5dump")

Problems = Iterator[str]


def check_file(path: Path, *, publisher: bool = True) -> list[str]:
    """Return all problems of a scan master; empty if there are none."""
    with h5py.File(path, "r", locking=False) as file:
        entries = {n: node for n, node in file.items() if "NX_class" in node.attrs}
        problems = [
            *_root(file, path, publisher=publisher),
            *_names(file),
            *_strings(file),
        ]
        for name, entry in entries.items():
            problems += _entry(name, entry)
            problems += _group_for_links(file, path, entry)
            problems += _instrument(entry)
            problems += _sample(entry)
            problems += _links(entry)
            problems += _plots(entry)
            problems += _counts(entry)
        problems += _virtual(file, path.parent)
    return problems + list(_file_level(path))


def check_stamp(path: Path) -> Problems:
    """Yield what a file of any kind does not say of its making."""
    with h5py.File(path, "r", locking=False) as file:
        yield from _stamp(file, path)


def _objects(file: h5py.File) -> list[tuple[str, Any]]:
    """Return all objects of the file itself, including the root."""
    found: list[tuple[str, Any]] = [("/", file)]
    file.visititems(lambda name, node: found.append((f"/{name}", node)))
    return found


def _links_of(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    for name in group:
        link = group.get(name, getlink=True)
        yield f"{group.name}/{name}", link
        if isinstance(link, h5py.HardLink) and isinstance(group[name], h5py.Group):
            yield from _links_of(group[name])


def _is_text(value: Any, what: str) -> Problems:
    if not isinstance(value, str) or not value:
        yield f"{what}: no text but {value!r}"


def _is_time(value: Any, what: str) -> Problems:
    text = value.decode() if isinstance(value, bytes) else value
    try:
        has_offset = datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        has_offset = False
    if not has_offset:
        yield f"{what}: {text!r} is no ISO 8601 time with offset"


def _root(file: h5py.File, path: Path, *, publisher: bool) -> Problems:
    attributes = file.attrs
    yield from _stamp(file, path)
    if publisher:
        yield from _is_text(attributes.get("publisher"), "6: publisher")
    if attributes.get("default") not in file:
        yield "7: default names no entry"


def _stamp(file: h5py.File, path: Path) -> Problems:
    attributes = file.attrs
    if attributes.get("NX_class") != "NXroot":
        yield "1: the root is no NXroot"
    yield from _is_time(attributes.get("file_time"), "2: file_time")
    yield from _is_time(attributes.get("file_update_time"), "3: file_update_time")
    if attributes.get("creator") != "scanbus":
        yield "4: creator"
    yield from _is_text(attributes.get("creator_version"), "4: creator_version")
    if attributes.get("HDF5_Version") != h5py.version.hdf5_version:
        yield "5: HDF5_Version"
    if attributes.get("h5py_version") != h5py.version.version:
        yield "5: h5py_version"
    if attributes.get("hdf5plugin_version") != hdf5plugin.version:
        yield "5: hdf5plugin_version"
    if not len(attributes.get("codec_versions", ())):
        yield "5: codec_versions"
    if attributes.get("file_name") != path.name:
        yield f"8: file_name {attributes.get('file_name')!r}"


def _names(file: h5py.File) -> Problems:
    for name, _ in _links_of(file):
        tail = name.rpartition("/")[2]
        if not NAME.match(tail) or len(tail) > 63:
            yield f"9: {name} is no NeXus name"
    for name, node in file.items():
        is_entry = "NX_class" in node.attrs
        if is_entry and not re.fullmatch(r"[1-9]\d*\.[1-9]\d*", name):
            yield f"10: {name} is no entry N.M"


def _group_for_links(file: h5py.File, path: Path, entry: h5py.Group) -> Problems:
    name = f"{path.stem}_{_text(entry, 'scanbus/uid')}"
    group = file.get(name)
    if group is None or list(group.values()) != [entry] or group.attrs:
        yield f"24: {name} is not the group by which other masters link the entry"


def _strings(file: h5py.File) -> Problems:
    for name, node in _objects(file):
        for key in node.attrs:
            kind = node.attrs.get_id(key).dtype
            encoding = "ascii" if key in WORDS else "utf-8"
            number = 11 if key in WORDS else 12
            yield from _string(kind, encoding, f"{number}: {name}@{key}")
        if isinstance(node, h5py.Dataset):
            yield from _string(node.dtype, "utf-8", f"12: {name}")


def _string(kind: np.dtype[Any], encoding: str, what: str) -> Problems:
    if kind.kind == "S":
        yield f"13: {what.partition(': ')[2]} is fixed-length text"
    info = h5py.check_string_dtype(kind)
    if kind.kind == "O" and (info is None or info.encoding != encoding):
        yield f"{what} is {info}, not {encoding}"


def _text(group: h5py.Group, name: str) -> str | None:
    node = group.get(name)
    return node.asstr()[()] if isinstance(node, h5py.Dataset) else None


def _entry(name: str, entry: h5py.Group) -> Problems:
    if entry.attrs.get("NX_class") != "NXentry":
        yield f"10: {name} is no NXentry"
    if _text(entry, "title") is None:
        yield "15: no title"
    yield from _is_time(_text(entry, "start_time"), "16: start_time")
    if "definition" in entry:
        yield "21: an application definition that nobody validated"
    yield from _end(entry)
    for note in entry["notes"].values():
        if note.attrs["NX_class"] != "NXnote" or _text(note, "type") != "text/plain":
            yield f"23: {note.name}"


def _end(entry: h5py.Group) -> Problems:
    is_final = "verdict" in entry["scanbus"] and not entry["scanbus/provisional"][()]
    if is_final:
        yield from _is_time(_text(entry, "end_time"), "17: end_time")
        if list(entry)[-1] != "end_time":
            yield "17: end_time is not last"
    elif "end_time" in entry:
        yield "20: end_time without a final verdict"
    if "end_reason" in entry and _text(entry, "end_reason") not in END_REASONS:
        yield f"18: end_reason {_text(entry, 'end_reason')!r}"
    status = _text(entry["writer"], "status")
    if entry["writer"].attrs["NX_class"] != "NXnote" or status not in STATUS:
        yield f"19: writer status {status!r}"
    if is_final != (status in {"SUCCEEDED", "FAILED"}):
        yield f"19: writer status {status} for a verdict that is final: {is_final}"
    yield from _is_time(_text(entry["writer"], "date"), "19: writer date")


def _instrument(entry: h5py.Group) -> Problems:
    instrument = entry["instrument"]
    is_final = "end_time" in entry
    if not _text(instrument, "name"):
        yield "25: the instrument has no name"
    elif "short_name" not in instrument["name"].attrs:
        yield "25: the instrument has no short name"
    for name, device in instrument.items():
        if not isinstance(device, h5py.Group):
            continue
        nx_class = device.attrs.get("NX_class")
        # A name is there once it has points.
        if nx_class == "NXdetector" and is_final and device.get("data") is None:
            yield f"26: {name} has no data"
        if "image" in device and device["data"] != device["image"]:
            yield f"27: {name}/data is not its image"
        if nx_class == "NXpositioner":
            yield from _positioner(instrument, name, device)
    for node in _datasets(instrument):
        yield from _description(node)


def _sample(entry: h5py.Group) -> Problems:
    if not _text(entry["sample"], "name"):
        yield "35: the sample has no name"
    if entry["sample"].attrs["NX_class"] != "NXsample":
        yield "35: the sample is no NXsample"


def _positioner(instrument: h5py.Group, name: str, device: h5py.Group) -> Problems:
    value = device.get("value")
    if not len(device):
        return
    if value is None:
        yield f"28: {name} has no value"
    elif value not in list(instrument["positioners"].values()):
        yield f"30: no positioner is the array of {name}"


def _datasets(instrument: h5py.Group) -> Iterator[h5py.Dataset]:
    for device in instrument.values():
        if isinstance(device, h5py.Group):
            yield from (n for n in device.values() if isinstance(n, h5py.Dataset))


def _description(node: h5py.Dataset) -> Problems:
    units = node.attrs.get("units", "")
    if not units.isascii():
        yield f"32: units of {node.name} are {units!r}"
    expected = RANKS.get(node.ndim, MORE if node.ndim > 3 else ())
    found = node.attrs.get("interpretation", "")
    is_data = node.name.rpartition("/")[2] in {"data", "image", "spectrum"}
    if is_data and expected and found and found not in expected:
        yield f"33: {node.name} is no {found}"


def _links(entry: h5py.Group) -> Problems:
    for name, link in _links_of(entry):
        if isinstance(link, h5py.SoftLink) and not link.path.startswith("/"):
            yield f"51: {name} is relative, which breaks behind external links"
        if isinstance(link, h5py.ExternalLink) and Path(link.filename).is_absolute():
            yield f"51: {name} leads to {link.filename}"
        if entry.file.get(name) is None:
            number = 31 if "/measurement/" in name else 57
            yield f"{number}: {name} dangles"
    for name in entry["measurement"]:
        link = entry["measurement"].get(name, getlink=True)
        if not isinstance(link, h5py.SoftLink):
            yield f"31: measurement/{name} is no soft link"
    for name, node in _objects(entry.file):
        if node.attrs.get("NX_class") == "NXuser":
            yield f"36: {name} holds personal data"


def _plots(entry: h5py.Group) -> Problems:
    groups = [node for node in entry.values() if node.attrs.get("NX_class") == "NXdata"]
    if groups and entry.attrs.get("default") not in entry:
        yield "22: no default plot"
    if groups and nxdata.get_default(entry.file) is None:
        yield "37: silx finds no default plot"
    for group in groups:
        plot = nxdata.NXdata(group)
        if not plot.is_valid:
            yield f"37: {group.name}: {plot.issues}"
        for name in group.attrs.get("auxiliary_signals", ()):
            if group[name].shape != group[group.attrs["signal"]].shape:
                yield f"38: {group.name}/{name} is no auxiliary signal"


def _counts(entry: h5py.Group) -> Problems:
    ledger = entry.get("scanbus/ledger")
    if ledger is None or entry["scanbus/provisional"][()]:
        return
    names = ledger["channel"].asstr()[()]
    for name, expected, written in zip(
        names, ledger["expected"][()], ledger["written"][()], strict=True
    ):
        node = entry["measurement"].get(name)
        if node is not None and len(node) != expected:
            yield f"41: {name} has {len(node)} points, expected {expected}"
        missing = ledger.get(f"missing/{name}")
        n_missing = int(np.diff(missing[()], axis=1).sum()) if missing else 0
        if n_missing + written != expected:
            yield f"43: {name}: {written} written, {n_missing} missing of {expected}"


def _virtual(file: h5py.File, folder: Path) -> Problems:
    for name, node in _objects(file):
        if not isinstance(node, h5py.Dataset) or not node.is_virtual:
            continue
        if node.attrs.get("target") != name:
            yield f"39: {name} has no target"
        if (
            node.id.get_create_plist().fill_value_defined()
            != h5py.h5d.FILL_VALUE_USER_DEFINED
        ):
            yield f"44: {name} declares no fill value"
        covered = 0
        for source in node.virtual_sources():
            low, high = source.vspace.get_select_bounds()
            n_points = high[0] - low[0] + 1
            covered += n_points
            yield from _source(node, source, n_points, folder)
        if covered != len(node):
            yield f"53: {name} maps {covered} points of {len(node)}"
    for listed in file.values():
        for name, sources in listed.get("scanbus/sources", {}).items():
            node = listed["measurement"][name]
            used = node.virtual_sources() if node.is_virtual else []
            if sorted(each.file_name for each in used) != list(
                sources["file"].asstr()[()]
            ):
                yield f"54: {name}: the list of sources is not that of the dataset"


def _source(node: h5py.Dataset, source: Any, n_points: int, folder: Path) -> Problems:
    what = f"{node.name} <- {source.file_name}"
    if Path(source.file_name).is_absolute() or not (folder / source.file_name).exists():
        yield f"51: {what}: absolute, or not there"
        return
    with h5py.File(folder / source.file_name, "r", locking=False) as file:
        found = file.get(source.dset_name)
        if found is None:
            yield f"57: {what}: no {source.dset_name}"
            return
        if found.shape != (n_points, *node.shape[1:]):
            yield f"53: {what}: {found.shape}, mapped {n_points}"
        if found.dtype != node.dtype:
            yield f"50: {what}: {found.dtype}, not {node.dtype}"
        if node.ndim == 3 and (found.chunks or ())[1:] != node.shape[1:]:
            yield f"45: {what}: chunks {found.chunks}"
        plist = found.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            number, _, options, _ = plist.get_filter(index)
            if number == BITSHUFFLE and len(options) > 3 and options[3] != 0:
                yield f"46: {what}: blocks of {options[3]}"


def _file_level(path: Path) -> Problems:
    with path.open("rb") as file:
        if file.read(9)[8] != 0:
            yield "61: the superblock is not version 0"
    for left in path.parent.glob(".*.tmp"):
        yield f"69: {left.name} was left behind"
    if H5DUMP:
        command = [H5DUMP, "-pH", str(path)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if done.returncode:
            yield f"62: h5dump: {done.stderr.decode()[:200]}"
