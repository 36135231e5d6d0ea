"""A detector that pushes frames over ZeroMQ, and who takes them: a bare loop or we."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
import zmq

from benchmarks.harness import bare
from benchmarks.harness.frames import FrameSet
from benchmarks.harness.sending import VERDICT_S, check
from benchmarks.harness.stage import Stage, start_child
from scanbus.publisher.gateways.dectris import DectrisGateway, SimulatedSender
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.runner import (
    GatewayRunner,
    GatewaySettings,
    ScanNames,
)
from scanbus.schemas import Verdict
from scanbus.subscriber import Subscriber

__all__ = ["bare_stream_rate", "gateway_rates"]

Ready = Callable[[], None]
# As in the gateway, so that both sides have the same buffers before them.
_RECEIVE_MESSAGES = 16
# Between the header and the first frame: a detector is armed before it is triggered.
_ARMED_S = 1.0


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def _messages(frames: FrameSet, count: int) -> Iterator[list[bytes]]:
    """Yield images of stream V1, packed beforehand."""
    series = SeriesV1(1)
    made = [series.image(0, frame)[1:] for frame in frames.raw()]
    for number in range(count):
        first = {"htype": "dimage-1.0", "series": 1, "frame": number}
        yield [json.dumps(first).encode(), *made[number % len(made)]]


def push(ready: Ready, address: str, frames: FrameSet, count: int) -> float:
    """Be the detector; return when it is triggered, some time after it is armed."""
    series = SeriesV1(1, {"nimages": count, "ntrigger": 1, "count_time": 0.01})
    messages = list(_messages(frames, count))
    with SimulatedSender(address) as sender:
        ready()
        sender.send(series.header())
        time.sleep(_ARMED_S)
        started = time.perf_counter()
        for parts in (*messages, series.end()):
            if not sender.send(parts):
                raise RuntimeError("nobody takes what the detector sends")
    return started


def forward(ready: Ready, address: str, url: str, count: int) -> float:
    """PULL and XADD, without a look at anything; return the time of the end."""
    bus = redis.Redis.from_url(url, protocol=2)
    bus.delete(bare.LANE)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.setsockopt(zmq.RCVHWM, _RECEIVE_MESSAGES)
        pull.connect(address)
        ready()
        pull.recv_multipart()
        for number in range(count):
            parts = pull.recv_multipart()
            bus.xadd(bare.LANE, {"d": parts[2]}, id=f"{number}-1")
        done = time.perf_counter()
        pull.recv_multipart()
    return done


@dataclass(frozen=True)
class Times:
    """When all frames of a series were on the bus, and when they had their verdict."""

    sent: float
    judged: float


def run_gateway(ready: Ready, address: str, url: str, count: int) -> Times:
    """Run the gateway until its scan has its verdict."""
    names = ScanNames("detector", {"proposal": "bench", "collection": "gateway"})
    settings = GatewaySettings(url, names, once=True, wait=False)
    runner = GatewayRunner(DectrisGateway(address), settings)
    ready()
    report = runner.run()
    sent = time.perf_counter()
    ((uid, counts),) = report.series
    if report.refused or counts.frames != count:
        raise RuntimeError(f"{counts.frames} frames, {report.refused} refused")
    verdict = _verdict(url, uid)
    judged = time.perf_counter()
    check(verdict, dict.fromkeys(verdict.channels, count))
    return Times(sent, judged)


def _verdict(url: str, uid: str) -> Verdict:
    deadline = time.perf_counter() + VERDICT_S
    with Subscriber(url) as subscriber:
        scan = subscriber.scan(uid)
        while time.perf_counter() < deadline:
            if scan.is_judged() and scan.verdict is not None:
                return scan.verdict
            time.sleep(0.01)
    raise RuntimeError(f"no verdict of scan {uid}")


def bare_stream_rate(stage: Stage, frames: FrameSet, count: int) -> float:
    """Return frames/s from the trigger until all are on the bus, without checks.

    Who reads them from there writes them into a file meanwhile.
    """
    address, path = _free_address(), Path(stage.folder) / "bare.h5"
    detector = start_child(push, address, frames, count)
    middle = start_child(forward, address, stage.url, count)
    reader = start_child(bare.write, stage.url, frames, count, path, filtered=True)
    for child in (reader, middle, detector):
        child.go()
    started, done = detector.result(), middle.result()
    reader.result()
    path.unlink()
    return count / float(done - started)


def gateway_rates(stage: Stage, frames: FrameSet, count: int) -> tuple[float, float]:
    """Return frames/s from the trigger until all are on the bus, and to the verdict."""
    address = _free_address()
    detector = start_child(push, address, frames, count)
    gateway = start_child(run_gateway, address, stage.url, count)
    for child in (gateway, detector):
        child.go()
    started = detector.result()
    times: Times = gateway.result(VERDICT_S)
    stage.remove_files()
    return count / (times.sent - started), count / (times.judged - started)
