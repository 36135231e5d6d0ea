"""HDF5 after refused writes: the process goes on, and leaves without a crash."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mounts import small_disk

N_SEGMENTS = 40


def make_segments(folder: Path, seed: int, how: str, repository: Path) -> list[int]:
    """Return how many segments were given up, and how many files could not close."""
    command = [sys.executable, "-m", "tests.support.refused_writes"]
    done = subprocess.run(
        [*command, str(folder), str(seed), how, str(N_SEGMENTS)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(each) for each in done.stdout.split()]


@pytest.mark.parametrize("seed", range(3))
def test_segments_on_a_full_disk_are_given_up_without_a_trace(
    tmp_path: Path, repository: Path, seed: int
) -> None:
    with small_disk(tmp_path / "disk", "2m") as folder:
        n_refused, n_lost = make_segments(folder, seed, "full", repository)
    assert n_refused > N_SEGMENTS // 5
    assert n_lost == 0


@pytest.mark.parametrize("seed", range(3))
def test_files_that_cannot_be_closed_any_more_do_not_crash_the_process(
    tmp_path: Path, repository: Path, seed: int
) -> None:
    n_refused, n_lost = make_segments(tmp_path, seed, "limit", repository)
    assert n_refused > N_SEGMENTS // 5
    # The limit holds for the memory of a file that is given up, too.
    assert 0 < n_lost <= n_refused
