"""``scanbus publish dectris`` as a process: simulated, stopped, killed, misused."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import announcements, connect, find_scan
from scanbus.cli import main
from scanbus.publisher.gateways.dectris import SimulatedSender, simulate_series
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.wire.sockets import ZmqSource
from scanbus.schemas import EndReason
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from tests.support.gateway_process import wait_alive
from tests.support.waiting import wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

TIMEOUT_S = 60


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "scanbus.cli", "publish", "dectris", *arguments]


def started(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        env={**os.environ, "SCANBUS_REDIS": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def points_on_bus(url: str) -> int:
    """Return the points of the newest scan's detector; 0 if there is no scan."""
    with Subscriber(url) as subscriber:
        uids = scans_on(url)
        if not uids:
            return 0
        scan = subscriber.scan(uids[-1])
        return scan.length("eiger") if "eiger" in scan.channels else 0


def scans_on(url: str) -> Sequence[str]:
    with connect(url, name="test") as client:
        return [
            each.document.scan.uid for each in announcements(client) if each.document
        ]


@pytest.mark.parametrize("stream", ["v1", "v2"])
def test_a_simulated_detector_becomes_a_scan(
    redis_url: str, free_port: int, stream: str
) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    options = ("--simulate", "--frames", "20", "--stream", stream)
    detector = started(redis_url, address, *options)
    gateway = started(redis_url, address, "--once", "--detector", "eiger")
    out, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE, err
    assert "20 frames published, 0 missing" in out
    out, err = detector.communicate(timeout=TIMEOUT_S)
    assert detector.returncode == ExitCode.COMPLETE, err
    assert "0 messages not taken" in out
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(scans_on(redis_url)[0])
        assert scan.read("eiger").shape == (20, 512, 1030)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_series_in_order(
    redis_url: str, number: signal.Signals
) -> None:
    with SimulatedSender("tcp://127.0.0.1:*") as detector:
        gateway = started(redis_url, detector.address, "--detector", "eiger")
        send(detector, SeriesV2(1), range(5))
        wait_until(lambda: points_on_bus(redis_url) == 5)
        gateway.send_signal(number)
        _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE, err
    with connect(redis_url, name="test") as client:
        ended = find_scan(client, scans_on(redis_url)[0]).ended
    assert ended is not None
    assert ended.end_reason is EndReason.USER_ABORT
    assert ended.text == f"the gateway was stopped by {number.name}"


@pytest.mark.parametrize("place", ["spool", "bus"])
def test_after_a_kill_the_series_goes_on_in_the_same_scan(
    redis_url: str, tmp_path: Path, place: str
) -> None:
    options = ["--detector", "eiger"]
    options += ["--spool", str(tmp_path / "spool")] if place == "spool" else []
    series = SeriesV2(1)
    with SimulatedSender("tcp://127.0.0.1:*") as detector:
        gateway = started(redis_url, detector.address, *options)
        detector.send(series.header())
        send(detector, series, range(5))
        wait_until(lambda: points_on_bus(redis_url) == 5)
        gateway.kill()
        gateway.communicate(timeout=TIMEOUT_S)
        gateway = started(redis_url, detector.address, "--once", *options)
        wait_alive(redis_url, gateway.pid)
        send(detector, series, range(7, 10))
        detector.send(series.end())
        gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE
    (uid,) = scans_on(redis_url)
    with Subscriber(redis_url) as subscriber:
        frames = subscriber.scan(uid).read("eiger", 0, 5)
        rest = subscriber.scan(uid).read("eiger", 7, 10)
    np.testing.assert_array_equal(frames[:, 0, 0], range(5))
    np.testing.assert_array_equal(rest[:, 0, 0], range(7, 10))


def test_a_gateway_tells_systemd_of_itself_and_logs_verdicts(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service, nobody waits for the verdict of a series."""
    series = SeriesV2(1)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        SimulatedSender("tcp://127.0.0.1:*") as detector,
        writer(redis_url, tmp_path / "root"),
    ):
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        gateway = started(redis_url, detector.address, "--detector", "eiger")
        said = {systemd.recv(100).decode() for _ in range(2)}
        assert said == {"READY=1", "WATCHDOG=1"}
        detector.send(series.header())
        send(detector, series, range(5))
        detector.send(series.end())
        assert gateway.stderr is not None
        judged = next(line for line in gateway.stderr if "series_judged" in line)
        wait_until(lambda: systemd.recv(100) == b"WATCHDOG=1")
        gateway.send_signal(signal.SIGTERM)
        _, err = gateway.communicate(timeout=TIMEOUT_S)
        wait_until(lambda: systemd.recv(100) == b"STOPPING=1")
    assert "series_judged" not in err
    assert scans_on(redis_url)[0] in judged
    assert "complete" in judged


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "tcp://host:x"])
def test_a_bad_address_is_a_sentence(redis_url: str, address: str) -> None:
    gateway = started(redis_url, address)
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.USAGE
    assert err.splitlines()[-1].startswith("scanbus: setting address:")
    assert "expected such as tcp://HOST:9999" in err


@pytest.mark.parametrize(
    ("kind", "address", "option"),
    [
        ("dectris", "tcp://127.0.0.1:1", ["--frames", "3"]),
        ("dectris", "tcp://127.0.0.1:1", ["--rate", "3"]),
        ("dectris", "tcp://127.0.0.1:1", ["--stream", "v2"]),
        ("zmq", "tcp://127.0.0.1:1", ["--frames", "3"]),
        ("zmq", "tcp://127.0.0.1:1", ["--convention", "maxiv"]),
        ("pva", "T:IMAGE", ["--rate", "3"]),
    ],
)
def test_options_of_a_simulated_sender_are_refused_without_one(
    kind: str, address: str, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who forgets --simulate would wait for ever."""
    assert main(["publish", kind, address, *option]) == ExitCode.USAGE
    assert f"{option[0]} needs --simulate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name"), [("proposal", "../x"), ("dataset", ""), ("detector", "")]
)
def test_names_that_no_scan_can_have_are_refused_before_a_series(
    redis_url: str, option: str, name: str
) -> None:
    """Else each series would be lost when it begins."""
    gateway = started(redis_url, "tcp://127.0.0.1:1", f"--{option}", name)
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.USAGE
    assert err.splitlines()[-1].startswith(f"scanbus: setting {option}: ")


@pytest.mark.parametrize("rate", ["0", "-1", "nan"])
def test_a_simulated_sender_has_a_rate(
    rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["publish", "dectris", "tcp://nonsense", "--simulate", "--rate", rate]
    assert main(command) == ExitCode.USAGE
    assert "'--rate': must be greater" in capsys.readouterr().err


def test_once_without_a_series_has_no_good_exit_code(redis_url: str) -> None:
    with SimulatedSender("tcp://127.0.0.1:*") as detector:
        gateway = started(redis_url, detector.address, "--once")
        wait_alive(redis_url, gateway.pid)
        gateway.send_signal(signal.SIGTERM)
        out, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.FAILED, err
    assert "no series came" in out


def test_a_second_gateway_is_told_where_the_first_one_is(redis_url: str) -> None:
    with SimulatedSender("tcp://127.0.0.1:*") as detector:
        first = started(redis_url, detector.address)
        wait_alive(redis_url, first.pid)
        second = started(redis_url, detector.address)
        _, err = second.communicate(timeout=TIMEOUT_S)
        first.kill()
        first.communicate(timeout=TIMEOUT_S)
    assert second.returncode == ExitCode.USAGE
    assert "gateway_waiting" in err
    said = err.splitlines()[-1]
    assert f"on {socket.gethostname()}, pid {first.pid}. Each of them" in said


def take_one(address: str) -> None:
    source = ZmqSource(address)
    while source.receive(1.0) is None:
        pass
    source.close()


def test_a_simulated_detector_whose_receiver_is_gone_ends_in_time() -> None:
    """Its buffer is full once, not again for each frame."""
    with SimulatedSender("tcp://127.0.0.1:*", buffer=1) as detector:
        receiver = threading.Thread(target=take_one, args=(detector.address,))
        receiver.start()
        began = time.monotonic()
        simulate_series(detector, n_frames=30, shape=(512, 512), rate_hz=100)
        simulated_s = time.monotonic() - began
        receiver.join()
        detector.close(0.0)
    assert detector.dropped > 20
    assert simulated_s < 15


def send(detector: SimulatedSender, series: SeriesV2, numbers: range) -> None:
    for number in numbers:
        frame = np.full((20, 30), number, "<u2")
        assert detector.send(series.image(number, frame))
