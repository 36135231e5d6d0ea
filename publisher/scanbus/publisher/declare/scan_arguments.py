"""The arguments of ``Publisher.scan``, checked and converted."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from scanbus.publisher.declare.arguments import checked, sendable
from scanbus.publisher.declare.folders import folders_of
from scanbus.publisher.declare.json_text import text_of
from scanbus.publisher.declare.metadata import MetadataConverter
from scanbus.publisher.declare.positioners import axes_metadata, positioners_of
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.schemas import (
    EndReason,
    PlotDescription,
    ScanEnded,
    ScanUpdated,
    merged,
)
from scanbus.schemas.documents import MAX_TITLE_LENGTH
from scanbus.schemas.layout_names import MAX_LAYOUTS, is_layout_name
from scanbus.schemas.valid_names import (
    MAX_GIVEN_NAME_LENGTH,
    plain_text,
    scan_uid,
)

__all__ = ["MAX_INSTRUMENT", "scan_options"]

MAX_INSTRUMENT = 255
"""The limit of the document, also of the program's name."""


def scan_options(
    program: str,
    statics: StaticArrays,
    *,
    title: str = "",
    proposal: str = "proposal",
    beamline: str = "id00",
    session: str | None = None,
    collection: str = "sample",
    dataset: str = "0001",
    scan_number: int | None = None,
    instrument: str = "",
    metadata: Mapping[str, Any] | None = None,
    positioners: Mapping[str, Any] | None = None,
    quota_bytes: int | None = None,
    compression: float = 1.0,
    require_writer: bool = False,
    plots: Sequence[PlotDescription] | None = None,
    layouts: Sequence[str] = (),
    uid: str | None = None,
    is_reopened: bool = False,
) -> ScanOptions:
    """Return the options of a scan; parameters are those of ``Publisher.scan``.

    Parameters
    ----------
    program : str
        Name of the program.
    statics : StaticArrays
        Keeps the large arrays of the metadata.
    is_reopened : bool
        Whether it goes on with a scan that a dead publisher left.

    Raises
    ------
    ValueError
        If an argument is invalid.
    """
    if quota_bytes is not None:
        quota_bytes = operator.index(quota_bytes)
        if quota_bytes <= 0:
            raise ValueError(f"quota_bytes must be positive, got {quota_bytes}")
    if not compression >= 1:  # NaN is no ratio either.
        raise ValueError(f"compression must be at least 1, got {compression}")
    given_uid = uuid.uuid4().hex if uid is None else text_of(uid)
    valid_uid = scan_uid(given_uid)
    original_uid = "" if valid_uid == given_uid else given_uid
    folders, original_folders = folders_of(
        proposal=proposal, beamline=beamline, collection=collection, dataset=dataset
    )
    identity = {
        **folders,
        "uid": valid_uid,
        "session": session,
        "scan_number": None if scan_number is None else _number(scan_number),
    }
    converter = MetadataConverter(statics)
    axes = axes_metadata(positioners, ("positioners", "positioners_start"))
    tree = merged(converter.tree(axes), converter.tree(metadata))
    sendable(ScanUpdated, time=0.0, metadata=tree)
    motors = positioners_of(positioners)
    reason = EndReason.SUCCESS
    sendable(ScanEnded, time=0.0, end_reason=reason, positioners=motors)
    return ScanOptions(
        title=plain_text(text_of(title), MAX_TITLE_LENGTH),
        identity=identity,
        original_uid=plain_text(original_uid, MAX_GIVEN_NAME_LENGTH),
        original_folders=original_folders,
        instrument=plain_text(text_of(instrument), MAX_INSTRUMENT),
        program=program,
        converter=converter,
        statics=statics,
        metadata=tree,
        positioners=motors,
        plots=None if plots is None else [_plot(plot) for plot in plots],
        layouts=_layouts(layouts),
        quota_bytes=quota_bytes,
        compression=compression,
        require_writer=require_writer,
        is_reopened=is_reopened,
    )


def _number(scan_number: Any) -> int:
    """Return a scan number of any type of integer, which a bool is not."""
    if isinstance(scan_number, bool):
        raise ValueError(f"scan_number must be an integer, got {scan_number}")
    return operator.index(scan_number)


def _layouts(given: Sequence[str] | str) -> tuple[str, ...]:
    """Return names of layouts; the writer knows which there are."""
    names = [given] if isinstance(given, str) else list(given)
    if len(names) > MAX_LAYOUTS:
        raise ValueError(f"at most {MAX_LAYOUTS} layouts, got {len(names)}")
    for name in names:
        if not is_layout_name(text_of(name)):
            raise ValueError(
                f"layouts: {name!r} is no name of a layout (lower-case letters, digits "
                "and underscores, as nxmx)"
            )
    return tuple(dict.fromkeys(names))


def _plot(given: PlotDescription | Mapping[str, Any]) -> PlotDescription:
    if isinstance(given, PlotDescription):
        return given
    return checked(PlotDescription, **given)
