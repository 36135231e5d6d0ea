"""Steps that take long are reported; what hangs is named while it does."""

import time
from pathlib import Path

from structlog.testing import capture_logs

from scanbus.writer.steps import Steps, waiting

FILE = Path("/data/eiger_0000.h5")


def test_a_step_that_took_too_long_is_reported_when_it_ends() -> None:
    with capture_logs() as logged, Steps(slow_s=0).step("fsync", FILE):
        pass
    (line,) = logged
    assert (line["event"], line["step"], line["file"]) == (
        "slow_step",
        "fsync",
        str(FILE),
    )
    assert line["log_level"] == "warning"


def test_a_quick_step_is_not() -> None:
    steps = Steps(slow_s=60)
    with capture_logs() as logged, steps.step("fsync", FILE):
        assert steps.stalled() == ""
    assert logged == []


def test_what_hangs_is_named_while_it_does() -> None:
    steps = Steps(slow_s=0)
    with steps.step("link", FILE):
        assert "link of eiger_0000.h5" in steps.stalled()
    assert steps.stalled() == ""


def test_a_step_within_a_phase_does_not_end_it() -> None:
    steps = Steps(slow_s=0)
    with steps.phase("open", FILE):
        with steps.step("fsync_folder", FILE.parent):
            pass
        assert steps.stalled().startswith("stalled: open of ")
    assert steps.stalled() == ""


def test_what_has_no_name_is_work_but_for_waits() -> None:
    steps = Steps(slow_s=0)
    with steps.working(FILE):
        assert steps.stalled().startswith("stalled: work of eiger_0000.h5")
        with waiting():
            assert steps.stalled() == ""
        with steps.phase("flush", FILE), waiting():
            assert steps.stalled() == ""
        assert steps.stalled().startswith("stalled: work of ")
    assert steps.stalled() == ""
    with waiting():
        assert steps.stalled() == ""


def test_a_thread_that_gets_on_is_not_stalled() -> None:
    steps = Steps(slow_s=0.2)
    started = time.monotonic()
    with steps.working(FILE):
        while time.monotonic() - started < 0.3:
            with steps.phase("write", FILE):
                pass
            assert steps.stalled() == ""
