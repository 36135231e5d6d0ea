"""Every error of scanbus, in one tree.

::

    ScanbusError
    ├── UnknownCodecError        a codec name that this version does not know
    ├── PayloadError             bytes that do not decode to what was declared
    ├── DocumentError            a document from the bus that says nonsense
    │   └── UnknownProtocolError a protocol version that this version does not speak
    ├── BadEntryError            one entry of a lane is unusable: quarantined
    ├── BusError
    │   ├── BusUnavailableError  Redis does not answer
    │   ├── BusUnsuitableError   Redis answers, but is too old or of the wrong kind
    │   ├── DeadlineError        a bounded wait is over
    │   ├── LaneConflictError    two publishers on one lane
    │   │   └── ScanClosedError  an operator closed the scan before its publisher came
    │   ├── QuotaRefusedError    a scan's quota does not fit
    │   ├── UnknownScanError     no such scan on this bus
    │   ├── AmbiguousScanError   a name that several scans have
    │   ├── UnknownChannelError  no such channel in this scan
    │   └── NoWriterError        ``require_writer`` and none is alive
    ├── PointError
    │   ├── NotYetError          the point may still come
    │   ├── NeverError           the lane is sealed before the point
    │   └── NoLongerError        the point was trimmed; a file may have it
    ├── DeclarationError         a name or property that cannot be (a ValueError too)
    ├── ScanStateError           a call that does not fit the scan's state
    ├── ScanInterruptedError     the publisher is silent and has not sealed its lanes
    ├── StorageError             (exit code 3)
    │   ├── NameTakenError       another scan's file has that name
    │   ├── RootUnusableError    the output folder cannot be written
    │   ├── StorageFullError     the disk below the root is full
    │   ├── SpoolError           a publisher's spool cannot be used
    │   ├── LeaseLostError       another writer has this scan now
    │   └── VerificationError    a file does not hold what came over the bus
    ├── SourceError              an input file that cannot be published
    └── ConfigurationError       a setting that is wrong or unknown

Wrong arguments are :class:`ValueError` or :class:`TypeError`. Every error is a
dataclass: its values are its fields, and its sentence is a template of them. The values
go to ``Exception`` unformatted, so that errors can be copied between processes.
"""

from __future__ import annotations

from dataclasses import field

from scanbus.schemas.error_base import ScanbusError
from scanbus.schemas.exit_codes import ExitCode

__all__ = [
    "AmbiguousScanError",
    "BadEntryError",
    "BusError",
    "BusUnavailableError",
    "BusUnsuitableError",
    "ConfigurationError",
    "DeadlineError",
    "DeclarationError",
    "DocumentError",
    "LaneConflictError",
    "LeaseLostError",
    "NameTakenError",
    "NeverError",
    "NoLongerError",
    "NoWriterError",
    "NotYetError",
    "PayloadError",
    "PointError",
    "QuotaRefusedError",
    "RootUnusableError",
    "ScanClosedError",
    "ScanInterruptedError",
    "ScanStateError",
    "ScanbusError",
    "SourceError",
    "SpoolError",
    "StorageError",
    "StorageFullError",
    "UnknownChannelError",
    "UnknownCodecError",
    "UnknownProtocolError",
    "UnknownScanError",
    "VerificationError",
]


class UnknownCodecError(ScanbusError):
    """A codec name that this version does not know or cannot load."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known)
        return (
            f"codec {self.name!r} is not available here; known codecs: {known}. "
            "blosc2 needs: pip install scanbus[blosc2]"
        )


class PayloadError(ScanbusError):
    """Bytes that do not decode to what their description declares."""

    reason: str
    template = "{reason}"


class DocumentError(ScanbusError):
    """A document from the bus that does not follow its schema."""

    kind: str
    reason: str
    template = "{kind}: {reason}"


class UnknownProtocolError(DocumentError):
    """A document of a protocol version that this version does not speak."""

    reason: str = field(init=False)
    found: object
    known: int
    template = (
        "{kind}: speaks protocol {found!r}, this scanbus speaks {known}. "
        "Update the older of the two sides."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reason = f"protocol {self.found!r} instead of {self.known}"


class BadEntryError(ScanbusError):
    """One entry of a lane cannot be used; the rest of the lane can."""

    lane: str
    entry_id: str
    reason: str
    is_damaged: bool = False  # It changed on its way; else it was wrong at the start.
    template = "lane {lane}, entry {entry_id}: {reason}"


class BusError(ScanbusError):
    """Something about Redis or what stands in it."""


class BusUnavailableError(BusError):
    """Redis does not answer, or not with what was asked."""

    url: str
    reason: str

    def __str__(self) -> str:
        return (
            f"Redis at {self.url} does not answer: {self.reason.rstrip('.')}. "
            "Is it running, and is --redis (or SCANBUS_REDIS) right?"
        )


class BusUnsuitableError(BusError):
    """Redis answers, but cannot carry this bus."""

    url: str
    reason: str
    template = "Redis at {url} cannot carry the bus: {reason}"


class DeadlineError(BusError):
    """A wait reached its deadline; nothing that was sent before is lost."""

    what: str
    waited_s: float
    reason: str
    template = "{what}: gave up after {waited_s:.0f} s ({reason})"


class LaneConflictError(BusError):
    """Another publisher wrote to this lane; its entries are not ours."""

    lane: str
    entry_id: str
    template = (
        "lane {lane}: entry {entry_id} was refused, and what stands there comes from "
        "another publisher. Do two processes publish one scan?"
    )


class ScanClosedError(LaneConflictError):
    """A scan was closed while its publisher was gone; what it has is not added."""

    lane: str = field(init=False)
    entry_id: str = field(init=False, default="")
    scan: str
    text: str
    left: dict[str, str]
    spool: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lane = ", ".join(self.left)

    def __str__(self) -> str:
        said = f"scan {self.scan} was closed without its publisher"
        said += f" ({self.text}): nothing is added to it" if self.text else ""
        if not self.left:
            stays = f"; the spool {self.spool} can be removed" if self.spool else ""
            return f"{said}. It has all that was sent here{stays}."
        points = ", ".join(f"{lane} {which}" for lane, which in self.left.items())
        if not self.spool:
            remedy = "publish them as a new scan."
            return f"{said}. Only this process has points {points}: {remedy}"
        root, _, _ = self.spool.rpartition("/")
        command = f"scanbus publish resume --spool {root} --as-new {self.scan}"
        return (
            f"{said}. Only the spool {self.spool} has points {points}; it stays. To "
            f"publish what it holds as a new scan: {command}"
        )


class QuotaRefusedError(BusError):
    """A scan asks for more room on the bus than there is."""

    scan: str
    quota_bytes: int
    reason: str

    def __str__(self) -> str:
        quota = f"{self.quota_bytes / 2**20:.1f} MiB"
        return f"scan {self.scan}: a quota of {quota} is refused: {self.reason}"


class UnknownScanError(BusError):
    """No scan of that name on this bus."""

    scan: str
    template = (
        "scan {scan!r} is not on this bus; `scanbus ls` lists its scans. One "
        "that was finished long ago leaves it when room is needed: its files stay"
    )


class AmbiguousScanError(BusError):
    """A name that fits several scans, for something that cannot be taken back."""

    scan: str
    uids: tuple[str, ...]

    def __str__(self) -> str:
        newest = ", ".join(self.uids[-5:])
        return (
            f"scan {self.scan!r} may be any of {len(self.uids)}: name one by its uid "
            f"({newest}); `scanbus ls` shows them"
        )


class UnknownChannelError(BusError):
    """No channel of that name in a scan."""

    channel: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"no channel {self.channel!r} in this scan; it has {known}"


class NoWriterError(BusError):
    """A scan was to start only with a writer, and none is alive."""

    template = (
        "no writer is alive on this bus and require_writer is set; start one "
        "with `scanbus writer --root DIR`"
    )


class PointError(ScanbusError):
    """A point of a channel that is not there."""

    channel: str
    point: int


class NotYetError(PointError):
    """The point is not there yet; it may come."""

    template = "{channel}: point {point} is not there yet"


class NeverError(PointError):
    """The lane ended before the point; it will not come."""

    length: int
    template = (
        "{channel}: point {point} will never come, the channel ended "
        "with {length} points"
    )


class NoLongerError(PointError):
    """The point was trimmed from the bus after it was safe in a file."""

    file: str

    def __str__(self) -> str:
        return (
            f"{self.channel}: point {self.point} is no longer on the bus; "
            f"read it from {self.file or 'its file'}"
        )


class DeclarationError(ScanbusError, ValueError):
    """A name or a property of a scan or channel that cannot be."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}" if self.what else self.reason


class ScanStateError(ScanbusError):
    """A call that does not fit the state of the scan."""

    reason: str
    template = "{reason}"


class ScanInterruptedError(ScanbusError):
    """A scan's publisher is silent, and its lanes are not sealed: no more may come."""

    exit_code = ExitCode.PARTIAL

    scan: str
    points: dict[str, int]

    def __str__(self) -> str:
        so_far = ", ".join(f"{name} {count}" for name, count in self.points.items())
        return (
            f"scan {self.scan}: interrupted, its publisher is silent (points so far: "
            f"{so_far or 'none'}). It goes on if the publisher comes back"
        )


class StorageError(ScanbusError):
    """Something about the files that are written."""

    exit_code = ExitCode.FAILED


class NameTakenError(StorageError):
    """A file of that name exists and belongs to something else."""

    path: str
    holder: str
    template = (
        "name taken: {path} exists and holds {holder}; nothing was "
        "overwritten. Move it away, or choose another root or scan number."
    )


class RootUnusableError(StorageError):
    """The output folder cannot be written."""

    exit_code = ExitCode.USAGE

    path: str
    reason: str
    template = "cannot write below {path}: {reason}"


class StorageFullError(StorageError):
    """The disk has no room for what is to be written; the data stay on the bus."""

    path: str
    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        needed_gb, free_gb = self.needed_bytes / 1e9, self.free_bytes / 1e9
        return (
            f"no space on {self.path}, need {needed_gb:.3g} GB, {free_gb:.3g} GB free"
        )


class SpoolError(StorageError):
    """A publisher's spool cannot be written, or does not hold what was written."""

    path: str
    reason: str
    template = "the spool {path}: {reason}"


class LeaseLostError(StorageError):
    """Another writer has taken this scan over, or Redis forgot who has it."""

    scan: str
    fence: int
    template = "scan {scan}: the lease with fence {fence} is lost"


class VerificationError(StorageError):
    """A file does not hold what came over the bus; it was not acknowledged."""

    path: str
    reason: str
    template = "{path}: {reason}"


class SourceError(ScanbusError):
    """An input file that cannot be published."""

    path: str
    reason: str
    template = "{path}: {reason}"


class ConfigurationError(ScanbusError):
    """A setting that is wrong, unknown or missing."""

    name: str
    reason: str
    template = "setting {name}: {reason}"
