"""What must be in the files of each scan of an arena, by all that is known outside."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.faults.content import CHANNELS, n_points, scan_uid
from tests.faults.judge import Claim
from tests.faults.processes import PublisherProcess

if TYPE_CHECKING:
    from tests.faults.arena import Ring

__all__ = ["claims_of", "failed_scans", "left_after", "note_given_up"]


def claims_of(ring: "Ring", publisher: PublisherProcess) -> dict[int, Claim]:
    """Return what must be there of each scan that a publisher opened."""
    judged, sent = publisher.said("judged"), publisher.said("sent")
    over = {*judged, *publisher.said("closed")}
    _check_refusals(ring, publisher)
    opened = publisher.said("opening")
    claims = {number: Claim(False, never_began=True) for number in opened}
    for number in publisher.said("begun"):
        uid = scan_uid(ring.arena.seed, number)
        heard = ring.witness.heard(number)
        if number in judged:
            heard[judged[number]["uid"]] = judged[number]["verdict"]
        ended = number in (over if ring.was_killed else sent)
        claim = ring.left.get(number, Claim(ended))
        claims[number] = replace(
            claim,
            said=heard.get(uid, ""),
            heard=heard,
            named=claim.named or number in ring.may_name,
        )
    return claims


def _check_refusals(ring: "Ring", publisher: PublisherProcess) -> None:
    """Only while Redis was away may a program be told that there is no bus."""
    refused = publisher.said("refused")
    ring.outcome.n_refused = len(refused)
    for number, line in refused.items():
        if not ring.outages.explain(line["at"]):
            ring.complain(f"scan {number} was refused: {line['reason']}")


def note_given_up(ring: "Ring", publisher: PublisherProcess) -> None:
    """No fault lasts as long as a publisher's patience with a scan that began."""
    sent = publisher.said("sent")
    for number, line in publisher.said("interrupted").items():
        if number not in sent:
            claim = replace(left_after(line["points"]), named=True)
            ring.left.setdefault(number, claim)
    for number in failed_scans(publisher):
        ring.left.setdefault(number, replace(left_after(0), named=True))
    for number, line in publisher.said("gave_up").items():
        if line.get("trapped"):
            # Its program was told of the error; what there is may have its verdict.
            ring.left.setdefault(number, replace(left_after(0), named=True))
            continue
        ring.complain(f"the publisher gave scan {number} up: {line['reason']}")
        ring.left.setdefault(number, left_after(line["points"]))
    for number, line in publisher.said("lost").items():
        if not line.get("trapped"):
            ring.complain(f"nobody waits for scan {number}: {line['reason']}")


def failed_scans(publisher: PublisherProcess) -> set[int]:
    """Scans that failed for an error that nobody foresaw, as their program was told.

    Nobody but an operator ends them while their publisher lives.
    """
    failed = {
        number
        for event in ("gave_up", "lost")
        for number, line in publisher.said(event).items()
        if line.get("trapped")
    }
    return failed - set(publisher.said("judged"))


def left_after(n_points_sent: int) -> Claim:
    """What must be there of a scan that did not come to its end."""
    least = {channel: n_points(n_points_sent, channel) for channel in CHANNELS}
    return Claim(ended=False, least=least)
