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

Wrong arguments are :class:`ValueError` or :class:`TypeError`. Errors keep their
values as attributes and hand them to ``Exception`` unformatted, so that they can
be copied between processes.
"""

from __future__ import annotations

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


class ScanbusError(Exception):
    """Whatever scanbus itself has to complain about."""

    exit_code = ExitCode.USAGE


class UnknownCodecError(ScanbusError):
    """A codec name that this version does not know or cannot load."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        """Say which codecs there are."""
        return (
            f"codec {self.name!r} is not available here; "
            f"known codecs: {', '.join(self.known)}. "
            "blosc2 needs: pip install scanbus[blosc2]"
        )


class PayloadError(ScanbusError):
    """Bytes that do not decode to what their description declares."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Say what is wrong with the bytes."""
        return self.reason


class DocumentError(ScanbusError):
    """A document from the bus that does not follow its schema."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        """Say which document and what is wrong."""
        return f"{self.kind}: {self.reason}"


class UnknownProtocolError(DocumentError):
    """A document of a protocol version that this version does not speak."""

    def __init__(self, kind: str, found: object, known: int) -> None:
        super().__init__(kind, f"protocol {found!r} instead of {known}")
        self.args = (kind, found, known)
        self.found = found
        self.known = known

    def __str__(self) -> str:
        """Say which version came and which one is understood."""
        return (
            f"{self.kind}: speaks protocol {self.found!r}, this scanbus speaks "
            f"{self.known}. Update the older of the two sides."
        )


class BadEntryError(ScanbusError):
    """One entry of a lane cannot be used; the rest of the lane can.

    `is_damaged` tells an entry that changed on its way from one that was wrong from
    the start.
    """

    def __init__(
        self, lane: str, entry_id: str, reason: str, is_damaged: bool = False
    ) -> None:
        super().__init__(lane, entry_id, reason, is_damaged)
        self.is_damaged = is_damaged
        self.lane = lane
        self.entry_id = entry_id
        self.reason = reason

    def __str__(self) -> str:
        """Name the entry and what is wrong with it."""
        return f"lane {self.lane}, entry {self.entry_id}: {self.reason}"


class BusError(ScanbusError):
    """Something about Redis or what stands in it."""


class BusUnavailableError(BusError):
    """Redis does not answer, or not with what was asked."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        """Say which Redis and why."""
        return (
            f"Redis at {self.url} does not answer: {self.reason.rstrip('.')}. Is it "
            "running, "
            "and is --redis (or SCANBUS_REDIS) right?"
        )


class BusUnsuitableError(BusError):
    """Redis answers, but cannot carry this bus."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        """Say what does not fit."""
        return f"Redis at {self.url} cannot carry the bus: {self.reason}"


class DeadlineError(BusError):
    """A wait reached its deadline; nothing that was sent before is lost."""

    def __init__(self, what: str, waited_s: float, reason: str) -> None:
        super().__init__(what, waited_s, reason)
        self.what = what
        self.waited_s = waited_s
        self.reason = reason

    def __str__(self) -> str:
        """Say what was waited for, how long, and why it did not come."""
        return f"{self.what}: gave up after {self.waited_s:.0f} s ({self.reason})"


class LaneConflictError(BusError):
    """Another publisher wrote to this lane; its entries are not ours."""

    def __init__(self, lane: str, entry_id: str) -> None:
        super().__init__(lane, entry_id)
        self.lane = lane
        self.entry_id = entry_id

    def __str__(self) -> str:
        """Name the lane and the entry that is refused."""
        return (
            f"lane {self.lane}: entry {self.entry_id} was refused, and what stands "
            "there comes from another publisher. Do two processes publish one scan?"
        )


class ScanClosedError(LaneConflictError):
    """A scan was closed while its publisher was gone; what it has is not added."""

    def __init__(self, scan: str, text: str, left: dict[str, str], spool: str) -> None:
        BusError.__init__(self, scan, text, left, spool)
        self.scan = scan
        self.text = text
        self.left = left
        self.spool = spool
        self.lane = ", ".join(left)
        self.entry_id = ""

    def __str__(self) -> str:
        """Say what is in no file, where it is, and what to do with it."""
        said = f"scan {self.scan} was closed without its publisher"
        said += f" ({self.text}): nothing is added to it" if self.text else ""
        if not self.left:
            stays = f"; the spool {self.spool} can be removed" if self.spool else ""
            return f"{said}. It has all that was sent here{stays}."
        points = ", ".join(f"{lane} {which}" for lane, which in self.left.items())
        if not self.spool:
            return (
                f"{said}. Only this process has points {points}: publish them as a "
                "new scan."
            )
        root, _, _ = self.spool.rpartition("/")
        return (
            f"{said}. Only the spool {self.spool} has points {points}; it stays. To "
            f"publish what it holds as a new scan: scanbus publish resume --spool "
            f"{root} --as-new {self.scan}"
        )


class QuotaRefusedError(BusError):
    """A scan asks for more room on the bus than there is."""

    def __init__(self, scan: str, quota_bytes: int, reason: str) -> None:
        super().__init__(scan, quota_bytes, reason)
        self.scan = scan
        self.quota_bytes = quota_bytes
        self.reason = reason

    def __str__(self) -> str:
        """Say how much was asked for and what to do."""
        return (
            f"scan {self.scan}: a quota of {self.quota_bytes / 2**20:.1f} MiB is "
            f"refused: {self.reason}"
        )


class UnknownScanError(BusError):
    """No scan of that name on this bus."""

    def __init__(self, scan: str) -> None:
        super().__init__(scan)
        self.scan = scan

    def __str__(self) -> str:
        """Name the scan and how to list those that exist."""
        return (
            f"scan {self.scan!r} is not on this bus; `scanbus ls` lists its scans. One "
            "that was finished long ago leaves it when room is needed: its files stay"
        )


class AmbiguousScanError(BusError):
    """A name that fits several scans, for something that cannot be taken back."""

    def __init__(self, scan: str, uids: tuple[str, ...]) -> None:
        super().__init__(scan, uids)
        self.scan = scan
        self.uids = uids

    def __str__(self) -> str:
        """Name the newest of them; all where they are few."""
        newest = ", ".join(self.uids[-5:])
        return (
            f"scan {self.scan!r} may be any of {len(self.uids)}: name one by its uid "
            f"({newest}); `scanbus ls` shows them"
        )


class UnknownChannelError(BusError):
    """No channel of that name in a scan."""

    def __init__(self, channel: str, known: tuple[str, ...]) -> None:
        super().__init__(channel, known)
        self.channel = channel
        self.known = known

    def __str__(self) -> str:
        """Name the channel and those that exist."""
        return (
            f"no channel {self.channel!r} in this scan; it has "
            f"{', '.join(self.known) or 'none'}"
        )


class NoWriterError(BusError):
    """A scan was to start only with a writer, and none is alive."""

    def __str__(self) -> str:
        """Say how to start one."""
        return (
            "no writer is alive on this bus and require_writer is set; start one "
            "with `scanbus writer --root DIR`"
        )


class PointError(ScanbusError):
    """A point of a channel that is not there."""

    def __init__(self, channel: str, point: int) -> None:
        super().__init__(channel, point)
        self.channel = channel
        self.point = point


class NotYetError(PointError):
    """The point is not there yet; it may come."""

    def __str__(self) -> str:
        """Name the point."""
        return f"{self.channel}: point {self.point} is not there yet"


class NeverError(PointError):
    """The lane ended before the point; it will not come."""

    def __init__(self, channel: str, point: int, length: int) -> None:
        super().__init__(channel, point)
        self.args = (channel, point, length)
        self.length = length

    def __str__(self) -> str:
        """Name the point and the length."""
        return (
            f"{self.channel}: point {self.point} will never come, the channel ended "
            f"with {self.length} points"
        )


class NoLongerError(PointError):
    """The point was trimmed from the bus after it was safe in a file."""

    def __init__(self, channel: str, point: int, file: str) -> None:
        super().__init__(channel, point)
        self.args = (channel, point, file)
        self.file = file

    def __str__(self) -> str:
        """Name the point and the file that has it."""
        return (
            f"{self.channel}: point {self.point} is no longer on the bus; "
            f"read it from {self.file or 'its file'}"
        )


class DeclarationError(ScanbusError, ValueError):
    """A name or a property of a scan or channel that cannot be."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        """Name the property and what is wrong with it."""
        return f"{self.what}: {self.reason}" if self.what else self.reason


class ScanStateError(ScanbusError):
    """A call that does not fit the state of the scan."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Say what does not fit."""
        return self.reason


class ScanInterruptedError(ScanbusError):
    """A scan's publisher is silent, and its lanes are not sealed: no more may come."""

    exit_code = ExitCode.PARTIAL

    def __init__(self, scan: str, points: dict[str, int]) -> None:
        super().__init__(scan, points)
        self.scan = scan
        self.points = points

    def __str__(self) -> str:
        """Name the scan and how far its channels came."""
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

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(path, holder)
        self.path = path
        self.holder = holder

    def __str__(self) -> str:
        """Name the file, whose it is and what to do."""
        return (
            f"name taken: {self.path} exists and holds {self.holder}; nothing was "
            "overwritten. Move it away, or choose another root or scan number."
        )


class RootUnusableError(StorageError):
    """The output folder cannot be written."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """Name the folder and why."""
        return f"cannot write below {self.path}: {self.reason}"


class StorageFullError(StorageError):
    """The disk has no room for what is to be written; the data stay on the bus."""

    def __init__(self, path: str, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(path, needed_bytes, free_bytes)
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes

    def __str__(self) -> str:
        """Say where, how much is needed and how much there is."""
        return (
            f"no space on {self.path}, need {self.needed_bytes / 1e9:.3g} GB, "
            f"{self.free_bytes / 1e9:.3g} GB free"
        )


class SpoolError(StorageError):
    """A publisher's spool cannot be written, or does not hold what was written."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """Say which file or folder, and what is wrong with it."""
        return f"the spool {self.path}: {self.reason}"


class LeaseLostError(StorageError):
    """Another writer has taken this scan over, or Redis forgot who has it."""

    def __init__(self, scan: str, fence: int) -> None:
        super().__init__(scan, fence)
        self.scan = scan
        self.fence = fence

    def __str__(self) -> str:
        """Name the scan and the fence that is over."""
        return f"scan {self.scan}: the lease with fence {self.fence} is lost"


class VerificationError(StorageError):
    """A file does not hold what came over the bus; it was not acknowledged."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """Name the file and the difference."""
        return f"{self.path}: {self.reason}"


class SourceError(ScanbusError):
    """An input file that cannot be published."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """Name the file and what is wrong with it."""
        return f"{self.path}: {self.reason}"


class ConfigurationError(ScanbusError):
    """A setting that is wrong, unknown or missing."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        """Name the setting and what is wrong with it."""
        return f"setting {self.name}: {self.reason}"
