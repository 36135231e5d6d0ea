"""Names of the claims of scan numbers, and of those who claim them.

Pure: text in, text out. No uid has a hyphen, so the names differ from all others.
"""

from __future__ import annotations

from typing import Final

from scanbus.schemas.file_names import parse_scan_folder, scan_folder_name

__all__ = ["claim_name", "owner_uid", "parse_claim", "replay_owner"]

_CLAIM: Final = "claim-"
_REPLAY: Final = "replay-"


def claim_name(scan_number: int) -> str:
    """Return the name of the file that says which scan has a number.

    It stands beside the work folders, until the scan has files that say it.

    Examples
    --------
    >>> claim_name(7)
    'claim-scan0007'
    """
    return f"{_CLAIM}{scan_folder_name(scan_number)}"


def parse_claim(name: str) -> int | None:
    """Return the number that a claim with this name is about.

    Examples
    --------
    >>> parse_claim("claim-scan0007")
    7
    """
    is_claim = name.startswith(_CLAIM)
    return parse_scan_folder(name.removeprefix(_CLAIM)) if is_claim else None


def replay_owner(uid: str, scan_number: int) -> str:
    """Return who writes a scan again, under a number: in claims and work folders.

    It is not the uid, so that a replay and the scan's writer, or two replays, leave
    each other's files alone.

    Examples
    --------
    >>> replay_owner("0123456789abcdef", 7)
    'replay-0007-0123456789abcdef'
    """
    return f"{_REPLAY}{scan_number:04d}-{uid}"


def owner_uid(owner: str) -> str:
    """Return the uid of the scan that an owner of claims or work folders writes.

    Examples
    --------
    >>> owner_uid("replay-0007-0123456789abcdef"), owner_uid("0123456789abcdef")
    ('0123456789abcdef', '0123456789abcdef')
    """
    return owner.rpartition("-")[2] if owner.startswith(_REPLAY) else owner
