"""make says what it can do, and in a sentence what it lacks."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TOLD = {
    *("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "VENV", "PYTHON"),
    *("ARGS", "JOBS", "QUICK", "FAULTS", "MINUTES", "SEED"),
    *("FAULTS_COUNT", "FAULTS_MINUTES", "FAULTS_SEED"),
}


@pytest.fixture(scope="module")
def make(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = shutil.which("make")
    if program is None:
        pytest.skip("there is no make here")
    # The tests themselves may run under `make test ARGS=...`: what it was told, which
    # it hands on in the environment, is not for us.
    clean = {name: value for name, value in os.environ.items() if name not in TOLD}

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "-s", "-f", str(repository / "Makefile"), *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=clean,
        )

    return run


def test_make_help_names_every_target_for_users(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = make(tmp_path, "help")
    assert done.returncode == 0, done.stderr
    for target in (
        "demo",
        "test",
        "lint",
        "bench",
        "test-faults",
        "test-all",
        "clean",
        "help",
    ):
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("exit 127", "scanbus needs Python 3.11 or newer"),  # an empty pyenv shim
        (
            'case "$2" in *version_info\\ \\<*) exit 1;; esac',
            "scanbus needs Python 3.11",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "cannot make virtual environments"),
    ],
)
def test_make_says_in_a_sentence_what_python_lacks(
    python: str,
    sentence: str,
    make: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    (tmp_path / "pyproject.toml").touch()
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    done = make(tmp_path, "demo", f"PYTHON={program}")
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "apt-get install" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_rings_are_run_with_what_was_asked(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "python"
    program.write_text(
        '#!/bin/sh\necho "$@ faults=$FAULTS_COUNT,$FAULTS_MINUTES,$FAULTS_SEED"\n'
    )
    program.chmod(0o755)
    for number, name in enumerate(("pyproject.toml", ".venv/.created")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    for name in (".installed-test", ".installed-judges"):
        (tmp_path / ".venv" / name).touch()
    judges = tmp_path / "tests" / "checklist"
    judges.mkdir(parents=True)
    for name in ("requirements.txt", "package.json"):
        (judges / name).touch()
        os.utime(judges / name, (0, 0))

    rings = make(tmp_path, "rings").stdout.split()
    assert "test-faults" in rings
    for ring in rings:
        done = make(tmp_path, ring, "QUICK=1", "FAULTS=5", "MINUTES=2", "SEED=7")
        assert done.returncode == 0, done.stderr
        folder = ring.removeprefix("test-")
        assert f"-m pytest tests/{folder} -m not long" in done.stdout
    done = make(tmp_path, "test-faults", "FAULTS=5", "MINUTES=2", "SEED=7")
    assert done.stdout == "-m pytest tests/faults faults=5,2,7\n"
