"""Signals while ``--once`` waits for a verdict, second ones, and Redis away then."""

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from scanbus.bus.store import beat_writer, connect, find_scan
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher.gateways.dectris import SimulatedSender
from scanbus.publisher.gateways.runner import RawMessage
from scanbus.publisher.gateways.runner.messages import Message, SeriesEnded
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.schemas import EndReason
from scanbus.schemas.exit_codes import ExitCode
from tests.redis.test_publish_dectris import (
    TIMEOUT_S,
    points_on_bus,
    scans_on,
    send,
    started,
)
from tests.support.gate import Gate
from tests.support.given_messages import GivenMessages, given_frame
from tests.support.writers import wait_until

pytestmark = pytest.mark.redis

EIGER = ("--detector", "eiger")
SIGNALS = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_wait_for_a_verdict(
    redis_url: str, number: signal.Signals
) -> None:
    """The writer is alive, and slow."""
    series = SeriesV2(1, {"number_of_images": 3})
    with connect(redis_url, name="test") as client:
        beat_writer(client, "slow", {}, 600_000)
        with SimulatedSender("tcp://127.0.0.1:*") as detector:
            gateway = started(redis_url, detector.address, "--once", *EIGER)
            detector.send(series.header())
            send(detector, series, range(3))
            detector.send(series.end())
            uid = wait_until(lambda: scans_on(redis_url))[0]
            wait_until(lambda: find_scan(client, uid).ended is not None)
            gateway.send_signal(number)
            try:
                out, err = gateway.communicate(timeout=TIMEOUT_S)
            finally:
                gateway.kill()
    assert gateway.returncode == SIGNALS[number], err
    assert "3 frames published, 0 missing" in out
    assert "interrupted before the verdict: the scan is safe on the bus" in out
    with connect(redis_url, name="test") as client:
        ended = find_scan(client, uid).ended
    assert ended is not None
    assert ended.end_reason is EndReason.SUCCESS
    assert points_on_bus(redis_url) == 3


def handles(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, as the kernel says."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (caught,) = [line for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_a_gateway_at_once(
    redis_url: str, number: signal.Signals
) -> None:
    """Redis does not answer, so that nothing ends in order."""
    with (
        connect(redis_url, name="test") as client,
        SimulatedSender("tcp://127.0.0.1:*") as detector,
    ):
        gateway = started(redis_url, detector.address, *EIGER)
        send(detector, SeriesV2(1), range(3))
        wait_until(lambda: points_on_bus(redis_url) == 3)
        client.execute_command("CLIENT", "PAUSE", "600000", "WRITE")
        try:
            gateway.send_signal(signal.SIGTERM)
            wait_until(lambda: not handles(gateway, signal.SIGTERM))
            gateway.send_signal(number)
            gateway.communicate(timeout=TIMEOUT_S)
        finally:
            client.execute_command("CLIENT", "UNPAUSE")
            gateway.kill()
    assert gateway.returncode in {SIGNALS[number], -number}


def test_what_redis_lacks_at_the_end_is_sent_when_it_is_back(
    server: PrivateRedis,
) -> None:
    """It comes back empty, and nothing waits in a spool."""
    given = Paused([*map(given_frame, range(5)), SeriesEnded("1")], 4)
    gate = Gate(given, server.url, once=True)
    wait_until(lambda: gate.runner.totals.frames == 4)
    server.kill()
    given.go_on.set()
    wait_until(lambda: str(gate.runner.doing) == "waiting until all is on the bus")
    server.start()
    report = gate.report()
    assert report.failed == {}
    assert points_on_bus(server.url) == 5
    with connect(server.url, name="test") as client:
        assert find_scan(client, report.series[0][0]).ended is not None


class Paused(GivenMessages):
    """Gives some messages, and the rest when it is told to go on."""

    def __init__(self, messages: list[Message], n_before: int) -> None:
        super().__init__(messages)
        self.go_on = threading.Event()
        self._n_before = n_before

    def receive(self, timeout_s: float) -> RawMessage | None:
        if not self._n_before and not self.go_on.wait(timeout_s):
            return None
        self._n_before = max(0, self._n_before - 1)
        return super().receive(timeout_s)
