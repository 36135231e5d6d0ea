"""Where the time goes: py-spy on publisher and writer, for some of the goals.

    python -m benchmarks.profiles [--aof] [CASE ...]

Prints, per process, the functions in which it was busy, with the share of all samples
(a line stands for the C code that it calls), and what the processors did meanwhile.
Needs py-spy (pip install py-spy) and the
right to trace processes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import sending
from benchmarks.harness.frames import detector_frames, noise_frames, small_frames
from benchmarks.harness.plan import prepare_environment
from benchmarks.harness.stage import Child, Stage, start_child

RATE_HZ = 200
SHOWN = 12


def main(argv: list[str] | None = None) -> int:
    cases: dict[str, Callable[[Stage, Path], Child]] = {
        "raw": _raw,
        "packed": _packed,
        "incompressible": _incompressible,
        "scalars": _scalars,
        "arrays": _arrays,
        "small": _small,
        "spectra": _spectra,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--aof", action="store_true", help="with AOF everysec")
    asked = parser.parse_args(argv)
    chosen = asked.cases or list(cases)
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        print("py-spy is not installed: pip install py-spy", file=sys.stderr)
        return 1
    prepare_environment()
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="scanbus-profile-") as made:
            folder = Path(made)
            with Stage(folder, aof=asked.aof) as stage:
                stage.start_writer()
                _profile(name, program, stage, cases[name](stage, folder), folder)
    return 0


def _profile(name: str, program: str, stage: Stage, child: Child, folder: Path) -> None:
    pids = {"publisher": child.process.pid, "writer": stage.writer_pids[-1]}
    spies = {role: _spy(program, pid, folder / role) for role, pid in pids.items()}
    child.go()
    before = psutil.cpu_times()
    with stage.metered() as spent:
        run: sending.Run = child.result()
    busy = _shares(before, psutil.cpu_times())
    stage.stop_writer()
    cpu = {"publisher": run.cpu_s, **spent}
    print(f"\n{name}: {run.seconds:.1f} s, with the profilers")
    for role, spy in spies.items():
        spy.wait(30)
        print(f"  {role}, {cpu[role]:.1f} CPU s")
        for function, share in _busiest(folder / role):
            print(f"    {share:5.1%}  {function}")
    print(f"  Redis, {cpu['redis']:.1f} CPU s")
    print(f"  processors: {busy}", flush=True)


def _shares(before: Any, after: Any) -> str:
    """Return the CPU use between two samples, including kernel threads."""
    spent = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("user", "system", "iowait", "idle")
    }
    total = sum(spent.values())
    return ", ".join(f"{name} {share / total:.0%}" for name, share in spent.items())


def _spy(program: str, pid: int, path: Path) -> "subprocess.Popen[bytes]":
    command = [program, "record", "--pid", str(pid), "--output", str(path)]
    command += ["--format", "raw", "--rate", str(RATE_HZ), "--nonblocking"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _busiest(path: Path) -> list[tuple[str, float]]:
    """Return the innermost functions and their share of all samples."""
    counts: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        ours = next((each for each in reversed(frames) if "scanbus" in each), "")
        caller = f"  in {ours}" if ours and ours != frames[-1] else ""
        counts[frames[-1] + caller] += int(samples)
    total = sum(counts.values())
    return [(name, count / total) for name, count in counts.most_common(SHOWN)]


def _raw(stage: Stage, folder: Path) -> Any:
    frames = detector_frames(folder / "frames", simulated=False)
    return start_child(sending.send_frames, stage.url, frames, 200, "raw")


def _packed(stage: Stage, folder: Path) -> Any:
    frames = detector_frames(folder / "frames", simulated=False)
    return start_child(sending.send_frames, stage.url, frames, 600, "packed")


def _incompressible(stage: Stage, folder: Path) -> Any:
    frames = noise_frames(folder / "frames")
    return start_child(sending.send_frames, stage.url, frames, 150, "plain")


def _scalars(stage: Stage, folder: Path) -> Any:
    del folder
    return start_child(sending.send_scalars, stage.url, 10, 1, 100_000)


def _arrays(stage: Stage, folder: Path) -> Any:
    del folder
    return start_child(sending.send_scalars, stage.url, 10, 1000, 4000)


def _small(stage: Stage, folder: Path) -> Any:
    frames = small_frames(folder / "frames", (256, 256))
    return start_child(sending.send_frames, stage.url, frames, 5000, "raw")


def _spectra(stage: Stage, folder: Path) -> Any:
    del folder
    return start_child(sending.send_spectra, stage.url, 2048, 30_000)


if __name__ == "__main__":
    sys.exit(main())
