"""What the processes of an arena logged of scans that did not come out clean.

The files of a run are gone when somebody looks at its output, and such a run may not
come again.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["told_of"]

_MOST_LINES = 80
_MOST_LETTERS = 300
_DULL = {"timestamp", "event", "level", "scan"}


def told_of(folder: Path, uids: Iterable[str]) -> list[str]:
    """Return what the logs below a folder say of some scans, in order of time.

    Parameters
    ----------
    uids : iterable of str
        Uids of scans; of those that continue them, too, as a line names their parent.
    """
    wanted = list(uids)
    told = sorted(
        _text(str(line.get("timestamp", "")), path.stem, line)
        for path in folder.glob("*.log")
        for line in _lines(path)
        if any(uid in json.dumps(line) for uid in wanted)
    )
    left_out = len(told) - _MOST_LINES
    if left_out <= 0:
        return told
    half = _MOST_LINES // 2
    return [*told[:half], f"({left_out} lines left out)", *told[-half:]]


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def _text(timestamp: str, who: str, line: dict[str, Any]) -> str:
    more = " ".join(f"{k}={v}" for k, v in line.items() if k not in _DULL)
    scan = str(line.get("scan", ""))[-12:]
    text = f"{timestamp[11:23]} {who} {line.get('event')} {scan} {more}"
    return text[:_MOST_LETTERS].replace("\n", " | ")
