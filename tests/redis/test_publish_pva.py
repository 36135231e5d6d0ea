"""``scanbus publish pva`` as a process: simulated, and killed in the middle."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.store import announcements, connect, find_scan
from scanbus.schemas import EndReason
from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from tests.support.roots import made_root
from tests.support.waiting import wait_until
from tests.support.writers import final_verdict

epics = pytest.importorskip("scanbus.publisher.gateways.epics")

pytestmark = pytest.mark.redis

TIMEOUT_S = 60


def started(
    url: str, conf: Mapping[str, str], *arguments: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scanbus.cli", "publish", "pva", "T:IMAGE", *arguments],
        env={**os.environ, **conf, "SCANBUS_REDIS": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def scans_on(url: str) -> list[str]:
    with connect(url, name="test") as client:
        return [
            each.document.scan.uid for each in announcements(client) if each.document
        ]


def n_frames(url: str) -> int:
    with Subscriber(url) as subscriber:
        uids = scans_on(url)
        if not uids:
            return 0
        scan = subscriber.scan(uids[-1])
        # Those that have their values too: what one channel lacks dies with a gateway.
        of_images = [name for name in scan.channels if name.startswith("cam")]
        return min(map(scan.length, of_images), default=0)


def test_a_simulated_ioc_becomes_a_scan(redis_url: str, free_port: int) -> None:
    conf = {
        "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_BROADCAST_PORT": str(free_port),
        "EPICS_PVAS_BROADCAST_PORT": str(free_port),
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
    }
    options = ("--frames", "20", "--pv", "energy=T:ENERGY")
    ioc = started(redis_url, conf, "--simulate", "--rate", "50", *options)
    gateway = started(redis_url, conf, "--once", "--detector", "cam", *options)
    out, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE, err
    assert "20 frames published, 0 missing" in out
    _, err = ioc.communicate(timeout=TIMEOUT_S)
    assert ioc.returncode == ExitCode.COMPLETE, err
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(scans_on(redis_url)[0])
        assert scan.read("cam").shape == (20, 1024, 1024)
        assert scan.read("energy").tolist() == [1.0]


@pytest.mark.parametrize("given", ["ccd=T:X", "ccd_exposure=T:X", "CCD:Exposure"])
def test_a_pv_cannot_have_a_channel_of_the_detector(given: str) -> None:
    """Else the series fails at its first image, and all its images are lost."""
    with pytest.raises(ConfigurationError, match="those of the detector"):
        epics.channels_of([given], "ccd")
    assert list(epics.channels_of(["ccd2_exposure=T:X"], "ccd")) == ["ccd2_exposure"]


def test_after_a_kill_the_series_goes_on_in_the_same_scan(
    redis_url: str, tmp_path: Path
) -> None:
    with epics.SimulatedIoc("T:IMAGE", {"T:ENERGY": 12.4}, is_isolated=True) as ioc:
        options = (
            *("--detector", "cam", "--spool", str(tmp_path / "spool")),
            *("--pv", "energy=T:ENERGY"),
        )
        # Long: on a busy machine it would end the series before it is killed.
        gateway = started(redis_url, ioc.conf, "--idle", "60", *options)
        assert ioc.wait_for_client(20.0)
        for number in range(3, 8):
            send(ioc, number)
        wait_until(lambda: n_frames(redis_url) == 5)
        gateway.kill()
        gateway.communicate(timeout=TIMEOUT_S)
        send(ioc, 8)  # Nobody takes it, as the next one comes.
        # As if taken just before it is connected, however long it takes to start.
        send(ioc, 9, taken=time.time() + TIMEOUT_S)
        gateway = started(redis_url, ioc.conf, "--once", "--idle", "8", *options)
        wait_until(lambda: n_frames(redis_url) >= 7)
        for number in range(10, 13):
            send(ioc, number)
        gateway.communicate(timeout=TIMEOUT_S)
    (uid,) = scans_on(redis_url)
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path / "root")),
        once=True,
    )
    ledger = final_verdict(redis_url, uid).channels["cam"]
    assert ledger.missing == ((5, 6),)
    with connect(redis_url, name="test") as client:
        notes = " | ".join(each.note for each in find_scan(client, uid).updates)
    assert "goes on with frame 8" in notes
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(uid)
        assert scan.read("energy").tolist() == [12.4, 12.4]
        frames = scan.read("cam", 6, 10)
    np.testing.assert_array_equal(frames[:, 0, 0], range(9, 13))


def test_after_a_kill_a_series_without_more_images_ends(
    redis_url: str, tmp_path: Path
) -> None:
    with epics.SimulatedIoc("T:IMAGE", is_isolated=True) as ioc:
        options = ("--detector", "cam", "--idle", "6")
        gateway = started(redis_url, ioc.conf, *options)
        assert ioc.wait_for_client(20.0)
        send(ioc, 0)
        wait_until(lambda: n_frames(redis_url) == 1)
        gateway.kill()
        gateway.communicate(timeout=TIMEOUT_S)
        gateway = started(redis_url, ioc.conf, "--once", *options)
        _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE, err
    (uid,) = scans_on(redis_url)
    with connect(redis_url, name="test") as client:
        ended = find_scan(client, uid).ended
    assert ended is not None
    assert ended.end_reason is EndReason.SUCCESS


def send(ioc: Any, number: int, *, taken: float | None = None) -> None:
    ioc.send(number, np.full((20, 30), number, "u2"), taken=taken)
    time.sleep(0.02)
