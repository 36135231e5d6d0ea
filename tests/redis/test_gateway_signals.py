"""Signals while ``--once`` waits for a verdict, and second ones."""

import signal
import subprocess
from pathlib import Path

import pytest

from scanbus.bus.store import beat_writer, connect, find_scan
from scanbus.publisher.gateways.dectris import SimulatedSender
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
