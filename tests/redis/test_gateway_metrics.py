"""Metrics of a gateway: its queue, what became of frames, and what it waits for."""

import urllib.request
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import connect
from scanbus.publisher.gateways.runner import ScanNames, metrics_served
from scanbus.publisher.gateways.runner.series_counts import SeriesCounts
from scanbus.schemas.errors import ConfigurationError
from tests.support.gate import NAMES, Gate
from tests.support.gateway_senders import SENDERS
from tests.support.waiting import wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

FRAME = np.zeros((40, 60), "<u2")
DEPTH = "scanbus_gateway_queue_messages"


def metrics_of(port: int) -> dict[str, float]:
    address = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(address, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("scanbus")
    }


def test_while_redis_is_away_a_gateway_receives_and_says_what_it_waits_for(
    redis_url: str, tmp_path: Path
) -> None:
    big = np.random.default_rng(0).integers(0, 2**16, (256, 512)).astype("<u2")
    names = ScanNames("eiger", {**NAMES.scan, "quota_bytes": 4 * 2**20})
    sender = SENDERS["dectris-v2"]()
    gate = Gate(sender, redis_url, names)
    sender.start(1, 60)
    sender.frame(1, 0, big)
    wait_until(lambda: gate.n_frames == 1)
    with (
        connect(redis_url, name="test") as client,
        metrics_served(gate.runner, 0) as port,
    ):
        client.execute_command("CLIENT", "PAUSE", "600000", "WRITE")
        try:
            for number in range(1, 60):
                sender.frame(1, number, big)
            wait_until(lambda: metrics_of(port)[DEPTH] > 20)
            found = metrics_of(port)
        finally:
            client.execute_command("CLIENT", "UNPAUSE")
    assert found['scanbus_gateway_doing{what="sending"}'] == 1
    assert found["scanbus_gateway_queue_bytes"] > 20 * 2**17
    assert found["scanbus_gateway_queue_full_seconds"] == 0
    with writer(redis_url, tmp_path):
        wait_until(lambda: gate.n_frames == 60)
        report = gate.stop()
    sender.close()
    assert report.series[0][1] == SeriesCounts(frames=60)


def test_metrics_have_the_queue_and_what_became_of_frames(
    redis_url: str,
) -> None:
    sender = SENDERS["dectris-v2"]()
    gate = Gate(sender, redis_url)
    sender.start(1, 9)
    for number in (0, 1, 1, 3):
        sender.frame(1, number, FRAME)
    sender.end(1)
    sender.rubbish()
    wait_until(lambda: gate.runner.so_far.refused == 1)
    with metrics_served(gate.runner, 0) as port:
        address = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        with pytest.raises(ConfigurationError, match=f"metrics_port: {port}: "):
            with metrics_served(gate.runner, port):
                pass
    gate.stop()
    sender.close()
    for line in (
        "scanbus_gateway_queue_bytes 0.0",
        'scanbus_gateway_frames_total{fate="sent"} 3.0',
        'scanbus_gateway_frames_total{fate="missing"} 6.0',
        'scanbus_gateway_frames_total{fate="repeated"} 1.0',
        "scanbus_gateway_messages_refused_total 1.0",
        "scanbus_gateway_series_total 1.0",
    ):
        assert line in text.splitlines()
