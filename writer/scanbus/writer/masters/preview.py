"""Show the files of a scan's layouts without writing any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import connect, describe_server, find_scan, translated
from scanbus.schemas import LaneDescription, Storage
from scanbus.schemas.errors import ConfigurationError, LayoutError
from scanbus.schemas.file_names import (
    scan_master_name,
    segment_file_name,
    values_file_name,
)
from scanbus.writer.layouts.common.outline import outline
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.layouts.expected import with_expected_values
from scanbus.writer.layouts.profile import Profile
from scanbus.writer.layouts.profiles import PROFILES, find_profile, lay_out
from scanbus.writer.masters.correction import scan_folder_of
from scanbus.writer.masters.rebuild import read_contents
from scanbus.writer.model.layout_choice import ESRF, LayoutChoice
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile, data_path
from scanbus.writer.storage.amendments import read_amendments, with_amendments
from scanbus.writer.storage.layout_templates import (
    choice_of,
    read_file,
    read_templates,
)
from scanbus.writer.storage.layout_values import with_layout_values
from scanbus.writer.storage.plotted_values import with_plotted_values
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.references import with_references
from scanbus.writer.storage.regular_file import is_there
from scanbus.writer.storage.value_arrays import with_values

__all__ = [
    "LayoutSummary",
    "ScanPreview",
    "TemplateCheck",
    "check_template",
    "known_layouts",
    "preview_files",
    "preview_scan",
]

_ESRF_SUMMARY = "The scan master in ESRF's layout, which every scan has."


@dataclass(frozen=True, slots=True)
class LayoutSummary:
    """A layout that scans can have.

    Attributes
    ----------
    name, summary : str
        Its name, and what it is for.
    required : tuple of str
        Paths that its definition requires.
    """

    name: str
    summary: str
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateCheck:
    """A file with a template, after it was checked.

    Attributes
    ----------
    name, summary, file : str
        Name of the layout, what it is for, and the pattern of its file's name.
    nodes : mapping
        What each path has, as in the file.
    messages : tuple of str
        Parts of a ``nexus_structure`` that have no counterpart.
    """

    name: str
    summary: str
    file: str
    nodes: Mapping[str, Mapping[str, Any]]
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanPreview:
    """The files that a scan would have.

    Attributes
    ----------
    scan : str
        Its uid.
    layouts : tuple of str
        The layouts that were looked at.
    files : mapping
        By name, the tree of each file as JSON.
    notes : tuple of str
        What is missing, and why a file is not there.
    """

    scan: str
    layouts: tuple[str, ...]
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def known_layouts(templates: Sequence[Path] = ()) -> tuple[LayoutSummary, ...]:
    """Return all layouts, with those of template files.

    Raises
    ------
    LayoutError
        If a template is wrong.
    """
    texts = read_templates(templates)
    choice = LayoutChoice((), texts)
    own = [find_profile(name, choice) for name in texts]
    found = map(_summary, (*PROFILES.values(), *own))
    return (LayoutSummary(ESRF, _ESRF_SUMMARY), *found)


def _summary(profile: Profile) -> LayoutSummary:
    return LayoutSummary(profile.name, profile.summary, profile.required)


def check_template(path: Path) -> TemplateCheck:
    """Check the file of a template.

    Raises
    ------
    LayoutError
        If anything in it is wrong.
    """
    read = read_file(path)
    template = read.template
    nodes = {
        name: node.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for name, node in template.nodes.items()
    }
    return TemplateCheck(
        template.name, template.summary, template.file, nodes, read.messages
    )


def preview_files(
    path: Path, *, layouts: Sequence[str] = (), templates: Sequence[Path] = ()
) -> ScanPreview:
    """Return the files that a finished scan on the disk would have.

    Parameters
    ----------
    path : pathlib.Path
        Its folder, or a file in it.
    layouts : sequence of str
        Layouts to look at; by default those that the scan has.
    templates : sequence of pathlib.Path
        Files with layouts of the site.

    Raises
    ------
    ConfigurationError
        If the path is not of a finished scan.
    LayoutError
        If a layout does not exist, or a template is wrong.
    NameTakenError, VerificationError, DocumentError
        If the scan's files are damaged.
    """
    folder = scan_folder_of(path)
    number = int(folder.name.removeprefix("scan"))
    if not is_there(folder / values_file_name(number)):
        reason = f"{path}: no scan file; name a scan that still runs by its uid"
        raise ConfigurationError("scan", reason)
    contents = _chosen(read_contents(folder), layouts, templates)
    contents = with_amendments(contents, read_amendments(folder))
    contents = with_references(folder, contents)
    contents = with_plotted_values(folder, with_values(folder, contents))
    return _preview(with_layout_values(folder, contents))


def preview_scan(
    url: str,
    scan: str,
    *,
    layouts: Sequence[str] = (),
    templates: Sequence[Path] = (),
) -> ScanPreview:
    """Return the files that a scan on the bus would have, if its points come.

    Parameters
    ----------
    scan : str
        Uid of the scan, the beginning of it, its number, or ``last``.

    Raises
    ------
    UnknownScanError, BusUnavailableError
        If the scan does not exist, or the bus cannot be reached.
    LayoutError
        If a layout does not exist, or a template is wrong, or the scan is not prepared.
    """
    client = connect(url, name="scanbus-layout")
    with translated(url), client:
        describe_server(client, url)
        record = find_scan(client, scan)
    if record.prepared is None:
        raise LayoutError(scan, "the scan is not prepared yet; ask again")
    found = _chosen(ScanContents(record), layouts, templates, record=record)
    counts = _expected(record)
    segments = {
        lane.name: (SegmentFile(segment_file_name(lane.name, 0), 0, n_points),)
        for lane, n_points in _lanes_of_frames(record, counts)
    }
    name = values_file_name(record.identity.scan_number)
    found = replace(found, segments=segments, values_file=name)
    found = with_expected_values(found, counts)
    named = tuple(replace(one, name=name) for one in found.values)
    return _preview(replace(found, values=named))


def _lanes_of_frames(
    record: ScanRecord, counts: Mapping[str, int]
) -> list[tuple[LaneDescription, int]]:
    prepared = record.prepared
    lanes = prepared.lanes if prepared else ()
    return [
        (lane, counts[lane.channels[0].name])
        for lane in lanes
        if lane.storage is Storage.FILES and counts[lane.channels[0].name]
    ]


def _expected(record: ScanRecord) -> dict[str, int]:
    """Return how many points each channel will have, as far as that is known."""
    prepared = record.prepared
    channels = prepared.channels if prepared else ()
    judged = record.verdict.channels if record.verdict else {}
    return {
        one.name: judged[one.name].expected if one.name in judged else one.points or 1
        for one in channels
    }


def _chosen(
    contents: ScanContents,
    layouts: Sequence[str],
    templates: Sequence[Path],
    *,
    record: ScanRecord | None = None,
) -> ScanContents:
    texts = {**contents.choice.templates, **read_templates(templates)}
    choice = replace(choice_of(layouts, texts), with_users=contents.choice.with_users)
    if not layouts:
        prepared = record.prepared if record else None
        names = prepared.layouts if prepared else contents.choice.names
        choice = replace(choice, names=tuple(names))
    return replace(contents, choice=choice)


def _preview(contents: ScanContents) -> ScanPreview:
    stamp = stamp_now()
    names = contents.choice.names
    others = tuple(name for name in names if name != ESRF)
    contents = replace(contents, choice=replace(contents.choice, names=others))
    files: dict[str, Group] = {}
    if ESRF in names or not names:
        master = scan_master_name(contents.record.identity.scan_number)
        files[master] = layout(contents, stamp=stamp)
    laid_out = lay_out(contents, stamp)
    copied = _copied(contents)
    trees = {
        name: outline(tree, copied)
        for name, tree in {**files, **laid_out.files}.items()
    }
    return ScanPreview(contents.record.uid, names or (ESRF,), trees, laid_out.notes)


def _copied(contents: ScanContents) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each array of the scan file, by its path."""
    prepared = contents.record.prepared
    types = {
        data_path(lane, channel): channel.dtype
        for lane in (prepared.lanes if prepared else ())
        for channel in lane.channels
    }
    return {
        path: (types[path], array.shape)
        for file in contents.values
        for path, array in file.arrays.items()
        if path in types
    }
