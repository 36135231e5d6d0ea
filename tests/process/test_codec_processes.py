"""Codecs in processes of their own: damage that could crash, and what is loaded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from scanbus.bus.codecs import Codec
from scanbus.schemas.errors import PayloadError
from tests.support.codec_cases import (
    CASES,
    SAMPLE,
    chunk_of,
    decode_sample,
    filtered,
    h5py,
)


@pytest.fixture
def file() -> Iterator[Any]:
    with h5py.File(io.BytesIO(), "w") as opened:
        yield opened


def damaged(payload: bytes, seed: int) -> Iterator[bytes]:
    """Yield many damaged forms: flipped bits, extreme sizes, bytes lost or added."""
    rng = np.random.default_rng(seed)
    extremes = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\0\0\x20\0")
    for _ in range(400):
        copy = bytearray(payload)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(min(len(copy), int(rng.choice([16, 200, 10**6])))))
            kind = rng.integers(4)
            if kind < 2:
                copy[at] ^= 1 << int(rng.integers(8))
            elif kind == 2:
                copy[at : at + 4] = extremes[rng.integers(len(extremes))]
            else:
                copy[at : at + 1] = rng.bytes(int(rng.integers(3)))
        yield bytes(copy)


def survive_damage(each: Codec, payloads: list[bytes]) -> int:
    """Decode damaged bytes; return how many were refused."""
    refused = 0
    for seed, payload in enumerate(payloads):
        for copy in damaged(payload, seed):
            try:
                assert decode_sample(each, copy).shape == SAMPLE.shape
            except PayloadError:
                refused += 1
    return refused


@pytest.mark.parametrize("case", CASES)
def test_damaged_bytes_are_refused_or_decoded_but_never_crash(
    file: Any, case: str
) -> None:
    """In a process of its own: what is feared here is a segmentation fault."""
    each = CASES[case]()
    chunks = [bytes(each.encode(SAMPLE)), chunk_of(filtered(file, each.name, SAMPLE))]

    child = subprocess.run(
        [sys.executable, "-W", "error", __file__, case],
        input="\n".join(chunk.hex() for chunk in chunks),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 0


@pytest.mark.parametrize("threads", [{}, {"OMP_NUM_THREADS": "2"}], ids=str)
def test_packing_imports_no_hdf5_and_keeps_the_environment(
    threads: dict[str, str],
) -> None:
    """A control computer needs no HDF5, and other libraries keep their threads."""
    code = (
        "import os, sys, numpy as np; from scanbus.bus.codecs import find_codec; "
        "find_codec('bitshuffle-lz4').encode(np.zeros(9, 'u2')); "
        "print('h5py' in sys.modules, 'hdf5plugin' in sys.modules, "
        "os.environ.get('OMP_NUM_THREADS'))"
    )
    others = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **others,
            **threads,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected = threads.get("OMP_NUM_THREADS", "None")
    assert child.stdout.split() == ["False", "False", expected]


@pytest.mark.parametrize("_", range(10))
def test_threads_that_pack_first_at_the_same_time_load_it_once(_: int) -> None:
    """One process in eight met what it changes in the environment meanwhile."""
    code = (
        "import os, sys, threading, numpy as np\n"
        "sys.setswitchinterval(1e-6)\n"
        "from scanbus.bus.codecs import find_codec\n"
        "codec = find_codec('bitshuffle-lz4')\n"
        "ready, done = threading.Barrier(8), []\n"
        "def pack():\n"
        "    ready.wait()\n"
        "    done.append(bytes(codec.encode(np.zeros(9, 'u2'))))\n"
        "threads = [threading.Thread(target=pack) for _ in range(8)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
        "print(len(done), len(set(done)), os.environ.get('OMP_NUM_THREADS'))"
    )
    others = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**others, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert child.stdout.split() == ["8", "1", "None"], child.stderr


def main(case: str) -> None:
    """Run the dangerous part of one test, see `survive_damage`."""
    payloads = [bytes.fromhex(line) for line in sys.stdin]
    sys.stdout.write(str(survive_damage(CASES[case](), payloads)))


if __name__ == "__main__":
    main(sys.argv[1])
