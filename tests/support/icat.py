"""Closed datasets for ICAT, and brokers that behave, or do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import (
    EndReason,
    ScanEnded,
    ScanIdentity,
    ScanPrepared,
    ScanStarted,
    Verdict,
    VerdictWord,
)
from scanbus.schemas.file_names import values_file_name
from scanbus.writer.storage.data_root import dataset_folder, scan_folder
from scanbus.writer.storage.scan_file import write_scan_file
from tests.support.written_scans import frame_lane

__all__ = [
    "START_S",
    "Broker",
    "answer_all",
    "closed_port",
    "identity_of",
    "running_broker",
    "unfinished_scan",
    "write_finished_scan",
]

START_S = 1_700_000_000.0


def identity_of(number: int = 1, **names: Any) -> ScanIdentity:
    said = {
        "proposal": "HG123",
        "beamline": "id00",
        "session": "20240131",
        "collection": "lyso",
        "dataset": "0001",
        **names,
    }
    uid = "".join(
        sign for sign in f"{said['collection']}{said['dataset']}" if sign != "_"
    )
    return ScanIdentity.model_validate(
        {"uid": f"uid{number:08d}x{uid}"[:40], "scan_number": number, **said}
    )


def record_of(
    identity: ScanIdentity,
    *,
    start_s: float = START_S,
    metadata: dict[str, Any] | None = None,
    codec: str = "bitshuffle-lz4",
) -> ScanRecord:
    found = ScanRecord(identity)
    found.fold(
        ScanPrepared(
            time=start_s,
            scan=identity,
            title="ascan th 0 1 25 0.1",
            lanes=(frame_lane(codec),),
            quota_bytes=2**20,
            metadata={} if metadata is None else metadata,
        )
    )
    found.fold(ScanStarted(time=start_s))
    return found


def write_finished_scan(
    root: Path,
    number: int = 1,
    *,
    start_s: float = START_S,
    metadata: dict[str, Any] | None = None,
    codec: str = "bitshuffle-lz4",
    verdict: VerdictWord = VerdictWord.COMPLETE,
    reason: str = "",
    **names: Any,
) -> Path:
    """Write the scan file of a scan; return the folder of its dataset."""
    identity = identity_of(number, **names)
    record = record_of(identity, start_s=start_s, metadata=metadata, codec=codec)
    record.fold(ScanEnded(time=start_s + 60, end_reason=EndReason.SUCCESS))
    folder = scan_folder(root, identity)
    folder.mkdir(parents=True)
    record.verdict = Verdict(uid=identity.uid, verdict=verdict, reason=reason)
    path = folder / values_file_name(number)
    write_scan_file(path, record, {}, {}, record.verdict)
    return dataset_folder(root, identity)


def unfinished_scan(root: Path, number: int = 1, **names: Any) -> Path:
    """Make the folders of a scan that is being written; return its work folder."""
    identity = identity_of(number, **names)
    folder = scan_folder(root, identity)
    folder.mkdir(parents=True)
    work = folder.parent / ".scanbus" / f"{identity.uid}.1.0a"
    work.mkdir(parents=True)
    return work


def closed_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Broker:
    """A broker of STOMP, as far as a sender sees it.

    Attributes
    ----------
    port : int
        Where it listens, on this machine.
    messages : list of bytes
        Bodies that it took, in order.
    """

    def __init__(
        self, answer: Callable[[Broker, socket.socket], None], port: int = 0
    ) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        self.messages: list[bytes] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve_one, args=(connection,)).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self._answer(self, connection)

    def close(self) -> None:
        # A thread in accept() sleeps on unless it is shut down.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def frames(connection: socket.socket) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """Yield the frames that a sender sends."""
    received = b""
    while True:
        while b"\0" not in received:
            more = connection.recv(65536)
            if not more:
                return
            received += more
        frame, _, received = received.partition(b"\0")
        head, _, body = frame.lstrip(b"\n").partition(b"\n\n")
        command, *lines = head.decode().split("\n")
        yield command, dict(line.split(":", 1) for line in lines), body


def answer_all(broker: Broker, connection: socket.socket) -> None:
    """Answer as a broker should, after some line ends."""
    for command, headers, body in frames(connection):
        if command == "CONNECT":
            connection.sendall(b"\n\nCONNECTED\nversion:1.1\n\n\0")
        elif command == "SEND":
            broker.messages.append(body)
            receipt = headers["receipt"].encode()
            connection.sendall(b"\nRECEIPT\nreceipt-id:" + receipt + b"\n\n\0\n")


@contextmanager
def running_broker(
    answer: Callable[[Broker, socket.socket], None] = answer_all, *, port: int = 0
) -> Iterator[Broker]:
    """Run a broker in a thread."""
    broker = Broker(answer, port)
    thread = threading.Thread(target=broker.serve)
    thread.start()
    try:
        yield broker
    finally:
        broker.close()
        thread.join()
