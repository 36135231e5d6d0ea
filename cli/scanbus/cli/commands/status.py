"""``scanbus status``: the state of Redis, writers and open scans, on one screen."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, AsJson, RedisUrl, subscriber_at
from scanbus.cli.output import bytes_text, coloured, print_json, printable, stdout
from scanbus.schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from scanbus.subscriber import BusStatus

__all__ = ["EXAMPLE", "run", "status_lines"]

EXAMPLE = "scanbus status --redis redis://bus.beamline:6379"


def run(*, redis: RedisUrl = DEFAULT_REDIS, as_json: AsJson = False) -> int:
    """Show the memory use of Redis, the live writers and the open scans."""
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
    lines += [Text(f"         {warning}", style="yellow") for warning in found.warnings]
    lines.append(
        Text(f"reserved {bytes_text(found.reserved_bytes)} by {found.n_reserved} scans")
    )
    lines += _writer_lines(found.writers)
    lines.append(Text(f"scans    {found.n_scans} announced, {len(found.open)} open"))
    for scan in found.open:
        line = Text(f"         {scan.number} {scan.uid} ")
        lines.append(line.append_text(coloured(scan.state)))
        lines += [_problem(problem) for problem in scan.problems]
    for uid, problem in found.later.items():
        lines.append(Text(f"         {uid} waits for a later version of scanbus"))
        lines.append(_problem(problem))
    return lines


def _problem(sentence: str) -> Text:
    return Text(f"           {printable(sentence)}", style="yellow")


def _writer_lines(writers: dict[str, dict[str, Any]]) -> list[Text]:
    if not writers:
        sentence = "writer   none alive: scans stay on the bus until one is started"
        return [Text(sentence, style="yellow")]
    return [
        Text(f"writer   {printable(name)} {_facts(info)}")
        for name, info in writers.items()
    ]


def _facts(info: dict[str, Any]) -> str:
    facts = {key: value for key, value in info.items() if key != "paused"}
    return printable(" ".join(f"{key}={value}" for key, value in facts.items()))


def _memory(found: BusStatus) -> str:
    used = bytes_text(found.used_bytes)
    if not found.maxmemory_bytes:
        return f"{used} used"
    percent = 100 * found.used_bytes / found.maxmemory_bytes
    return f"{used} of {bytes_text(found.maxmemory_bytes)} used ({percent:.0f} %)"
