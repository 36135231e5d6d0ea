"""What single gateways over ZeroMQ do beyond the suite that all of them pass."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scanbus.bus.store import announcements, connect, find_scan
from scanbus.publisher.gateways.dectris import (
    DectrisGateway,
    RestConfiguration,
    SimulatedSender,
    served_configuration,
)
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.runner import Gateway, ScanNames
from scanbus.publisher.gateways.runner.messages import SeriesStarted
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.zmq import ZmqGateway
from scanbus.publisher.gateways.zmq.simulated_messages import ArrayFrames
from scanbus.schemas import EndReason, VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from tests.redis.test_gateways import frame, frames_in, notes_of, verdict_of, written
from tests.support.gate import NAMES, Gate
from tests.support.gateway_senders import ZmqSender, dectris_gateway
from tests.support.waiting import found_below, wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

TIMEOUT_S = 60


class OneSender:
    """A sender with a gateway of its own, for `Gate`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def gateway(self) -> Gateway:
        return self._gateway


def field_of(root: Path, name: str) -> Any:
    """Return the field of the detector with this name, in the only master."""
    (master,) = found_below(root, "scan0001.h5")
    with h5py.File(master) as file:
        return file[f"1.1/instrument/eiger/{name}"][()]


# ---------------------------------------------------------- configuration over REST


def test_a_missed_header_is_replaced_by_what_the_detector_tells(
    redis_url: str, tmp_path: Path
) -> None:
    config = {"count_time": 0.25, "nimages": 7, "ntrigger": 1}
    with (
        SimulatedSender("tcp://127.0.0.1:*") as sender,
        served_configuration("http://127.0.0.1:0", config) as address,
    ):
        describe = RestConfiguration(address).describe
        gateway = OneSender(DectrisGateway(sender.address))
        gate = Gate(gateway, redis_url, once=True, describe=describe)
        series = SeriesV1(4)
        for number in range(1, 5):
            sender.send(series.image(number, frame(number)))
        sender.send(series.end())
        report = gate.report()
    (uid, counts) = report.series[0]
    assert (counts.frames, counts.missing) == (4, 3)  # 0, 5 and 6
    assert "the configuration was read from the detector" in notes_of(redis_url, uid)
    written(redis_url, tmp_path)
    assert field_of(tmp_path, "count_time") == 0.25


@pytest.mark.parametrize("detail", ["none", "basic"])
def test_a_header_that_describes_nothing_is_completed(
    redis_url: str, tmp_path: Path, detail: Any
) -> None:
    with (
        SimulatedSender("tcp://127.0.0.1:*") as sender,
        served_configuration("http://127.0.0.1:0", {"count_time": 0.25}) as address,
    ):
        describe = RestConfiguration(address).describe
        gateway = OneSender(DectrisGateway(sender.address))
        gate = Gate(gateway, redis_url, once=True, describe=describe)
        series = SeriesV1(4, {"count_time": 0.5}, detail)
        for parts in (series.header(), series.image(0, frame(0)), series.end()):
            sender.send(parts)
        gate.report()
    written(redis_url, tmp_path)
    assert field_of(tmp_path, "count_time") == (0.25 if detail == "none" else 0.5)


def test_a_detector_that_does_not_answer_costs_no_frame(redis_url: str) -> None:
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        describe = RestConfiguration("http://127.0.0.1:1").describe
        gateway = OneSender(DectrisGateway(sender.address))
        gate = Gate(gateway, redis_url, once=True, describe=describe)
        series = SeriesV2(4)
        for number in range(4):
            sender.send(series.image(number, frame(number)))
        sender.send(series.end())
        report = gate.report()
    (uid, counts) = report.series[0]
    assert (counts.frames, report.refused, report.failed) == (4, 0, {})
    assert "does not tell the configuration" in notes_of(redis_url, uid)


def test_frames_that_name_no_series_end_with_the_one_that_does(redis_url: str) -> None:
    """Some firmware leaves the series out of its images; the header was missed."""
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        gate = Gate(OneSender(DectrisGateway(sender.address)), redis_url)
        for series in (4, 5):
            for number in range(3):
                parts = SeriesV1(series).image(number, frame(number))
                parts[0] = b'{"htype": "dimage-1.0", "frame": %d}' % number
                sender.send(parts)
            sender.send(SeriesV1(series).end())
        wait_until(lambda: len(gate.runner.so_far.series) == 2)
        report = gate.stop()
    assert [each.frames for _, each in report.series] == [3, 3]
    assert report.refused == 0


# ------------------------------------------------------------------- Jungfraujoch


def test_calibrations_are_fields_of_the_detector(
    redis_url: str, tmp_path: Path
) -> None:
    pedestal = np.arange(2400, dtype="<u2").reshape(40, 60)
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        gate = Gate(OneSender(ZmqGateway(sender.address)), redis_url, once=True)
        series = SeriesV2(4, {"number_of_images": 2}, channel="default")
        sender.send(series.header())
        sender.send(series.calibration("pedestal_G0", pedestal))
        for number in range(2):
            sender.send(series.image(number, frame(number)))
        sender.send(series.calibration("pedestal_G1", pedestal))
        sender.send(series.end())
        report = gate.report()
    assert report.refused == 1  # the late one
    assert "came after its first frame" in notes_of(redis_url, report.series[0][0])
    written(redis_url, tmp_path)
    np.testing.assert_array_equal(
        field_of(tmp_path, "calibration_pedestal_G0"), pedestal
    )


# ----------------------------------------------------------------- frames alone


def test_runs_of_frames_become_scans(redis_url: str, tmp_path: Path) -> None:
    """Numbers begin anywhere, as a camera that runs on counts."""
    messages = ArrayFrames()
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        gate = Gate(OneSender(ZmqGateway(sender.address, idle_s=1.0)), redis_url)
        for number in (1_234_567, 1_234_568, 1_234_570):
            sender.send(messages.image(number, frame(number)))
        wait_until(lambda: len(gate.runner.so_far.series) == 1)
        for number in (9_000_000, 9_000_001, 0, 1, 2):
            sender.send(messages.image(number, frame(number)))
        wait_until(lambda: gate.n_frames == 8)
        report = gate.stop()
    assert [(each.frames, each.missing) for _, each in report.series] == [
        (3, 1),
        (2, 0),
        (3, 0),
    ]
    with connect(redis_url, name="test") as client:
        ends = [find_scan(client, uid).ended for uid, _ in report.series]
    assert [end and end.end_reason for end in ends] == [
        EndReason.SUCCESS,
        EndReason.SUCCESS,
        EndReason.USER_ABORT,
    ]
    written(redis_url, tmp_path)
    np.testing.assert_array_equal(frames_in(tmp_path, 3), [frame(n) for n in range(3)])


# --------------------------------------------------------------------------- SUB


def test_what_a_publishing_sender_drops_is_named(
    redis_url: str, tmp_path: Path
) -> None:
    """Without a writer the gateway takes nothing; who publishes does not wait."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2**16, (300, 256, 512)).astype("<u2")
    sender = ZmqSender(dectris_gateway, SeriesV2, socket="sub")
    names = ScanNames("eiger", {**NAMES.scan, "quota_bytes": 4 * 2**20})
    gate = Gate(sender, redis_url, names, once=True, queue_messages=4)
    series = SeriesV2(1, {"number_of_images": len(frames)}, "none")
    try:
        sender.start(1, len(frames))
        dropped = [
            number
            for number, each in enumerate(frames)
            if not sender._sender.send(series.image(number, each), 0.0)
        ]
        assert 0 < len(dropped) < len(frames)
        ending = threading.Thread(target=sender.end, args=(1,))
        with writer(redis_url, tmp_path):
            ending.start()
            report = gate.report()
            ending.join()
            verdict = verdict_of(redis_url, report)
    finally:
        sender.close()
    counts = report.series[0][1]
    assert counts.frames == len(frames) - len(dropped)
    assert counts.missing == len(dropped)
    assert verdict.verdict is VerdictWord.PARTIAL
    missing = verdict.channels["eiger"].missing
    assert [n for first, stop in missing for n in range(first, stop)] == dropped


# ----------------------------------------------------------------------- processes


def started(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scanbus.cli", "publish", *arguments],
        env={**os.environ, "SCANBUS_REDIS": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("convention", ["array", "maxiv", "jungfraujoch"])
@pytest.mark.parametrize("socket", ["pull", "sub"])
def test_a_simulated_sender_becomes_a_scan(
    redis_url: str, free_port: int, convention: str, socket: str
) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    both = ("zmq", address, "--socket", socket)
    simulated = ("--simulate", "--frames", "20", "--convention", convention)
    sender = started(redis_url, *both, *simulated)
    gateway = started(redis_url, *both, "--once", "--detector", "eiger", "--idle", "2")
    out, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE, err
    assert "20 frames published, 0 missing" in out
    out, err = sender.communicate(timeout=TIMEOUT_S)
    assert sender.returncode == ExitCode.COMPLETE, err
    assert "0 messages not taken" in out
    with connect(redis_url, name="test") as client, Subscriber(redis_url) as bus:
        (announced,) = [each for each in announcements(client) if each.document]
        assert announced.document is not None
        scan = bus.scan(announced.document.scan.uid)
        assert scan.read("eiger").shape == (20, 512, 1030)


def test_a_simulated_detector_tells_its_configuration(
    redis_url: str, free_port: int
) -> None:
    address = f"http://127.0.0.1:{free_port}"
    arguments = ("tcp://127.0.0.1:*", "--simulate", "--rest", address, "--frames", "1")
    detector = started(redis_url, "dectris", *arguments)
    assert detector.stdout is not None
    try:
        assert detector.stdout.readline().strip() == f"configuration at {address}"
        described = RestConfiguration(address).describe(SeriesStarted("1"))
    finally:
        detector.kill()
        detector.communicate(timeout=TIMEOUT_S)
    assert described.n_frames == 1


def test_a_bad_rest_address_is_a_sentence(redis_url: str) -> None:
    gateway = started(redis_url, "dectris", "tcp://127.0.0.1:9", "--rest", "eiger")
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.USAGE
    assert err.splitlines()[-1].startswith("scanbus: setting rest: ")
