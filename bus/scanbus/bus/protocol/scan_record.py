"""State of a scan, computed from its events by folding them in order.

Every document on the bus may come twice, so folding is idempotent. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from scanbus.schemas import (
    Event,
    LaneDescription,
    ScanEnded,
    ScanIdentity,
    ScanJudged,
    ScanPrepared,
    ScanRenumbered,
    ScanStarted,
    ScanUpdated,
    Verdict,
    merged,
    static_lanes,
)
from scanbus.schemas.errors import DocumentError

__all__ = ["MAX_STATIC_LANES", "ScanRecord"]

# Each is a stream of Redis and a file.
MAX_STATIC_LANES = 256
_TOO_MANY = (
    f"the metadata refer to more than {MAX_STATIC_LANES} static arrays: the others are "
    "not read"
)


@dataclass(slots=True)
class ScanRecord:
    """State of a scan according to its events so far.

    Attributes
    ----------
    announced : ScanIdentity
        From the announcement, or from ``prepared``.
    title : str
        From ``prepared``, or from the announcement.
    last_id : str
        Id of the last event that was read.
    prepared, started, ended : ScanPrepared, ScanStarted, ScanEnded or None
        The first event of each type.
    renumbered : ScanRenumbered or None
        The last event of this type: the number that was announced was taken.
    updates : list of ScanUpdated
        In order, each once.
    verdict : Verdict or None
        The last verdict; the first final one if there is any.
    problems : list of str
        Events that could not be parsed or folded, and why.
    static : dict
        The lanes of arrays to which the metadata refer, by name.
    """

    announced: ScanIdentity
    title: str = ""
    last_id: str = "0-0"
    prepared: ScanPrepared | None = None
    started: ScanStarted | None = None
    renumbered: ScanRenumbered | None = None
    updates: list[ScanUpdated] = field(default_factory=list)
    ended: ScanEnded | None = None
    verdict: Verdict | None = None
    problems: list[str] = field(default_factory=list)
    static: dict[str, LaneDescription] = field(default_factory=dict)
    # Digests: a scan may have thousands of updates, too many to compare each with all.
    _updates_seen: set[bytes] = field(default_factory=set, repr=False, compare=False)

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self.announced.uid

    @property
    def identity(self) -> ScanIdentity:
        """As announced, with the number that the writer gave it, if it did."""
        if self.renumbered is None:
            return self.announced
        number = self.renumbered.scan_number
        return self.announced.model_copy(update={"scan_number": number})

    @property
    def state(self) -> str:
        """One word: announced, prepared, started, ended, or the final verdict."""
        if self.final_verdict is not None:
            return self.final_verdict.verdict.value
        for word in ("ended", "started", "prepared"):
            if getattr(self, word) is not None:
                return word
        return "announced"

    def folder_as_given(self, key: str) -> str:
        """Return the proposal, beamline, collection or dataset as the program has it.

        Parameters
        ----------
        key : str
            That word.
        """
        given = self.prepared.original_folders if self.prepared else {}
        return given.get(key) or str(getattr(self.identity, key))

    @property
    def final_verdict(self) -> Verdict | None:
        """The verdict, if it is final."""
        verdict = self.verdict
        return None if verdict is None or verdict.provisional else verdict

    def fold(self, event: Event) -> None:
        """Apply one event; an event that was applied before changes nothing.

        Raises
        ------
        DocumentError
            If it is about another scan.
        """
        match event:
            case ScanPrepared():
                _check_same("prepared", event.scan, self.announced)
                self._note_static(self.prepared or event)
                self.prepared = self.prepared or event
                self.title = event.title or self.title
            case ScanRenumbered():
                # Not the one with the latest time: clocks of writers differ.
                self.renumbered = event
            case ScanStarted():
                self.started = self.started or event
            case ScanUpdated():
                self._update(event)
            case ScanEnded():
                self._note_static(self.ended or event)
                self.ended = self.ended or event
            case ScanJudged():
                _check_same("judged", event.verdict.uid, self.uid)
                # A writer that was paused may send a verdict after its successor.
                if self.final_verdict is None:
                    self.verdict = event.verdict

    def _update(self, event: ScanUpdated) -> None:
        digest = blake2b(event.to_json(), digest_size=16).digest()
        if digest not in self._updates_seen:
            self._updates_seen.add(digest)
            self.updates.append(event)
            self._note_static(event)

    def _note_static(self, event: ScanPrepared | ScanUpdated | ScanEnded) -> None:
        """Note the lanes of arrays; each keeps its first description."""
        for lane in static_lanes(event.metadata):
            if lane.name in self.static or len(self.static) < MAX_STATIC_LANES:
                self.static.setdefault(lane.name, lane)
            elif _TOO_MANY not in self.problems:
                self.problems.append(_TOO_MANY)

    @property
    def lanes(self) -> tuple[LaneDescription, ...]:
        """All lanes that the events name; empty before ``prepared``."""
        if self.prepared is None:
            return ()
        late = self.prepared.late_lanes(self.ended)
        return (*self.prepared.lanes, *self.static.values(), *late)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of ``prepared`` with all later ones merged into it."""
        events = (self.prepared, *self.updates, self.ended)
        return merged(*(event.metadata for event in events if event is not None))


def _check_same(event: str, found: object, expected: object) -> None:
    if found != expected:
        raise DocumentError(event, "it is about another scan than the announcement")
