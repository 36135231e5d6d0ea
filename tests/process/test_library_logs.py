"""What libraries log stays between nobody's lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scanbus.schemas.exit_codes import ExitCode
from tests.support.image_files import FORMATS

FRAME = np.random.default_rng(0).poisson(9, (40, 60)).astype("<u2")

LOGS = """
import logging, warnings
from scanbus.cli.logs import log_to_stderr
from scanbus.schemas.library_logs import take_library_logs
take_library_logs()
take_library_logs()
log_to_stderr()
logging.getLogger("fabio.tifimage").error("no tiff reader")
logging.getLogger("PIL").warning("truncated")
warnings.warn("deprecated")
logging.getLogger("p4p.client").error("a\\nbug of %s", "ours")
logging.getLogger("p4p.client").info("connected")
"""


def test_a_library_that_logs_makes_one_event_of_ours() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGS], capture_output=True, text=True, check=True
    )
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    del event["timestamp"]
    assert event == {
        "event": "library_message",
        "level": "warning",
        "library": "p4p.client",
        "text": "a bug of ours",
    }


@pytest.mark.redis
@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_damaged_image_is_one_sentence(
    redis_url: str, tmp_path: Path, suffix: str
) -> None:
    content = FORMATS[suffix](FRAME, tmp_path)
    for name, part in (("short", 0.6), ("shorter", 0.2)):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content[: int(len(content) * part)])
        done = subprocess.run(
            [sys.executable, "-m", "scanbus.cli", "publish", "files", str(path)],
            env={**os.environ, "SCANBUS_REDIS": redis_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == ExitCode.USAGE
        *progress, line = done.stderr.splitlines()
        assert all(each.startswith("headers: ") for each in progress)
        assert line.startswith(f"scanbus: {path}: ")
