"""What commands print, from values; and the command line without any server."""

import io
import json
import time
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from scanbus.bus.store import DEFAULT_URL
from scanbus.cli import main
from scanbus.cli.commands.ls import scan_table
from scanbus.cli.commands.status import status_lines
from scanbus.cli.options import DEFAULT_REDIS
from scanbus.cli.output import (
    age,
    bytes_text,
    clock_time,
    point_ranges,
    print_error,
    short_uids,
    to_json_line,
)
from scanbus.cli.progress import LineProgress
from scanbus.cli.values import batch_as_dict, batch_as_line, short_values
from scanbus.schemas import ChannelDescription, LaneDescription, Storage
from scanbus.subscriber import Batch, BusStatus, ScanInfo

COMMANDS = ("ls", "tail", "status", "writer", "replay", "check", "publish", "demo")


def info(uid: str, **fields: Any) -> ScanInfo:
    given: dict[str, Any] = {
        "uid": uid,
        "number": 7,
        "title": "ascan",
        "proposal": "hg1",
        "beamline": "id00",
        "session": "20260101",
        "collection": "s",
        "dataset": "d",
        "state": "complete",
        "start_time": 1000.0,
    }
    return ScanInfo(**{**given, **fields})


def missing_batch(**fields: Any) -> Batch:
    channel = ChannelDescription(name="c", group="c", device="c", **fields)
    lane = LaneDescription(
        name="c",
        storage=Storage.VALUES,
        channels=(channel,),
        points_per_segment=10,
        points_per_chunk=10,
    )
    return Batch(lane, 0, 3, 5)


def test_the_default_address_is_that_of_the_bus() -> None:
    assert DEFAULT_REDIS == DEFAULT_URL


def test_the_table_of_scans_shows_hostile_titles_harmlessly() -> None:
    out = io.StringIO()
    scans = [info("a" * 12, title="[red]x\x1b[2J"), info("a" * 11 + "b")]
    Console(file=out, width=200).print(scan_table(scans, 1090.0))
    lines = out.getvalue().splitlines()
    assert "number" in lines[0]
    assert "[red]x?[2J" in lines[1]
    assert "1 min" in lines[1]
    assert "a" * 11 + "b" in lines[2]


def test_short_uids_are_unambiguous() -> None:
    assert short_uids(["abcdefghij", "abcdefghik"])["abcdefghij"] == "abcdefghij"
    assert short_uids(["abcdefghij", "zbcdefghik"])["abcdefghij"] == "abcdefgh"
    assert short_uids([]) == {}


def test_times_and_ages() -> None:
    assert clock_time(0) == ""
    assert len(clock_time(time.time())) == len("2026-01-01 00:00:00")
    assert age(-5) == "0 s"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(20, dtype=np.int32), "0 1 2 3 4 5 6 7 … 12 more"),
        (np.array([0.1, np.nan], np.float32), "0.1 nan"),
        (["a", "b\x1b", "c" * 99], f"'a' 'b?' '{'c' * 40}…'"),
        ([np.array([1.0, 2.0]), np.array([])], "(1 2) ()"),
        (np.full((2, 3, 4), 255, np.uint8), "min 255 max 255 mean 255 shape (2, 3, 4)"),
        (np.array([[3 + 4j]]), "min 5 max 5 mean 5 shape (1, 1)"),
        (np.array([True, False]), "True False"),
    ],
)
def test_short_values(values: Any, expected: str) -> None:
    assert short_values(values) == expected


def test_batches_as_line_and_as_json() -> None:
    batch = missing_batch()
    assert batch_as_line(batch) == (
        "c [3-4] nan nan  (2 missing; lost: no entry on the bus has them, and no file)"
    )
    assert json.loads(to_json_line(batch_as_dict(batch))) == {
        "channel": "c",
        "start": 3,
        "stop": 5,
        "times": [None, None],
        "missing": [[3, 5]],
        "reason": "lost: no entry on the bus has them, and no file",
        "values": [None, None],
    }
    frames = missing_batch(dtype="uint8", shape=(2, 2))
    summary = json.loads(to_json_line(batch_as_dict(frames)))["summary"]
    assert summary == {"min": 255, "max": 255, "mean": 255, "shape": [2, 2, 2]}
    ragged = missing_batch(shape=(-1,), max_point_bytes=8)
    assert json.loads(to_json_line(batch_as_dict(ragged)))["values"] == [[], []]
    number = missing_batch(dtype="complex64", fill_value=2)
    assert json.loads(to_json_line(batch_as_dict(number)))["values"][0] == [2, 0]


def test_the_status_says_what_is_wrong() -> None:
    status = BusStatus(
        redis_version="7.0.1",
        used_bytes=2**20,
        maxmemory_bytes=2**21,
        warnings=("Redis evicts",),
        reserved_bytes=3,
        n_reserved=1,
        writers={},
        n_scans=4,
        open=(info("a" * 8, state="interrupted"),),
        later={"b" * 8: "of protocol 2"},
        gateways={
            "dectris tcp://e:1": {
                "doing": "waiting for messages",
                "on_the_way": {"a": 1},
                **dict.fromkeys(("frames", "missing", "refused", "queued_bytes"), 10),
            }
        },
    )
    text = "\n".join(line.plain for line in status_lines(status))
    assert "7.0.1, 1.0 MiB of 2.0 MiB used (50 %)" in text
    for part in (
        "Redis evicts",
        "none alive",
        "4 announced, 1 open",
        "interrupted",
        "bbbbbbbb waits for a later version",
        "of protocol 2",
        "gateway  dectris tcp://e:1\n         doing=waiting for messages frames=10",
    ):
        assert part in text
    assert "on_the_way" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert bytes_text(5 * 2**40) == "5.0 TiB"


def test_the_status_fits_a_terminal_and_tolerates_any_writer() -> None:
    uid = "a" * 32
    stuck = f"paused: scan {uid} waits, for the disk below /data " + 20 * "is full "
    writers: dict[str, dict[str, Any]] = {
        "vm-1": {
            "host": "vm",
            "root": "/data/visitor/ma1234/id00",
            "root_id": "3" * 32,
            "version": "1.2",
            "problems": ["a worker ended soon after its start", stuck],
            "paused": {uid: stuck},
        },
        "vm-2": {"problems": 5, "paused": [1]},
        "vm-3": {},
    }
    status = BusStatus(
        redis_version="7.0.1",
        used_bytes=2**20,
        maxmemory_bytes=0,
        warnings=("Redis evicts " + 9 * "whatever it wants ",),
        reserved_bytes=3,
        n_reserved=1,
        writers=writers,
        n_scans=4,
        open=(info(uid, state="started"),),
        later={},
    )

    lines = [line.plain for line in status_lines(status)]

    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    assert said.count("waits, for the disk") == 1
    assert f"{uid} started paused: scan {uid} waits" in said
    assert "root=/data/visitor/ma1234/id00" in said
    assert "a worker ended soon after its start" in said


def test_ranges_of_points_are_cut_after_a_few() -> None:
    ranges = tuple((10 * n, 10 * n + 1) for n in range(7))
    assert point_ranges(ranges) == "0, 10, 20, 30, 40 and 2 more ranges"


def test_progress_without_a_terminal_is_a_few_lines() -> None:
    lines: list[str] = []
    now = 0.0
    report = LineProgress(lines.append, lambda: now)
    for done in range(100):
        now += 0.2
        report("frames", done, 100)
    report("frames", 100, 100)
    report("frames", 100, 100)
    report("files", 3, None)
    assert lines[-1] == "frames: 100 of 100"
    assert len(lines) == 4


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("a\nlong " + "story " * 100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert f"scanbus {command}" in capsys.readouterr().out.split("Example:")[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "--nonsense"],
        ["nonsense"],
        ["replay", "x"],
        ["ls", "--limit", "0"],
        ["ls", "--redis", "http://nowhere"],
        ["writer"],
        ["check"],
    ],
)
def test_usage_errors_are_one_sentence_and_never_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("scanbus: ")
    assert captured.err.count("\n") == 1


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    captured = capsys.readouterr()
    assert "Usage:" in captured.out + captured.err
