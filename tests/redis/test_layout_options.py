"""Which layouts a ``publish`` command asks for, and what NXmx changes in a scan."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.store import announcements, connect, find_scan
from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import ScanPrepared, VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import WriterSettings, run_writer
from tests.support.headered_images import written_cbf
from tests.support.roots import made_root
from tests.support.writers import final_verdict

pytestmark = pytest.mark.redis

TIMEOUT_S = 60
SHAPE = (16, 20)
ASKED = ("--layout", "nxmx", "--layout", "nxtomo")
GATEWAYS = ("--once", "--no-wait")
COMMANDS = ("files", "dectris", "zmq", "watch", "pva")


def publish(url: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scanbus.cli", "publish", *arguments],
        env={**os.environ, **environment, "SCANBUS_REDIS": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def over(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == ExitCode.COMPLETE, err


def prepared_on(url: str) -> ScanPrepared:
    """Return how the only scan of a bus was prepared."""
    with connect(url, name="test") as client:
        (one,) = announcements(client)
        assert one.document is not None
        prepared = find_scan(client, one.document.scan.uid).prepared
    assert prepared is not None
    return prepared


def simulated(url: str, kind: str, address: str, **environment: str) -> None:
    """Run a gateway with its simulated sender."""
    sender = publish(url, kind, address, "--simulate", "--frames", "5", **environment)
    more = ("--frames", "5") if kind == "pva" else ()
    over(publish(url, kind, address, *GATEWAYS, *more, *ASKED, **environment))
    over(sender)


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_that_opens_scans_passes_layouts_on(
    redis_url: str, tmp_path: Path, free_port: int, kind: str
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        written_cbf(number, folder / f"run_{number}.cbf")
    if kind == "files":
        over(publish(redis_url, kind, str(folder), *ASKED))
    elif kind == "watch":
        state = ("--state", str(tmp_path / "state"), "--frames", "3")
        over(publish(redis_url, kind, str(folder), *GATEWAYS, *state, *ASKED))
    elif kind == "pva":
        if find_spec("p4p") is None:
            pytest.skip("p4p is not installed")
        simulated(
            redis_url,
            kind,
            "T:IMAGE",
            EPICS_PVA_ADDR_LIST="127.0.0.1",
            EPICS_PVA_AUTO_ADDR_LIST="NO",
            EPICS_PVA_BROADCAST_PORT=str(free_port),
            EPICS_PVAS_BROADCAST_PORT=str(free_port),
            EPICS_PVAS_INTF_ADDR_LIST="127.0.0.1",
        )
    else:
        simulated(redis_url, kind, f"tcp://127.0.0.1:{free_port}")
    assert prepared_on(redis_url).layouts == ("nxmx", "nxtomo")


@pytest.mark.parametrize("kind", COMMANDS)
def test_what_is_no_name_of_a_layout_is_refused_before_anything_starts(
    redis_url: str, kind: str
) -> None:
    process = publish(redis_url, kind, "somewhere", "--layout", "../a")
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode not in (ExitCode.COMPLETE, None)
    assert "Traceback" not in err
    words = " ".join(err.replace("│", " ").split())
    assert "'../a' is no name of a layout" in words


# ------------------------------------------------------------ what NXmx needs of chunks


def frames_per_chunk(url: str, layouts: Sequence[str], **declared: Any) -> int:
    with Publisher(url, close_timeout_s=0.0) as publisher:
        with publisher.scan(proposal="p1", layouts=layouts) as scan:
            how: dict[str, Any] = {"shape": SHAPE, "dtype": "uint16", **declared}
            scan.detector("cam", **how)
            scan.send("cam", np.zeros((2, *how["shape"]), how["dtype"]))
        wait_sent(url, [scan.uid])
    (lane,) = prepared_on(url).lanes
    return lane.points_per_chunk


def test_small_frames_are_a_chunk_each_if_a_scan_asks_for_nxmx(redis_url: str) -> None:
    assert frames_per_chunk(redis_url, ("esrf", "nxmx")) == 1


@pytest.mark.parametrize(
    ("layouts", "declared"),
    [((), {}), (("nxtomo",), {}), (("nxmx",), {"shape": (16, 20, 3)})],
)
def test_other_small_frames_share_a_chunk(
    redis_url: str, layouts: Sequence[str], declared: dict[str, Any]
) -> None:
    assert frames_per_chunk(redis_url, layouts, **declared) > 1


def test_a_program_that_says_how_many_frames_a_chunk_has_is_obeyed(
    redis_url: str,
) -> None:
    assert frames_per_chunk(redis_url, ("nxmx",), points_per_chunk=4) == 4


# ------------------------------------------------------- what the verdict says of it


def notes_of(url: str, tmp_path: Path, **declared: Any) -> str:
    """Write a scan with a writer whose default is nxmx; return the verdict's notes."""
    with Publisher(url, close_timeout_s=0.0) as publisher:
        with publisher.scan(proposal="p1") as scan:
            how: dict[str, Any] = {"shape": SHAPE, "dtype": "uint16", **declared}
            scan.detector("cam", **how)
            scan.send("cam", np.zeros((2, *SHAPE), how["dtype"]))
        wait_sent(url, [scan.uid])
    root = made_root(tmp_path / "root")
    run_writer(WriterSettings.load(redis=url, root=root, layouts=("nxmx",)), once=True)
    verdict = final_verdict(url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    return "\n".join(verdict.notes)


def test_frames_that_share_chunks_as_only_the_writer_wants_nxmx_are_told(
    redis_url: str, tmp_path: Path
) -> None:
    said = notes_of(redis_url, tmp_path)
    assert "neggia cannot read frames of cam" in said
    assert "share a chunk" in said
    assert "did not ask for nxmx" in said


@pytest.mark.parametrize(
    "declared",
    [{"dtype": "float32"}, {"dtype": "uint64"}, {"codec": "bitshuffle-zstd"}],
)
def test_types_and_codecs_that_neggia_does_not_know_are_told(
    redis_url: str, tmp_path: Path, declared: dict[str, str]
) -> None:
    said = notes_of(redis_url, tmp_path, points_per_chunk=1, **declared)
    (value,) = declared.values()
    assert "neggia cannot read frames of cam: they are" in said
    assert value in said
    assert "share a chunk" not in said


def test_nothing_is_told_of_frames_that_neggia_reads(
    redis_url: str, tmp_path: Path
) -> None:
    said = notes_of(redis_url, tmp_path, points_per_chunk=1)
    assert "neggia" not in said


def test_a_scan_lacks_what_no_program_said(redis_url: str, tmp_path: Path) -> None:
    said = notes_of(redis_url, tmp_path, points_per_chunk=1)
    pair = "scan0001_master.h5 and scan0001.nxs"
    assert f"layout nxmx: {pair} have no definition, as the scan lacks" in said
    assert "instrument/beam/incident_wavelength" in said
    assert "/distance" in said
