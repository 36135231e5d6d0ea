"""Tell ICAT of one closed dataset, once.

The order is what makes a kill harmless: first the message is kept in the outbox, then a
broker confirms that it has it, then it is noted as sent, last it leaves the outbox. A
process that is killed between the second and the third sends it again when it comes
back, the same bytes: at least once, and twice only then.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import BrokerError, IcatMessageError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer.icat.contents import DatasetPlace, FinishedScan
from scanbus.writer.icat.dataset import place_of, read_dataset, scan_numbers
from scanbus.writer.icat.message import make_message, subject_of
from scanbus.writer.icat.outbox import Outbox, SentMark, opened_outbox
from scanbus.writer.icat.parameters import dataset_parameters
from scanbus.writer.icat.stomp import parse_address, send_message
from scanbus.writer.storage.data_root import allow_links_to

__all__ = ["LOCK_TIMEOUT_S", "SendReport", "SendState", "is_current", "send_dataset"]

LOCK_TIMEOUT_S: Final = 30.0
"""Longest wait for another process that sends for the same session."""

Progress = Callable[[str, int, int | None], None]


class SendState(StrEnum):
    """What became of the message about a dataset."""

    SENT = "sent"
    """A broker has it."""
    WAITING = "waiting"
    """It is in the outbox: no broker took it, or none is named."""
    SENT_BEFORE = "sent before"
    """It was sent already; nothing was done."""
    CHANGED = "changed"
    """It was sent already, but the dataset has other scans now; nothing was done."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of the message about a dataset, and what it says.

    Attributes
    ----------
    dataset : str
        Folder of the dataset.
    state : SendState
        In one or two words.
    reason : str
        Why it waits; else empty.
    message : pathlib.Path or None
        The file in the outbox, while it waits.
    broker : str
        Who has it.
    sent_s : float
        When it was sent, seconds since 1970 UTC; 0 if it was not.
    scans : tuple of FinishedScan
        The scans that it tells of; empty if nothing was done.
    parameters : dict
        Text by key of ICAT; likewise.
    unknown, problems : tuple of str
        Metadata without a key, and sentences on values that are not in it.
    """

    dataset: str
    state: SendState
    reason: str = ""
    message: Path | None = None
    broker: str = ""
    sent_s: float = 0.0
    scans: tuple[FinishedScan, ...] = ()
    parameters: dict[str, str] | None = None
    unknown: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """``PARTIAL`` if ICAT does not know the dataset as it is now."""
        is_known = self.state in (SendState.SENT, SendState.SENT_BEFORE)
        return ExitCode.COMPLETE if is_known else ExitCode.PARTIAL


def send_dataset(
    folder: Path,
    brokers: Sequence[str] = (),
    *,
    again: bool = False,
    with_users: bool = False,
    timeout_s: float = 10.0,
    allowed_roots: Sequence[Path] = (),
    progress: Progress | None = None,
) -> SendReport:
    """Send the message about a closed dataset, unless it was sent before.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the dataset.
    brokers : sequence of str
        ``host:port``, tried in this order. Without any, the message is put into the
        outbox.
    again : bool
        Whether to send it although it was sent.
    with_users : bool
        Whether personal data are sent.
    timeout_s : float
        Longest time for each broker.
    allowed_roots : sequence of pathlib.Path
        Other roots, to which symbolic links below the root may lead.
    progress : callable, optional
        Called with ``("scans", number done, total)``.

    Raises
    ------
    DatasetOpenError
        If scans are being written, or were interrupted.
    IcatMessageError
        If it is no dataset, has no finished scan, or what is known makes no message.
    ConfigurationError
        If a broker's address is none.
    NameTakenError, VerificationError, DocumentError
        If files are damaged, or something else has the name of a file in the outbox.
    RootUnusableError
        If the file system refuses.
    ImportError
        If the extra ``scanbus[icat]`` is not installed.
    """
    addresses = [parse_address(each) for each in brokers]
    allow_links_to(allowed_roots)
    place = place_of(folder)
    with opened_outbox(place, LOCK_TIMEOUT_S) as outbox:
        mark = outbox.mark()
        if mark is not None and not again:
            outbox.forget()  # Whoever noted it was killed before this.
            return _sent_before(place, mark)
        report, octets = _kept(place, outbox, with_users=with_users, progress=progress)
        if mark is not None:
            outbox.unmark()  # Whatever comes between now, the message is sent.
        if not addresses:
            return _waiting(report, outbox, "no broker is named")
        try:
            broker = send_message(addresses, octets, timeout_s)
        except BrokerError as error:
            return _waiting(report, outbox, str(error))
        now_s = time.time()
        outbox.note(_mark(report, octets, str(broker), now_s))
        outbox.forget()
        return replace(report, state=SendState.SENT, broker=str(broker), sent_s=now_s)


def _kept(
    place: DatasetPlace,
    outbox: Outbox,
    *,
    with_users: bool,
    progress: Progress | None,
) -> tuple[SendReport, bytes]:
    """Make the message, keep it in the outbox, and return it."""
    dataset = read_dataset(place, progress)
    found = dataset_parameters(
        dataset, machine=platform.node(), software=_software(), with_users=with_users
    )
    octets, said = make_message(found)
    if subject_of(octets) is None:
        raise IcatMessageError(place.name, "what was made of it is no XML")
    if outbox.kept() != octets:
        outbox.keep(octets)
    report = SendReport(
        str(place.folder),
        SendState.WAITING,
        scans=dataset.scans,
        parameters=found.values,
        unknown=found.unknown,
        problems=tuple(dict.fromkeys((*found.problems, *said))),
    )
    return report, octets


def _sent_before(place: DatasetPlace, mark: SentMark) -> SendReport:
    state = SendState.SENT_BEFORE if is_current(place, mark) else SendState.CHANGED
    return SendReport(str(place.folder), state, broker=mark.broker, sent_s=mark.time)


def is_current(place: DatasetPlace, mark: SentMark) -> bool:
    """Whether a dataset has the scans that ICAT was told of, by their numbers."""
    return scan_numbers(place.folder) == set(mark.scans)


def _waiting(report: SendReport, outbox: Outbox, reason: str) -> SendReport:
    return replace(report, reason=reason, message=outbox.message_path)


def _mark(report: SendReport, octets: bytes, broker: str, now_s: float) -> SentMark:
    return SentMark(
        time=now_s,
        broker=broker,
        digest=hashlib.sha256(octets).hexdigest(),
        scans={scan.number: scan.uid for scan in report.scans},
    )


def _software() -> str:
    try:
        return f"scanbus {version('scanbus')}"
    except PackageNotFoundError:  # From a source tree.
        return "scanbus"
