"""``scanbus status``: the state of Redis, writers and open scans, on one screen."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, AsJson, RedisUrl, subscriber_at
from scanbus.cli.output import bytes_text, coloured, print_json, printable, stdout
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.subscriber import BusStatus

__all__ = ["EXAMPLE", "run", "status_lines"]

WIDTH: Final = 80
# Of what a writer or a gateway says about itself: lines of their own, or for others.
_APART: Final = ("paused", "problems", "on_the_way", "ended")
EXAMPLE = "scanbus status --redis redis://bus.beamline:6379"


def run(*, redis: RedisUrl = DEFAULT_REDIS, as_json: AsJson = False) -> int:
    """Show the memory use of Redis, what is alive, and the open scans."""
    log_to_stderr()
    with subscriber_at(redis) as subscriber:
        found = subscriber.status()
    if as_json:
        print_json(asdict(found))
        return ExitCode.COMPLETE
    for line in status_lines(found):
        stdout().print(line, soft_wrap=True)
    return ExitCode.COMPLETE


def status_lines(found: BusStatus) -> list[Text]:
    """Return the status as lines of text; warnings are yellow."""
    lines = [Text(f"Redis    {found.redis_version}, {_memory(found)}")]
    lines += [each for warning in found.warnings for each in _wrapped(9, warning)]
    scans = counted(found.n_reserved, "scan")
    lines.append(Text(f"reserved {bytes_text(found.reserved_bytes)} by {scans}"))
    lines += _writer_lines(found.writers)
    for name, info in found.gateways.items():
        lines.append(Text(f"gateway  {printable(name)}"))
        lines += _wrapped(9, _facts(info), style="")
    lines.append(Text(f"scans    {found.n_scans} announced, {len(found.open)} open"))
    for scan in found.open:
        line = Text(f"         {scan.number} {scan.uid} ")
        lines.append(line.append_text(coloured(scan.state)))
        for problem in (*scan.problems, *_paused(found.writers, scan.uid)):
            lines += _wrapped(11, problem)
    for uid, problem in found.later.items():
        lines.append(Text(f"         {uid} waits for a later version of scanbus"))
        lines += _wrapped(11, problem)
    return lines


def _wrapped(indent: int, sentence: str, style: str = "yellow") -> list[Text]:
    """Return a sentence as lines that fit the width; words are not broken."""
    margin = " " * indent
    lines = textwrap.wrap(
        printable(sentence),
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Text(line, style=style) for line in lines]


def _writer_lines(writers: dict[str, dict[str, Any]]) -> list[Text]:
    if not writers:
        sentence = "writer   none alive: scans stay on the bus until one is started"
        return [Text(sentence, style="yellow")]
    lines = []
    for name, info in writers.items():
        lines.append(Text(f"writer   {printable(name)}"))
        lines += _wrapped(9, _facts(info), style="")
        for problem in _problems(info):
            lines += _wrapped(11, problem)
    return lines


def _problems(info: dict[str, Any]) -> list[str]:
    """Return what a writer says is wrong, but for what it says about single scans."""
    problems, paused = info.get("problems"), set(_of_scans(info).values())
    found = map(str, problems) if isinstance(problems, list) else ()
    return [each for each in found if each not in paused]


def _paused(writers: dict[str, dict[str, Any]], uid: str) -> list[str]:
    """Return why writers do not write a scan now."""
    said = (_of_scans(info).get(uid) for info in writers.values())
    return [each for each in said if each]


def _of_scans(info: dict[str, Any]) -> dict[str, str]:
    paused = info.get("paused")
    if not isinstance(paused, dict):
        return {}
    return {uid: str(sentence) for uid, sentence in paused.items()}


def _facts(info: dict[str, Any]) -> str:
    facts = ((key, value) for key, value in info.items() if key not in _APART)
    return " ".join(f"{key}={value}" for key, value in facts)


def _memory(found: BusStatus) -> str:
    used = bytes_text(found.used_bytes)
    if not found.maxmemory_bytes:
        return f"{used} used"
    percent = 100 * found.used_bytes / found.maxmemory_bytes
    return f"{used} of {bytes_text(found.maxmemory_bytes)} used ({percent:.0f} %)"
