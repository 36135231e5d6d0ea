"""An entry that kills every worker: its points are refused, all others written."""

import json
import os
import sys
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (h5py reads the frames with it)
import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.support.writers import writer

pytestmark = pytest.mark.redis

# Stands for a library in C that has a flaw. Python imports a module of that name at its
# start, so whatever runs with it has the flaw: the writer and its children. It strikes
# the thread that calls, as a flaw does: a signal to the process is handled by another
# thread, which prints all stacks while they change and can die of SIGBUS then.
SITECUSTOMIZE = """
import signal
from scanbus.bus import protocol
decode_block = protocol.decode_block
def deadly(channel, block, *rest):
    if b"\\x00\\x00\\xf8\\x7f" in bytes(block):
        signal.raise_signal(signal.SIGSEGV)
    return decode_block(channel, block, *rest)
protocol.decode_block = deadly
"""
N_FRAMES = 30


def deaths(said: str) -> list[str]:
    """Return how the workers of a writer died."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line["how"] for line in lines if line["event"] == "worker_died"]


def test_an_entry_that_kills_every_worker_is_quarantined_and_the_rest_written(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaw, root = tmp_path / "flaw", tmp_path / "root"
    flaw.mkdir()
    (flaw / "sitecustomize.py").write_text(SITECUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(flaw), *sys.path]))
    monkeypatch.setenv("SCANBUS_RETRY_S", "0.1")
    frames = np.arange(N_FRAMES * 64, dtype=np.uint16).reshape(N_FRAMES, 8, 8)
    with Publisher(redis_url) as publisher:
        with publisher.scan(session="20260101") as scan:
            scan.channel("good")
            scan.channel("bad")
            # Its segments are published while workers die of the other lane.
            scan.detector("camera", shape=(8, 8), dtype="uint16", points_per_chunk=1)
            for frame in frames:
                scan.send("camera", frame)
            scan.send("good", np.arange(9.0))
            for values in ([0.0, 1.0], [np.nan], [3.0, 4.0]):
                scan.send("bad", np.array(values))
                scan.flush()
        with writer(redis_url, root, "--once") as one:
            code = one.wait()
        verdict = scan.verdict(20)
    assert (verdict.verdict, code) == (VerdictWord.PARTIAL, 2)
    # The fourth attempt has a sandbox. One given to a worker that is dying counts, too.
    found = deaths(one.said)
    assert 1 <= len(found) <= 3, one.said
    assert set(found) == {"SIGSEGV"}
    bad = verdict.channels["bad"]
    assert (bad.refused, bad.missing, bad.written) == (((2, 3),), ((2, 3),), 4)
    assert verdict.channels["good"].is_complete
    assert verdict.channels["camera"].is_complete
    with h5py.File(root / verdict.master) as file:
        found = file["1.1/measurement/bad"][()]
        np.testing.assert_array_equal(found[[0, 1, 3, 4]], [0.0, 1.0, 3.0, 4.0])
        np.testing.assert_array_equal(file["1.1/measurement/camera"], frames)
