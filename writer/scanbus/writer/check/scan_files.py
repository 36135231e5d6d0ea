"""Check a scan file: compare its verdict and ledger with its values."""

from __future__ import annotations

import json
from pathlib import Path

import h5py

from scanbus.schemas import (
    LaneDescription,
    ScanPrepared,
    Storage,
    Verdict,
    parse_event,
)
from scanbus.writer.check.counts import check_ledger
from scanbus.writer.check.entries import LaneCoverage, check_scan_lane
from scanbus.writer.check.references import SeenFiles, check_listed
from scanbus.writer.check.report import UNREADABLE, Spot, Tally, one_line
from scanbus.writer.check.scanbus_files import Judgement, text
from scanbus.writer.check.times import check_lane_times
from scanbus.writer.model.scan_contents import OWN_GROUP

__all__ = ["check_scan_file", "is_scan_file"]


def is_scan_file(file: h5py.File) -> bool:
    """Return whether a file is a scan file, complete or not."""
    own = file.get(OWN_GROUP)
    return isinstance(own, h5py.Group) and ("lanes" in own or "events" in own)


def check_scan_file(
    file: h5py.File,
    path: Path,
    tally: Tally,
    referenced: SeenFiles,
    *,
    everything: bool,
) -> tuple[str, Judgement] | None:
    """Check a scan file; return its uid and verdict, None if these cannot be read."""
    own = file[OWN_GROUP]
    uid = text(own["uid"])
    verdict = _read_verdict(own, path, tally)
    for lane in _lanes_of(own, path, tally):
        check_lane_times(file, path, lane, tally)
        if lane.storage is Storage.VALUES:
            spot = tally.at(path, f"{OWN_GROUP}/lanes/{lane.name}")
            with tally.guard(path, spot.dataset):
                coverage = check_scan_lane(file, lane, uid, spot, everything=everything)
                if coverage is not None and verdict is not None:
                    _check_counts(lane, coverage, verdict, spot)
            with tally.guard(path, spot.dataset):
                check_listed(file, path, lane, referenced, tally)
    if verdict is None:
        return None
    return uid, Judgement(
        verdict.verdict, verdict.provisional, verdict.reason, verdict.channels
    )


def _read_verdict(own: h5py.Group, path: Path, tally: Tally) -> Verdict | None:
    try:
        verdict = Verdict.model_validate_json(text(own["verdict"]))
        _check_verdict(own, path, verdict, tally)
    except UNREADABLE as error:
        sentence = f"cannot be read: {one_line(error)}"
        tally.record(path, f"{OWN_GROUP}/verdict", sentence)
        return None
    return verdict


def _lanes_of(own: h5py.Group, path: Path, tally: Tally) -> tuple[LaneDescription, ...]:
    lanes: tuple[LaneDescription, ...] = ()
    with tally.guard(path, f"{OWN_GROUP}/events"):
        for line in own["events"][()]:
            event = parse_event(line)
            if isinstance(event, ScanPrepared):
                lanes = event.lanes
    return lanes


def _check_verdict(own: h5py.Group, path: Path, verdict: Verdict, tally: Tally) -> None:
    if verdict.uid != text(own["uid"]):
        sentence = f"the verdict belongs to scan {verdict.uid}"
        tally.record(path, f"{OWN_GROUP}/verdict", sentence)
    ledger = json.loads(text(own["ledger"]))
    said = {name: one.model_dump(mode="json") for name, one in verdict.channels.items()}
    if ledger != said:
        sentence = "the ledger differs from that of the verdict"
        tally.record(path, f"{OWN_GROUP}/ledger", sentence)


def _check_counts(
    lane: LaneDescription, coverage: LaneCoverage, verdict: Verdict, spot: Spot
) -> None:
    for channel in lane.channels:
        ledger = verdict.channels.get(channel.name)
        if ledger is None:
            spot.record(f"the ledger does not name {channel.name}")
            continue
        check_ledger(
            spot,
            channel.name,
            ledger,
            n_points=coverage.n_points,
            missing=coverage.missing,
            # Gaps of single channels are recorded only in the ledger.
            is_exact=False,
        )
