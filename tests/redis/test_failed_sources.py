"""A gateway whose source fails says so, and ends the scan on the way as failed."""

import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from scanbus.bus.store import announcements, connect, find_scan
from scanbus.cli import main
from scanbus.cli.commands.publish_watch import _database
from scanbus.publisher.gateways.runner import (
    GatewayRunner,
    GatewaySettings,
    ScanNames,
)
from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    Message,
    SeriesStarted,
)
from scanbus.publisher.gateways.wire.sockets import SimulatedSender, ZmqSource
from scanbus.schemas import EndReason, VerdictWord
from scanbus.schemas.errors import SourceFailedError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import WriterSettings, run_writer
from tests.support.image_files import edf_bytes
from tests.support.roots import made_root
from tests.support.waiting import wait_until
from tests.support.writers import final_verdict

pytestmark = pytest.mark.redis

PIXELS = np.arange(600, dtype="<u2").reshape(20, 30)
BROKEN = """
CREATE TABLE taken_files (path BLOB PRIMARY KEY, id TEXT, series TEXT, number INTEGER,
    state INTEGER);
CREATE TRIGGER broken BEFORE INSERT ON taken_files WHEN NEW.number = 2
    BEGIN SELECT RAISE(ABORT, 'database disk image is malformed'); END;
"""
FRAME = FrameData(PIXELS.tobytes(), "none", PIXELS.shape, PIXELS.dtype)


class Failing:
    """A gateway and its source, which fails after its messages."""

    kind = "test"
    address = "test:1"
    detector = "detector"

    def __init__(self, messages: Sequence[Message], error: Exception) -> None:
        self._left: Iterator[Message] = iter(messages)
        self._error = error

    def open(self) -> "Failing":
        return self

    def receive(self, timeout_s: float) -> RawMessage | None:
        message = next(self._left, None)
        if message is None:
            raise self._error
        return RawMessage(message, 1, time.time() + timeout_s)

    def close(self) -> None:
        """Have nothing to close."""

    def decode(self, content: Any) -> Message:
        message: Message = content
        return message


@pytest.mark.parametrize("once", [True, False], ids=["once", "service"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceFailedError("PV A", "it is refused"), "PV A has failed: it is refused"),
        (OSError(5, "I/O error"), r"test test:1 has failed: \[Errno 5\] I/O error"),
        (RuntimeError(), "test test:1 has failed: RuntimeError"),
    ],
    ids=["known", "of the system", "a bug"],
)
def test_the_error_is_raised_and_the_scan_on_the_way_has_failed(
    redis_url: str, tmp_path: Path, error: Exception, reason: str, *, once: bool
) -> None:
    frames = [FrameArrived("1", number, {"": FRAME}) for number in range(3)]
    gateway = Failing([SeriesStarted("1", n_frames=5), *frames], error)
    settings = GatewaySettings(redis_url, ScanNames("cam"), once=once)
    runner = GatewayRunner(gateway, settings)
    with pytest.raises(SourceFailedError, match=reason):
        runner.run()
    ((uid, counts),) = runner.so_far.series
    assert (counts.frames, counts.missing) == (3, 2)
    with connect(redis_url, name="test") as client:
        ended = find_scan(client, uid).ended
    assert ended is not None
    assert ended.end_reason is EndReason.FAILURE
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path)), once=True
    )
    verdict = final_verdict(redis_url, uid)
    assert verdict.verdict is not VerdictWord.COMPLETE
    assert verdict.channels["cam"].written == 3


def taken_port() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("dectris tcp://{used} --simulate", 1, "Address already in use"),
        ("zmq tcp://{used} --simulate", 1, "Address already in use"),
        ("zmq tcp://h:1 --metrics-port {port}", 1, "Address already in use"),
        ("zmq tcp://127.0.0.1:70000", 1, "ports are numbers up to 65535"),
        ("zmq tcp://127.0.0.1:1 --spool /proc/x", 3, "the spool /proc/x: No such"),
        ("watch /nowhere --state /tmp", 1, "setting folder: /nowhere: No such"),
        ("pva T:IMAGE --frames 0", 1, "'--frames': must be greater than or equal"),
    ],
)
def test_what_cannot_begin_is_a_sentence_at_the_start(
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    command: str,
    code: int,
    sentence: str,
) -> None:
    with taken_port() as taken:
        port = taken.getsockname()[1]
        given = command.format(used=f"127.0.0.1:{port}", port=port).split()
        assert main(["publish", *given, "--redis", redis_url]) == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("scanbus: ")
    assert sentence in last


def test_a_sender_that_does_not_answer_is_named(free_port: int) -> None:
    source = ZmqSource(f"tcp://127.0.0.1:{free_port}")
    with capture_logs() as events:
        wait_until(lambda: source.receive(0.1) is None and bool(events))
        with SimulatedSender(f"tcp://127.0.0.1:{free_port}") as sender:
            wait_until(lambda: source.receive(0.1) is None and len(events) == 2)
            sender.close(0.0)
    source.close()
    assert [each["text"] for each in events] == [
        f"no sender answers at tcp://127.0.0.1:{free_port}: is its address right?",
        f"tcp://127.0.0.1:{free_port} is connected",
    ]


@pytest.mark.parametrize("once", [["--once"], []], ids=["once", "service"])
def test_a_broken_database_is_a_sentence_and_exit_code_3(
    redis_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    once: list[str],
) -> None:
    folder, state = tmp_path / "frames", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    database = sqlite3.connect(_database(state, folder))
    database.executescript(BROKEN)
    database.close()
    for number in range(3):
        (folder / f"a_{number:04}.edf").write_bytes(edf_bytes(PIXELS))
    command = ["publish", "watch", str(folder), "--state", str(state), "--settle=0.1"]
    assert main([*command, "--redis", redis_url, *once]) == ExitCode.FAILED
    out, err = capsys.readouterr()
    sentence = err.strip().splitlines()[-1]
    assert sentence.startswith(
        f"scanbus: the database {_database(state, folder)} has f"
    )
    assert "is malformed" in sentence
    assert ("2 frames published" in out) == bool(once)
    with connect(redis_url, name="test") as client:
        (announced,) = announcements(client)
        assert announced.document is not None
        ended = find_scan(client, announced.document.scan.uid).ended
    assert ended is not None
    assert ended.end_reason is EndReason.FAILURE
