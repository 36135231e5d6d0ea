"""Documents of a scan: one announcement, then events, in order.

They are sent as JSON text. Every document names the protocol version; an unknown
version is refused, an unknown field is ignored. A scan's state follows from its events.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from scanbus.schemas.channels import (
    MAX_POINTS,
    ChannelDescription,
    LaneDescription,
)
from scanbus.schemas.errors import DocumentError, UnknownProtocolError
from scanbus.schemas.file_names import dataset_path
from scanbus.schemas.layout_names import MAX_LAYOUTS, LayoutName
from scanbus.schemas.metadata import MetadataTree
from scanbus.schemas.valid_names import (
    FolderName,
    GivenName,
    NexusName,
    PlainText,
    ScanUid,
    WantedName,
)
from scanbus.schemas.verdict import Verdict
from scanbus.schemas.wording import problem_text

__all__ = [
    "MAX_ANNOUNCEMENT_BYTES",
    "MAX_COUNTED_NUMBER",
    "MAX_DOCUMENT_BYTES",
    "MAX_DOCUMENT_VALUES",
    "MAX_LOST",
    "MAX_SCAN_NUMBER",
    "MAX_TEXT_LENGTH",
    "MAX_TITLE_LENGTH",
    "PROTOCOL",
    "EndReason",
    "Event",
    "LostData",
    "PlotDescription",
    "Positioner",
    "ScanAnnounced",
    "ScanEnded",
    "ScanIdentity",
    "ScanJudged",
    "ScanPrepared",
    "ScanRenumbered",
    "ScanStarted",
    "ScanUpdated",
    "build_documents",
    "check_size",
    "parse_announcement",
    "parse_event",
]

PROTOCOL: Final = 1
# Large arrays of the metadata travel in lanes of their own.
MAX_DOCUMENT_BYTES = 64 * 2**20
# An announcement has a title and names only; every search for scans reads all of them.
MAX_ANNOUNCEMENT_BYTES = 2**20
MAX_LOST = 100
MAX_SCAN_NUMBER = 10**8 - 1
# Larger numbers only programs give: nothing is counted from them.
MAX_COUNTED_NUMBER = 9 * 10**7 - 1
MAX_TITLE_LENGTH = 4096
# Of a note, and of the text of an end.
MAX_TEXT_LENGTH = 65536
# A parsed value takes some 100 bytes of memory, however short its text is.
MAX_DOCUMENT_VALUES = 2**20
# Seconds from 1970 to the year 10000: Python's datetime ends there.
_END_OF_TIME = 253_402_300_800
_MAX_REASON = 500


class _Document(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", defer_build=True, ser_json_inf_nan="constants"
    )

    protocol: Literal[1] = PROTOCOL
    time: float = Field(
        description="Time of the document, seconds since 1970 (UTC).",
        ge=0,
        lt=_END_OF_TIME,
        allow_inf_nan=False,
    )

    def to_json(self) -> bytes:
        """Return the document as JSON, in UTF-8."""
        return self.model_dump_json(exclude_none=True).encode()


class ScanIdentity(BaseModel):
    """Identity of a scan: its uid, and the dataset that it belongs to.

    Attributes
    ----------
    uid : str
        Globally unique, 8 to 40 letters and digits.
    proposal, beamline, session, collection, dataset : str
        As in the ESRF data policy; `session` is a date YYYYMMDD, `collection` usually
        the sample.
    scan_number : int
        Unique in its dataset, from 1.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    uid: ScanUid
    proposal: FolderName
    beamline: FolderName
    session: FolderName
    collection: FolderName
    dataset: FolderName
    scan_number: int = Field(ge=1, lt=MAX_SCAN_NUMBER + 1)

    @property
    def dataset_folder(self) -> str:
        """Folder of the dataset, relative to the writer's root, as at ESRF.

        Scan numbers are unique in it, so the key of their counter contains it too.
        """
        return dataset_path(self)


class Positioner(BaseModel):
    """Position of one motor.

    Attributes
    ----------
    value : float or str
        User position in `units`; a string if it could not be read.
    units : str
        Units of `value` and `dial`.
    dial : float or None
        Dial position, where the motor has one.
    original_name : str
        The motor's name if it is not a NeXus name; else empty.
    stored_as : str
        What the motor answered, if `value` is text for something else; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    value: float | PlainText
    units: PlainText = Field(default="", max_length=63)
    dial: float | None = None
    original_name: GivenName = ""
    stored_as: GivenName = ""


class PlotDescription(BaseModel):
    """A default plot: an NXdata group; `signals` and `axes` are names of channels."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: WantedName
    signals: tuple[GivenName, ...] = Field(min_length=1)
    axes: tuple[GivenName, ...] = ()


class EndReason(StrEnum):
    """Why the acquisition ended: the ``end_reason`` of ESRF files."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    USER_ABORT = "USER_ABORT"
    DELETION = "DELETION"


class ScanAnnounced(_Document):
    """The entry in the stream of announcements that makes a scan known."""

    type: Literal["announced"] = "announced"
    scan: ScanIdentity
    title: PlainText = Field(default="", max_length=MAX_TITLE_LENGTH)


class ScanPrepared(_Document):
    """Everything that is fixed for the scan.

    Attributes
    ----------
    lanes : tuple of LaneDescription
        All lanes and channels; none can be added later.
    quota_bytes : int
        Bytes that may be on the bus without being durable.
    instrument, publisher : str
        Names of the instrument and of the program that publishes.
    metadata : dict
        A tree that is merged into the NXentry.
    positioners : dict
        Positions of the motors before the scan.
    plots : tuple of PlotDescription
        Default plots; the first is the default of the entry.
    spooled : bool
        Whether the publisher writes its data to a local disk, from which they are sent
        after its death.
    parent : str
        Uid of the scan that was closed in its publisher's place; this one has the
        points that only the publisher had, under their numbers. Empty for others.
    original_uid : str
        The scan's uid as its program has it, if that is no uid of this protocol.
    original_folders : dict
        Proposal, beamline, collection and dataset as the program has them, by these
        words; only those that are no names of folders.
    layouts : tuple of LayoutName
        Layouts of the scan's files, besides the scan master; if empty, the writer
        chooses. One that the writer does not know is a note of the verdict.
    """

    type: Literal["prepared"] = "prepared"
    scan: ScanIdentity
    title: PlainText = Field(default="", max_length=MAX_TITLE_LENGTH)
    lanes: tuple[LaneDescription, ...] = Field(max_length=4096)
    quota_bytes: int = Field(gt=0, lt=2**48)
    instrument: PlainText = Field(default="", max_length=255)
    publisher: PlainText = Field(default="", max_length=255)
    metadata: MetadataTree = Field(default_factory=dict)
    positioners: dict[NexusName, Positioner] = Field(default_factory=dict)
    plots: tuple[PlotDescription, ...] = ()
    spooled: bool = False
    parent: ScanUid | Literal[""] = ""
    original_uid: GivenName = ""
    original_folders: dict[str, GivenName] = Field(default_factory=dict, max_length=4)
    layouts: tuple[LayoutName, ...] = Field(default=(), max_length=MAX_LAYOUTS)

    @model_validator(mode="after")
    def _channels_are_unique(self) -> Self:
        lanes = [lane.name for lane in self.lanes]
        names = [channel.name for channel in self.channels]
        for kind, given in (("lane", lanes), ("channel", names)):
            name, times = Counter(given).most_common(1)[0] if given else ("", 0)
            if times > 1:
                raise ValueError(f"more than one {kind} {name!r}")
        for lane in self.lanes:
            if not lane.is_declared:
                kept = "late points" if lane.is_late else "static arrays"
                raise ValueError(f"lane {lane.name!r}: the name is kept for {kept}")
        known = set(names)
        for plot in self.plots:
            for name in (*plot.signals, *plot.axes):
                if name not in known:
                    raise ValueError(
                        f"plot {plot.name!r}: there is no channel {name!r}"
                    )
        return self

    @property
    def channels(self) -> tuple[ChannelDescription, ...]:
        """All channels, lane by lane."""
        return tuple(channel for lane in self.lanes for channel in lane.channels)

    def late_lanes(self, ended: ScanEnded | None) -> tuple[LaneDescription, ...]:
        """Return the lanes for late points that `ended` names; none without it."""
        late = ended.late if ended else {}
        return tuple(
            lane.late_lane(channel)
            for lane in self.lanes
            for channel in lane.channels
            if channel.name in late
        )


class ScanRenumbered(_Document):
    """The writer's word that the scan has another number: its own one was taken.

    It comes before the first file; the last one counts.
    """

    type: Literal["renumbered"] = "renumbered"
    scan_number: int = Field(ge=1, lt=MAX_SCAN_NUMBER + 1)
    text: PlainText = Field(default="", max_length=4096)


class ScanStarted(_Document):
    """The acquisition starts: the first point follows."""

    type: Literal["started"] = "started"


class ScanUpdated(_Document):
    """Metadata during the scan; merged into the metadata sent before."""

    type: Literal["updated"] = "updated"
    metadata: MetadataTree = Field(default_factory=dict)
    note: PlainText = Field(default="", max_length=MAX_TEXT_LENGTH)


class LostData(BaseModel):
    """Data of a scan that its publisher had and lost, e.g. by a damaged disk.

    Attributes
    ----------
    text : str
        What was lost where, in one sentence.
    lane : str
        Lane of the points; empty if it is not points, or not known which.
    first, stop : int
        The points ``[first, stop)``, for which the publisher sent gaps.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    text: PlainText = Field(max_length=4096)
    lane: NexusName | Literal[""] = ""
    first: int = Field(default=0, ge=0, lt=MAX_POINTS)
    stop: int = Field(default=0, ge=0, lt=MAX_POINTS)


class ScanEnded(_Document):
    """The acquisition is over; every lane is sealed.

    Attributes
    ----------
    end_reason : EndReason
        Why the acquisition ended.
    text : str
        Details in free text, e.g. of a failure.
    late : dict
        Channel name to its number of late points; each such channel has a lane for
        them.
    lost : tuple of LostData
        What the publisher lost; named in the verdict, unless files have the points.
    """

    type: Literal["ended"] = "ended"
    end_reason: EndReason
    text: PlainText = Field(default="", max_length=MAX_TEXT_LENGTH)
    metadata: MetadataTree = Field(default_factory=dict)
    positioners: dict[NexusName, Positioner] = Field(default_factory=dict)
    late: dict[NexusName, Annotated[int, Field(ge=1, lt=MAX_POINTS)]] = Field(
        default_factory=dict
    )
    lost: tuple[LostData, ...] = Field(default=(), max_length=MAX_LOST)


class ScanJudged(_Document):
    """The writer's verdict; the last one counts, but none counts after a final one."""

    type: Literal["judged"] = "judged"
    verdict: Verdict


Event = Annotated[
    ScanPrepared | ScanRenumbered | ScanStarted | ScanUpdated | ScanEnded | ScanJudged,
    Field(discriminator="type"),
]
_Model = TypeVar("_Model")
# Built with the first event, like the models themselves, so that importing is fast.
_EVENT: TypeAdapter[Event] = TypeAdapter(Event, config=ConfigDict(defer_build=True))


def build_documents() -> None:
    """Build the models of all documents, as otherwise their first use does.

    Pydantic makes a SchemaError of what a signal handler raises meanwhile, so a program
    has another thread than its main one build them: Ctrl-C would be lost.
    """
    models: list[type[BaseModel]] = [BaseModel]
    for model in models:  # It grows.
        models += model.__subclasses__()
        if model.__module__.startswith("scanbus.schemas"):
            model.model_rebuild()
    _EVENT.rebuild()


def check_size(text: bytes, kind: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> None:
    """Check the size of a document before it is sent or parsed.

    Raises
    ------
    DocumentError
        If it has too many bytes or values: readers refuse it.
    """
    if len(text) > max_bytes:
        raise DocumentError(kind, f"{len(text)} bytes; the limit is {max_bytes}")
    n_values = sum(text.count(mark) for mark in (b",", b"[", b"{"))
    if n_values > MAX_DOCUMENT_VALUES:
        reason = (
            f"more than {MAX_DOCUMENT_VALUES} values; send arrays as array values, "
            "not as lists"
        )
        raise DocumentError(kind, reason)


def parse_announcement(text: bytes) -> ScanAnnounced:
    """Return the announcement in `text`, validated.

    Raises
    ------
    UnknownProtocolError
        If it has another protocol version; this is checked first.
    DocumentError
        If it is not a valid announcement.
    """
    validate = ScanAnnounced.model_validate_json
    return _parse(text, "announcement", validate, MAX_ANNOUNCEMENT_BYTES)


def parse_event(text: bytes) -> Event:
    """Return the event in `text`, validated.

    Raises
    ------
    UnknownProtocolError
        If it has another protocol version; this is checked first.
    DocumentError
        If it is not a valid event.
    """
    return _parse(text, "event", _EVENT.validate_json, MAX_DOCUMENT_BYTES)


def uid_of_later(text: bytes) -> str:
    """Return the scan's uid in an announcement of a later protocol; empty if none.

    Every protocol keeps the places of ``protocol`` and ``scan.uid``.
    """
    try:
        found = from_json(text)
        is_later = type(found["protocol"]) is int and found["protocol"] > PROTOCOL
        uid = found["scan"]["uid"]
    except (ValueError, TypeError, LookupError):
        return ""
    is_uid = isinstance(uid, str) and re.fullmatch(r"[0-9A-Za-z]{8,40}", uid)
    return uid if is_later and is_uid else ""


def _parse(
    text: bytes, kind: str, validate: Callable[..., _Model], max_bytes: int
) -> _Model:
    check_size(text, kind, max_bytes)
    try:
        found = from_json(text)
    except ValueError as error:
        raise DocumentError(kind, f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DocumentError(kind, "not a JSON object")
    protocol = found.get("protocol")
    if type(protocol) is not int or protocol != PROTOCOL:
        shown = protocol if protocol in range(1000) else reprlib.repr(protocol)
        raise UnknownProtocolError(kind, shown, PROTOCOL)
    if "type" not in found:
        raise DocumentError(kind, "field 'type' is missing")
    try:
        # Strict: neither "5" nor true is accepted as a number.
        return validate(text, strict=True)
    except ValidationError as error:
        raise DocumentError(kind, _first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    """Return the first problem as one sentence, safe to print.

    It may quote hostile text: it is shortened, and control characters are replaced.
    """
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem_text(problem)
    full = f"{where}: {message}" if where else message
    shown = full if len(full) <= _MAX_REASON else full[:_MAX_REASON] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in shown)
