"""The command as a user runs it: a process, its output and its exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from scanbus.schemas import VerdictWord
from tests.support.raw_publisher import RawScan

pytestmark = pytest.mark.redis

Run = Callable[..., subprocess.CompletedProcess[str]]
SCANBUS = (sys.executable, "-c", "import sys, scanbus.cli as c; sys.exit(c.main())")
DEADLINE_S = 30


@pytest.fixture
def environment(redis_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "SCANBUS_REDIS": redis_url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def start(
        *arguments: str, wrapper: tuple[str, ...] = SCANBUS
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*wrapper, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return start


@pytest.fixture
def raw(redis_url: str) -> Iterator[RawScan]:
    scan = RawScan(redis_url, number=12, title="ascan th 0 1 10 0.1").prepare()
    scan.send_group(0, 5)
    scan.send("hits", {"hits": [np.arange(3.0)]})
    scan.send_frames(0, 4)
    yield scan
    scan.close()


def test_ls_lists_scans_for_eyes_and_for_programs(run: Run, raw: RawScan) -> None:
    raw.end()
    raw.judge(VerdictWord.PARTIAL)

    table = run("ls")
    assert table.returncode == 0
    row = table.stdout.splitlines()[1]
    for part in ("12", raw.uid[:8], "ascan th", "hg123/sample/d1", "partial", "1-5"):
        assert part in row

    listed = json.loads(run("ls", "--json", "--limit", "1").stdout)
    assert [scan["uid"] for scan in listed] == [raw.uid]
    assert listed[0]["points"]["th"] == 5
    assert listed[0]["verdict"] == "partial"


def test_ls_shows_any_title_in_any_locale(
    run: Run, environment: dict[str, str], redis_url: str
) -> None:
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    scan = RawScan(redis_url, number=7, title="temp\N{DEGREE SIGN} \u2026").prepare()
    done = run("ls")
    scan.close()
    assert done.returncode == 0
    assert "temp" in done.stdout


def test_ls_of_an_empty_bus(run: Run) -> None:
    done = run("ls")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no scans" in done.stderr
    assert json.loads(run("ls", "--json").stdout) == []


def test_ls_needs_no_hdf5(run: Run, raw: RawScan) -> None:
    without = (
        "import sys; sys.modules.update(h5py=None, hdf5plugin=None, fabio=None);"
        "import scanbus.cli as c; sys.exit(c.main())"
    )
    python = (sys.executable, "-c", without)
    assert raw.uid[:8] in run("ls", wrapper=python).stdout
    refused = run("check", "x.h5", wrapper=python)
    assert refused.returncode == 1
    assert "pip install 'scanbus[writer]'" in refused.stderr


def test_tail_prints_values_until_the_scan_ends(run: Run, raw: RawScan) -> None:
    raw.end()
    done = run("tail", "last", "--from-start")
    assert done.returncode == 0
    assert "th [0-4] 0 0.5 1 1.5 2" in done.stdout
    assert "label [0-4] 'point 0'" in done.stdout
    assert "hits [0] (0 1 2)" in done.stdout
    assert "eiger [0-3] min 0 max 3 mean 1.5 shape (4, 16, 12)" in done.stdout
    assert "ended, SUCCESS" in done.stderr

    lines = run("tail", raw.uid[:6], "th", "--from-start", "--json").stdout.splitlines()
    assert json.loads(lines[0])["values"] == [0, 0.5, 1, 1.5, 2]
    over = run("tail", "12")
    assert (over.returncode, over.stdout) == (0, "")
    assert "--from-start" in over.stderr


def test_tail_of_a_live_scan_shows_values_as_they_come_and_obeys_ctrl_c(
    raw: RawScan, environment: dict[str, str]
) -> None:
    arguments = [*SCANBUS, "tail", "last", "th", "--from-start"]
    with subprocess.Popen(
        arguments,
        # Should a signal end it, it says where each thread was.
        env=environment | {"PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("th [0-4]")
        raw.send_group(5, 6)
        assert process.stdout.readline() == "th [5] 2.5\n"
        process.send_signal(signal.SIGINT)
        exit_code = process.wait(DEADLINE_S)
        complaint = process.stderr.read()
    assert exit_code == 130, complaint
    assert "interrupted" in complaint
    assert "Traceback" not in complaint


def test_status_names_what_is_missing(run: Run, raw: RawScan) -> None:
    done = run("status")
    assert done.returncode == 0
    assert "none alive" in done.stdout
    assert raw.uid in done.stdout
    assert json.loads(run("status", "--json").stdout)["n_scans"] == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["ls", "--redis", "redis://127.0.0.1:1"], 1, "does not answer"),
        (["status", "--redis", "redis://127.0.0.1:1"], 1, "does not answer"),
        (["tail", "last", "--redis", "unix:///nowhere"], 1, "does not answer"),
        (["ls", "--redis", "nonsense"], 1, "not an address"),
        (["tail", "zzz"], 1, "scan 'zzz' is not on this bus"),
        (["tail", "last", "nothing"], 1, "no channel 'nothing'"),
        (["tail", "last", "th", "--timeout-s", "0.1"], 1, "gave up"),
        (["tail", "last", "--nonsense"], 1, "No such option"),
    ],
)
@pytest.mark.usefixtures("raw")
def test_bad_input_gets_one_sentence_and_the_right_exit_code(
    arguments: list[str], exit_code: int, sentence: str, run: Run
) -> None:
    done = run(*arguments)
    assert done.returncode == exit_code
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_interrupted_scan_is_partial(run: Run, redis_url: str) -> None:
    RawScan(redis_url, heartbeat_s=0.01).prepare().close()
    done = run("tail", "last")
    assert done.returncode == 2
    assert "interrupted" in done.stderr


def test_ctrl_c_while_the_command_is_loaded_is_no_traceback() -> None:
    program = """
import signal, sys
from scanbus.cli import main

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "scanbus.cli.commands.tail":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
sys.argv = ["scanbus", "tail"]
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "scanbus: interrupted; what was done so far is kept\n"
