"""`scanbus demo`: one command, and somebody has seen it work."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 (registers the filters that the frames need)
import numpy as np
import psutil
import pytest

from scanbus.cli.demo.progress_report import parse_report
from scanbus.cli.demo.summary import file_tree, nexus_tree
from scanbus.publisher.simulation import SimulatedExperiment

pytestmark = [pytest.mark.acceptance, pytest.mark.redis, pytest.mark.timeout(180)]

N_FRAMES = 12


def demo(folder: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "scanbus.cli",
        "demo",
        "--out",
        str(folder),
        *arguments,
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    run = subprocess.run(
        demo(folder, "--frames", str(N_FRAMES)),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    return folder, run.stdout


def _master(folder: Path) -> Path:
    (master,) = folder.glob("demo/**/scan0001/scan0001.h5")
    return master


def test_the_master_holds_what_was_simulated(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    experiment = SimulatedExperiment(seed=7, step_deg=0.1)
    with h5py.File(_master(folder), "r") as master:
        entry = master["1.1"]
        assert entry["end_reason"].asstr()[()] == "SUCCESS"
        frames = entry["measurement/eiger"]
        assert frames.shape == (N_FRAMES, 1062, 1028)
        for k in (0, N_FRAMES - 1):
            np.testing.assert_array_equal(frames[k], experiment.frame(k))
        np.testing.assert_array_equal(
            entry["measurement/xrf"][3], experiment.spectrum(3)
        )
        i0 = [experiment.counters(k)["i0"] for k in range(N_FRAMES)]
        np.testing.assert_array_equal(entry["measurement/i0"][()], i0)
        mask = entry["instrument/eiger/pixel_mask"][()]
        np.testing.assert_array_equal(mask, experiment.mask)
        assert entry["instrument/beam/incident_wavelength"].attrs["units"] == "angstrom"


def test_the_subscriber_drew_a_picture(finished: tuple[Path, str]) -> None:
    picture = finished[0] / "live.png"
    octets = picture.read_bytes()
    assert octets.startswith(b"\x89PNG\r\n")
    assert len(octets) > 100_000
    width, height = (int.from_bytes(octets[a : a + 4], "big") for a in (16, 20))
    assert width > 1000
    assert height > 600


def test_what_is_printed_names_files_verdict_and_picture(
    finished: tuple[Path, str],
) -> None:
    folder, printed = finished
    for expected in ("complete", "live.png", "scan0001.h5", "NXdetector", "eiger"):
        assert expected in printed
    assert f"{8 * N_FRAMES} of {8 * N_FRAMES} points" in printed
    assert str(_master(folder)) in printed


def test_the_first_command_to_try_next_works(finished: tuple[Path, str]) -> None:
    said = finished[1].partition("Commands to try next")[2]
    lines = [line.strip() for line in said.split("\n")]
    (check,) = [line for line in lines if " check " in line]
    run = subprocess.run(
        shlex.split(check), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr


def test_files_of_before_are_not_overwritten(tmp_path: Path) -> None:
    before = tmp_path / "out"
    before.mkdir()
    (before / "mine.txt").write_text("mine")
    run = subprocess.run(
        demo(before, "--frames", "2"),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert [path.name for path in before.iterdir()] == ["mine.txt"]
    assert _master(tmp_path / "out-2").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        demo(tmp_path / "out", "--frames", "300"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        family = _wait_for_family(process.pid)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def _wait_for_family(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = psutil.Process(pid).children(recursive=True)
        if sum("scanbus.cli.demo" in " ".join(_words(each)) for each in family) >= 3:
            time.sleep(1.0)
            return psutil.Process(pid).children(recursive=True)
        time.sleep(0.1)
    raise AssertionError("the three processes were not started in time")


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_a_dead_writer_is_a_sentence(tmp_path: Path) -> None:
    process = subprocess.Popen(
        demo(tmp_path / "out", "--frames", "300"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for child in _wait_for_family(process.pid):
            if "scanbus.cli.demo.writer" in _words(child):
                child.kill()
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 1
    assert "the demo's writer gave up: exit code -9" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("line", ["", "hello", "[]", '{"name": 1}', '{"done": "x"}'])
def test_what_is_no_report_is_ignored(line: str) -> None:
    assert parse_report(line) is None


def test_trees_are_drawn_from_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("12345")
    (tmp_path / ".hidden").write_text("x")
    tree = file_tree(tmp_path)
    assert [str(child.label) for child in tree.children] == ["sub/"]
    assert str(tree.children[0].children[0].label) == "a.txt  5 B"
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["entry/value"] = 3.5
        file["entry/gone"] = h5py.SoftLink("/nowhere")
        file["entry"].attrs["NX_class"] = "NXentry"
    entry = nexus_tree(tmp_path / "f.h5").children[0]
    assert str(entry.label) == "entry  NXentry"
    labels = {str(child.label) for child in entry.children}
    assert labels == {"value  3.5", "gone  broken link"}
