"""A simulated detector at a rate, a gateway, a writer: what came, byte by byte.

    python -m tests.support.gateway_proof v2 --frames 6000 --rate 100 --kill

sends frames of 2 MB from a process of its own, kills the gateway in the middle and
starts it again if asked to, and compares each chunk in the files with the bytes that
were sent through the socket.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 (registers the filters that frames need)
import numpy as np
import zmq

from scanbus.bus.store import announcements, connect
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher.gateways.dectris import DectrisGateway
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.runner import ScanNames
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.wire.sockets import SimulatedSender
from scanbus.schemas import Verdict
from tests.support.gateway_process import GatewayProcess, wait_alive
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, writer

__all__ = ["Outcome", "bare_rate", "prove"]

# A prime number: a frame in another's place is not hidden by the pattern.
N_PAYLOADS = 23
LARGE = (1780, 1780)
# In CBOR, as a number of 32 bits, to be replaced by the number of each image.
_NUMBER = b"\x68image_id\x1a"
_PLACEHOLDER = 2**31


class Frames:
    """Frames whose messages are made beforehand; only their numbers are put in.

    Parameters
    ----------
    stream : {"v1", "v2"}
        The stream.
    shape : tuple of int
        Shape of a frame of 16 bits; about 0.64 bytes per pixel when compressed.
    """

    def __init__(self, stream: str, shape: tuple[int, int], n_frames: int) -> None:
        config = {"nimages": n_frames, "number_of_images": n_frames}
        self.messages: SeriesV1 | SeriesV2
        self.messages = (SeriesV1 if stream == "v1" else SeriesV2)(1, config)
        self._is_v1 = stream == "v1"
        self._images = [
            self.messages.image(_PLACEHOLDER, frame(index, shape))
            for index in range(N_PAYLOADS)
        ]

    def message(self, number: int) -> list[bytes]:
        """Return the message of a frame."""
        parts = self._images[number % N_PAYLOADS]
        if self._is_v1:
            first = json.loads(parts[0]) | {"frame": number}
            return [json.dumps(first).encode(), *parts[1:]]
        at = parts[0].index(_NUMBER) + len(_NUMBER)
        digits = number.to_bytes(4, "big")
        return [b"".join((parts[0][:at], digits, parts[0][at + 4 :]))]

    @property
    def payloads(self) -> list[bytes]:
        """Return the bytes of each frame that the file shall have."""
        gateway = DectrisGateway("")
        found = []
        for parts in self._images:
            (data,) = gateway.decode(parts).channels.values()  # type: ignore[union-attr]
            assert data.payload in b"".join(parts)
            found.append(data.payload)
        return found


def frame(index: int, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Return one of the frames: photons, and the noise of a hot background."""
    return np.random.default_rng(index).poisson(12, shape).astype("<u2")


def _send(
    said: Connection, stream: str, shape: tuple[int, int], n_frames: int, rate: float
) -> None:
    frames = Frames(stream, shape, n_frames)
    # Loaded before the clock starts.
    with SimulatedSender("tcp://127.0.0.1:*") as detector:
        said.send(detector.address)
        detector.send(frames.messages.header(), 60.0)
        said.recv()
        begun, dropped = time.monotonic(), []
        for number in range(n_frames):
            if said.poll():
                # The gateway was killed a while ago: not all of the rest is to be lost.
                paused = time.monotonic()
                said.recv()
                said.recv()
                begun += time.monotonic() - paused
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            if not detector.send(frames.message(number), 0.0):
                dropped.append(number)
        took_s = time.monotonic() - begun
        detector.send(frames.messages.end(), 60.0)
        said.send((dropped, took_s))


@dataclass
class Outcome:
    """What a run has shown.

    Attributes
    ----------
    sent_hz : float
        Rate at which frames were sent.
    dropped : list of int
        Frames that the detector could not send.
    verdict : Verdict
        Of the one scan.
    different : list of int
        Frames whose bytes in the file differ from those on the socket.
    memory : list of tuple
        Process id of the gateway, and its memory in bytes, sampled.
    payload_bytes : int
        Bytes of the largest frame on the socket.
    """

    sent_hz: float
    dropped: list[int]
    verdict: Verdict
    different: list[int]
    payload_bytes: int
    memory: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def missing(self) -> set[int]:
        """Frames that are not in the file."""
        return self.missing_of("eiger")

    def missing_of(self, channel: str) -> set[int]:
        """Points that the verdict says are missing of a channel."""
        spans = self.verdict.channels[channel].missing
        return {number for span in spans for number in range(*span)}

    def memory_growth(self) -> float:
        """Return the peak of the last third over that of the middle one."""
        last_pid = self.memory[-1][0]
        used = [n_bytes for pid, n_bytes in self.memory if pid == last_pid]
        third = max(1, len(used) // 3)
        return max(used[-third:]) / max(used[third : 2 * third] or used)


def prove(
    stream: str,
    root: Path,
    url: str,
    *,
    shape: tuple[int, int],
    n_frames: int,
    rate: float,
    kill: bool,
    spool: Path | None = None,
) -> Outcome:
    """Send a series through a gateway into files, and compare these with it.

    Parameters
    ----------
    kill : bool
        Kill the gateway (SIGKILL) at half of the frames, and start it again; what is
        sent in the 0.3 s after that has nobody.
    """
    context = multiprocessing.get_context("spawn")
    said, their_end = context.Pipe()
    arguments = (their_end, stream, shape, n_frames, rate)
    sender = context.Process(target=_send, args=arguments, daemon=True)
    sender.start()
    make = partial(DectrisGateway, said.recv())
    names = ScanNames("eiger")
    memory: list[tuple[int, int]] = []

    def gate(*, once: bool) -> GatewayProcess:
        return GatewayProcess(make, url, names, once=once, spool=spool)

    def watch(process: GatewayProcess, duration_s: float) -> None:
        deadline = time.monotonic() + duration_s
        while time.monotonic() < deadline and not said.poll(0.2):
            memory.append((process.pid, _memory_of(process.pid)))

    with writer(url, root):
        process = gate(once=not kill)
        _wait_announced(url)
        said.send("go")
        if kill:
            watch(process, n_frames / rate / 2)
            process.kill()
            time.sleep(0.3)
            said.send("pause")
            process = gate(once=True)
            wait_alive(url, process.pid)
            said.send("go on")
        watch(process, 10 * n_frames / rate + 60)
        dropped, took_s = said.recv()
        process.wait()
        (uid,) = _uids(url)
        verdict = final_verdict(url, uid, 300)
    sender.join(30)
    payloads = Frames(stream, shape, n_frames).payloads
    largest = max(map(len, payloads))
    outcome = Outcome(n_frames / took_s, dropped, verdict, [], largest, memory)
    outcome.different = _different(root, payloads, n_frames, outcome)
    return outcome


def _memory_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return 1024 * int(fields.get("VmRSS", "0 kB").split()[0])


def _uids(url: str) -> list[str]:
    with connect(url, name="test") as client:
        every = announcements(client)
        return [each.document.scan.uid for each in every if each.document]


def _wait_announced(url: str) -> None:
    deadline = time.monotonic() + 60
    while not _uids(url):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _different(
    root: Path, payloads: list[bytes], n_frames: int, outcome: Outcome
) -> list[int]:
    """Return the frames whose chunk is not what was sent, or whose number is wrong.

    Killed between a frame and its number, a gateway leaves a frame without one; the
    verdict names it.
    """
    unnumbered = outcome.missing_of("eiger_frame_number")
    (master,) = found_below(root, "scan0001.h5")
    with h5py.File(master) as file:
        numbers = file["1.1/measurement/eiger_frame_number"][()]
        chunks = _chunks(file["1.1/measurement/eiger"], master)
        assert len(numbers) == n_frames
        different = []
        for number in sorted(set(range(n_frames)) - outcome.missing):
            dataset, offset = chunks[number]
            mask, stored = dataset.id.read_direct_chunk((offset, 0, 0))
            is_same = not mask and stored == payloads[number % N_PAYLOADS]
            if not is_same or (numbers[number] != number and number not in unnumbered):
                different.append(number)
    return different


def _chunks(virtual: h5py.Dataset, path: Path) -> Mapping[int, tuple[Any, int]]:
    """Return for each frame its dataset, and its place there: sources are whole."""
    found: dict[int, tuple[Any, int]] = {}
    if not virtual.is_virtual:
        return {number: (virtual, number) for number in range(len(virtual))}
    for source in virtual.virtual_sources():
        (start, *_), (stop, *_) = source.vspace.get_select_bounds()
        name = path if source.file_name == "." else path.parent / source.file_name
        inner = _chunks(h5py.File(name)[source.dset_name], name)
        for index in range(stop - start + 1):
            found[start + index] = inner[index]
    return found


def bare_rate(url: str, stream: str, shape: tuple[int, int], n_frames: int) -> float:
    """Return frames per second of a loop of PULL and XADD that checks nothing."""
    context = multiprocessing.get_context("spawn")
    said, their_end = context.Pipe()
    arguments = (their_end, stream, shape, n_frames, 1e9)
    sender = context.Process(target=_flood, args=arguments, daemon=True)
    sender.start()
    pull: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    pull.setsockopt(zmq.RCVHWM, 16)
    pull.connect(said.recv())
    with connect(url, name="bare") as client:
        pull.recv_multipart()
        begun = time.monotonic()
        for number in range(n_frames):
            parts = pull.recv_multipart()
            payload = max(parts, key=len)
            client.execute_command(
                "XADD", "bare", "MAXLEN", "64", f"{number}-1", "h", b"", "p", payload
            )
        took_s = time.monotonic() - begun
        client.delete("bare")
    pull.close(0)
    sender.kill()
    sender.join(10)
    return n_frames / took_s


def _flood(
    said: Connection, stream: str, shape: tuple[int, int], n_frames: int, _: float
) -> None:
    frames = Frames(stream, shape, n_frames)
    with SimulatedSender("tcp://127.0.0.1:*", buffer=16) as detector:
        said.send(detector.address)
        detector.send(frames.messages.header(), 60.0)
        for number in range(n_frames):
            detector.send(frames.message(number), 60.0)


def main() -> None:
    """Run one proof; print what it has shown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream", choices=["v1", "v2"])
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--spool", type=Path)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as folder,
        PrivateRedis(options={"maxmemory": "6gb"}) as server,
    ):
        bare = bare_rate(server.url, asked.stream, LARGE, 500)
        print(f"bare loop: {bare:.0f} frames/s")  # noqa: T201
        found = prove(
            asked.stream,
            Path(folder),
            server.url,
            shape=LARGE,
            n_frames=asked.frames,
            rate=asked.rate,
            kill=asked.kill,
            spool=asked.spool,
        )
        peak = max(n_bytes for _, n_bytes in found.memory)
        print(  # noqa: T201
            f"{asked.stream}: {found.sent_hz:.1f} frames/s of "
            f"{found.payload_bytes / 1e6:.2f} MB, {found.verdict.verdict.value}: "
            f"{len(found.different)} differ, {len(found.dropped)} not sent, missing "
            f"{found.verdict.channels['eiger'].missing}, memory {peak / 1e6:.0f} MB at "
            f"most, {found.memory_growth():.2f} of the middle third at the end\n"
            f"{found.verdict.reason}"
        )


if __name__ == "__main__":
    main()
