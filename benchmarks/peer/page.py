"""Table of the results, and the page around it."""

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import h5py
import psutil

from benchmarks.peer.content import COUNTERS, FRAME_SHAPE, N_POINTS, POINT_S
from benchmarks.peer.environment import Peer
from benchmarks.peer.scenarios import Accident
from benchmarks.peer.stage import Outcome
from scanbus.cli.private_redis import find_redis_server, server_version

HEAD = (
    "| | failure | system | points in the file | still in Redis "
    "| what the system says of the scan | the publisher's program | s |"
)


@dataclass(frozen=True)
class Row:
    """One accident and its outcome on each system."""

    number: int
    accident: Accident
    outcomes: dict[str, Outcome]


def table(rows: list[Row]) -> str:
    """Return all outcomes as a Markdown table."""
    lines = [HEAD, "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        for place, (name, outcome) in enumerate(row.outcomes.items()):
            first = (str(row.number), row.accident.title) if not place else ("", "")
            cells = (*first, name, *_cells(outcome, row.accident.deadline_s))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cells(outcome: Outcome, deadline_s: float) -> tuple[str, ...]:
    count = outcome.count
    points = count.problem or f"{count.right} of {outcome.sent}"
    if count.wrong:
        points += f"; {count.wrong} with another value"
    word = _plain(outcome.word) or "nothing"
    took = f"> {deadline_s:g}" if outcome.seconds is None else f"{outcome.seconds:.1f}"
    return points, str(outcome.n_in_redis), word, _plain(outcome.publisher), took


def _plain(text: str) -> str:
    """Return a text for a cell: without paths and ids of this run."""
    text = re.sub(r"'?/(?:[\w.-]+/)+([\w.-]+)'?", r"\1", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", text)
    text = " ".join(text.replace("|", "/").split())
    return text if len(text) <= 150 else text[:147] + "..."


def page(rows: list[Row], peer: Peer) -> str:
    """Return docs/comparison.md."""
    stories = "\n".join(
        f"{row.number}. **{row.accident.title}**: {row.accident.story}"
        + _notes(row)
        + f" Deadline {row.accident.deadline_s:g} s."
        for row in rows
        if row.number
    )
    return _PAGE.format(
        date=datetime.now(UTC).date().isoformat(),
        machine=_machine(),
        ours=_ours(),
        peer=", ".join(f"{name} {text}" for name, text in peer.versions.items()),
        redis=server_version(find_redis_server()),
        python=platform.python_version(),
        table=table(rows),
        stories=stories,
        points=N_POINTS,
        total=N_POINTS * (len(COUNTERS) + 1),
        counters=len(COUNTERS),
        shape=" x ".join(map(str, FRAME_SHAPE)),
        period_ms=round(POINT_S * 1000),
    )


def _notes(row: Row) -> str:
    notes = [
        f"{name}: {outcome.note}"
        for name, outcome in row.outcomes.items()
        if outcome.note
    ]
    return f" ({'; '.join(notes)}.)" if notes else ""


def _ours() -> str:
    try:
        return version("scanbus")
    except PackageNotFoundError:
        return "from the source tree"


def _machine() -> str:
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}; "
        f"our h5py {h5py.version.version}, HDF5 {h5py.version.hdf5_version}"
    )


_PAGE = """\
# Comparison with blissdata and blisswriter

This page compares the effect of failures on a scan with scanbus and with blissdata
2.4.5 and blisswriter 3.0.0. A program wrote it on {date}; do not edit. To repeat it,
from the project's root, with `scanbus[test]` installed:

    python -m benchmarks.peer.accidents --modules DIR

It takes about six minutes, creates a separate environment for the peer, and needs gcc
and a redis-server 7. DIR holds the source of two small modules that replace ReJSON and
search, which blissdata requires of Redis and distributions do not ship; they are not
part of this repository. The streams themselves are plain Redis on both sides.

{table}
Each failure was run once. *Points in the file*: values of all channels that are in the
file at their own place, of those that the publisher's program had passed to the
library; a place with another value that the system does not name as missing is counted
separately. *Still in Redis*: values that the streams hold at that time. *What the
system says*: the verdict on the bus; for the peer, the log of its writer about the
scan, as the service does not publish its state. *s*: from the scan's start until the
program had ended and the verdict was given, with 4 s for sending; > if that did not
happen before the deadline.

## The scan

{counters} counters (float64, one stream each) and a camera of {shape} uint16,
{points} points, one every {period_ms} ms: {total} points in all. Publisher, writer and
Redis are separate processes; each run has a new Redis without persistence and an
empty folder.

## The failures

{stories}

## How the peer is used

`DataStore`, `create_scan`, `create_stream`, `h5maps` with all streams, `prepare`,
`start`, `send`, `stop`, `close`; when `send` raises, the program goes on to `stop` and
`close`, and tries to close for 10 s. `DataStore(url, init_db=True)` on an empty Redis,
also after its restart. `blisswriter run URL`. Three measures exclude other causes of
failure: the address has `?socket_timeout=3600&max_connections=10000` (otherwise, with
redis-py 8, a blocking read ends after 5 s); 0.3 s pass between creating and preparing a
scan; and if the writer runs from the start, on both systems it has written a short scan
into another dataset before. The memory tracker does not run, as no memory has to be
freed. scanbus runs with its defaults.

## Versions and machine

- Python {python}; Redis {redis}; scanbus {ours}
- peer: {peer}
- {machine}
"""
