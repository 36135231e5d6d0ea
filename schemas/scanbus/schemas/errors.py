"""Every error of scanbus, in one tree.

::

    ScanbusError
    ├── UnknownCodecError        a codec name that this version does not know
    ├── PayloadError             bytes that do not decode to what was declared
    ├── DocumentError            a document from the bus that does not fit its schema
    │   └── UnknownProtocolError a protocol version that this version does not support
    ├── BadEntryError            one entry of a lane is unusable: quarantined
    ├── BusError
    │   ├── BusUnavailableError  Redis does not answer, or takes no data now
    │   │   └── BusRefusedError  Redis answers a command with an error
    │   │       └── BusUnsuitableError  it always will: too old, or of the wrong kind
    │   ├── DeadlineError        a wait reached its deadline
    │   ├── LaneConflictError    two publishers on one lane
    │   │   └── ScanClosedError  the scan was closed while its publisher was gone
    │   ├── QuotaRefusedError    a scan's quota does not fit into the bus's memory
    │   ├── UnknownScanError     no such scan on this bus
    │   ├── AmbiguousScanError   a name that matches several scans
    │   ├── UnknownChannelError  no such channel in this scan
    │   ├── ScanNumberTakenError a given scan number that is another scan's
    │   ├── NoNumberLeftError    the scan numbers of a dataset are used up
    │   └── NoWriterError        ``require_writer`` and none is alive
    ├── PointError
    │   ├── NotYetError          the point may still come
    │   ├── NeverError           the lane is sealed before the point
    │   └── NoLongerError        the point was trimmed; a file may have it
    ├── DeclarationError         an invalid name or property (also a ValueError)
    ├── ScanStateError           a call that does not fit the scan's state
    │   └── PublisherAliveError  only the publisher goes on with its scan
    ├── ScanInterruptedError     the publisher is silent and has not sealed its lanes
    ├── StorageError             (exit code 3)
    │   ├── NameTakenError       a file of that name exists already
    │   ├── LayoutError          a layout that does not exist, or a wrong template
    │   ├── RootUnusableError    the output folder cannot be written
    │   │   ├── NoRootError      it was never made a root, or is not mounted
    │   │   └── RootConflictError another root or another bus is in charge
    │   ├── FilesMissingError    files that were written are not there any more
    │   ├── ExternalFileError    a file of a detector, by reference, cannot be used
    │   ├── StorageFullError     the disk below the root is full
    │   ├── SpoolError           a publisher's spool cannot be used
    │   ├── LeaseLostError       the writer no longer has the lease of the scan
    │   └── VerificationError    a file does not hold what came over the bus
    ├── DatasetOpenError         scans of a dataset are being written
    ├── IcatMessageError         what is known of a dataset makes no message
    ├── BrokerError              no broker of ICAT took a message
    ├── WorkerFailedError        the writer has no worker process
    ├── SourceError              an input file that cannot be published
    ├── SourceFailedError        what a gateway receives from has failed (exit code 3)
    ├── MessageError             a message of a detector that cannot be used
    ├── ServerAddressError       no address of a Redis server (also a ValueError)
    └── ConfigurationError       a setting that is wrong or unknown

Wrong arguments are :class:`ValueError` or :class:`TypeError`. Every error is a
dataclass: its values are its fields, and its message is a template of them. ``args``
holds the values, not the message, so that errors can be pickled.
"""

from __future__ import annotations

from dataclasses import field

from scanbus.schemas.error_base import ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.icat_errors import (
    BrokerError,
    DatasetOpenError,
    IcatMessageError,
)
from scanbus.schemas.storage_errors import (
    ExternalFileError,
    FilesMissingError,
    LayoutError,
    LeaseLostError,
    NameTakenError,
    NoRootError,
    RootConflictError,
    RootUnusableError,
    SpoolError,
    StorageError,
    StorageFullError,
    VerificationError,
)

__all__ = [
    "AmbiguousScanError",
    "BadEntryError",
    "BrokerError",
    "BusError",
    "BusRefusedError",
    "BusUnavailableError",
    "BusUnsuitableError",
    "ConfigurationError",
    "DatasetOpenError",
    "DeadlineError",
    "DeclarationError",
    "DocumentError",
    "ExternalFileError",
    "FilesMissingError",
    "IcatMessageError",
    "LaneConflictError",
    "LayoutError",
    "LeaseLostError",
    "MessageError",
    "NameTakenError",
    "NeverError",
    "NoLongerError",
    "NoNumberLeftError",
    "NoRootError",
    "NoWriterError",
    "NotYetError",
    "PayloadError",
    "PointError",
    "PublisherAliveError",
    "QuotaRefusedError",
    "RootConflictError",
    "RootUnusableError",
    "ScanClosedError",
    "ScanInterruptedError",
    "ScanNumberTakenError",
    "ScanStateError",
    "ScanbusError",
    "ServerAddressError",
    "SourceError",
    "SourceFailedError",
    "SpoolError",
    "StorageError",
    "StorageFullError",
    "UnknownChannelError",
    "UnknownCodecError",
    "UnknownProtocolError",
    "UnknownScanError",
    "VerificationError",
    "WorkerFailedError",
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
    """A document of a protocol version that this version does not support."""

    reason: str = field(init=False)
    found: object
    known: int
    template = (
        "{kind}: is in protocol version {found!r}, this scanbus supports {known}. "
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
    is_damaged: bool = False  # Damaged in transit; else it was sent in this form.
    template = "lane {lane}, entry {entry_id}: {reason}"


class BusError(ScanbusError):
    """Base class of errors about Redis or the data in it."""


class BusUnavailableError(BusError):
    """Redis does not answer, or cannot take data now."""

    url: str
    reason: str

    def __str__(self) -> str:
        return (
            f"Redis at {self.url} does not answer: {self.reason.rstrip('.')}. "
            "Is it running, and is --redis (or SCANBUS_REDIS) right?"
        )


class BusRefusedError(BusUnavailableError):
    """Redis answers a command with an error, which may be temporary."""

    def __str__(self) -> str:
        return f"Redis at {self.url} refuses a command: {self.reason}"


class BusUnsuitableError(BusRefusedError):
    """Redis is too old, a node of a cluster, or has or allows too few commands."""

    def __str__(self) -> str:
        return f"Redis at {self.url} cannot be used for the bus: {self.reason}"


class DeadlineError(BusError):
    """A wait reached its deadline; nothing that was sent before is lost."""

    what: str
    waited_s: float
    reason: str
    template = "{what}: gave up after {waited_s:.0f} s ({reason})"


class LaneConflictError(BusError):
    """Another publisher has appended entries to this lane."""

    lane: str
    entry_id: str
    template = (
        "lane {lane}: entry {entry_id} was refused, because the lane holds entries of "
        "another publisher. Do two processes publish the same scan?"
    )


class ScanClosedError(LaneConflictError):
    """A scan was closed while its publisher was gone, and has all of its points.

    Points that it lacks are published as a new scan, without an error.

    Attributes
    ----------
    scan : str
        The scan's uid.
    text : str
        Why it was closed, empty if unknown.
    spool : str
        Folder of the spool, empty if there is none.
    """

    lane: str = field(init=False, default="")
    entry_id: str = field(init=False, default="")
    scan: str
    text: str
    spool: str

    def __str__(self) -> str:
        why = f" ({self.text})" if self.text else ""
        hint = f"; the spool {self.spool} can be removed" if self.spool else ""
        return (
            f"scan {self.scan} was closed without its publisher{why}: nothing is added "
            f"to it. It has all points that were sent here{hint}."
        )


class QuotaRefusedError(BusError):
    """A scan asks for a larger quota than is free on the bus."""

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
        "scan {scan!r} is not on this bus; `scanbus ls` lists its scans. Finished "
        "scans are removed from the bus when memory is needed; their files stay"
    )


class AmbiguousScanError(BusError):
    """A name that matches several scans, for a command that cannot be undone."""

    scan: str
    uids: tuple[str, ...]

    def __str__(self) -> str:
        newest = ", ".join(self.uids[-5:])
        return (
            f"scan {self.scan!r} matches {len(self.uids)} scans: choose one by its uid "
            f"({newest}); `scanbus ls` lists them"
        )


class UnknownChannelError(BusError):
    """No channel of that name in a scan."""

    channel: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"no channel {self.channel!r} in this scan; it has {known}"


class ScanNumberTakenError(BusError):
    """A scan number that the program gave is taken; nothing was published."""

    number: int
    dataset: str
    holder: str
    template = (
        "scan number {number} of {dataset} is taken by {holder}; nothing was "
        "published. Choose another, or none: then the next free one is used"
    )


class NoNumberLeftError(BusError):
    """The scan numbers of a dataset are used up, as far as they are counted."""

    dataset: str
    last: int
    template = (
        "the scan numbers of {dataset} are used up: they are counted up to {last}, "
        "which is taken. Use another dataset, or give the scan a number yourself"
    )


class NoWriterError(BusError):
    """The scan requires a writer (``require_writer``), and none is alive."""

    template = (
        "no writer is alive on this bus and require_writer is set; start one "
        "with `scanbus writer --root DIR`"
    )


class PointError(ScanbusError):
    """Base class of errors about a point that cannot be read from the bus."""

    channel: str
    point: int


class NotYetError(PointError):
    """The point is not on the bus yet; it may still come."""

    template = "{channel}: point {point} is not there yet"


class NeverError(PointError):
    """The lane ended before the point; it will not come."""

    length: int
    template = (
        "{channel}: point {point} will never come, the channel ended "
        "with {length} points"
    )


class NoLongerError(PointError):
    """The point was trimmed from the bus after it was written to a file."""

    file: str

    def __str__(self) -> str:
        return (
            f"{self.channel}: point {self.point} is no longer on the bus; "
            f"read it from {self.file or 'its file'}"
        )


class DeclarationError(ScanbusError, ValueError):
    """An invalid name or property of a scan or channel."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}" if self.what else self.reason


class ScanStateError(ScanbusError):
    """A call that does not fit the state of the scan."""

    reason: str
    template = "{reason}"


class PublisherAliveError(ScanStateError):
    """The publisher of a scan lives, or did in the last seconds."""


class ScanInterruptedError(ScanbusError):
    """The publisher is silent, and the lanes are not sealed: points may be missing."""

    exit_code = ExitCode.PARTIAL

    scan: str
    points: dict[str, int]

    def __str__(self) -> str:
        so_far = ", ".join(f"{name} {count}" for name, count in self.points.items())
        return (
            f"scan {self.scan}: interrupted, its publisher is silent (points so far: "
            f"{so_far or 'none'}). It continues if the publisher comes back"
        )


class WorkerFailedError(ScanbusError):
    """The worker processes of the writer end before they can write."""

    reason: str
    template = (
        "the writer's worker processes cannot work: {reason}. What they said "
        "themselves stands above this line"
    )


class SourceError(ScanbusError):
    """An input file that cannot be published."""

    path: str
    reason: str
    template = "{path}: {reason}"


class SourceFailedError(ScanbusError):
    """What a gateway receives from has failed: nothing more comes of it."""

    exit_code = ExitCode.FAILED

    source: str
    reason: str
    template = "{source} has failed: {reason}; nothing more is received"


class MessageError(ScanbusError):
    """A message of a detector or another sender that cannot be used; others can."""

    source: str
    reason: str
    template = "{source}: {reason}"


class ServerAddressError(ScanbusError, ValueError):
    """Text that is not an address of a Redis server; it may contain a password."""

    template = (
        "this is not an address of a Redis server (--redis, SCANBUS_REDIS); expected "
        "redis://host:port/db, rediss://host:port/db (TLS) or unix:///path. In a "
        "password, write # ? / @ % and spaces as %23 %3F %2F %40 %25 and %20"
    )


class ConfigurationError(ScanbusError):
    """A setting that is wrong, unknown or missing."""

    name: str
    reason: str
    template = "setting {name}: {reason}"
