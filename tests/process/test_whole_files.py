"""A file that ends too early is never taken for a whole one, wherever it ends."""

import logging
from pathlib import Path

import numpy as np
import pytest

from scanbus.publisher.gateways.files.images import open_image
from scanbus.schemas.errors import SourceError
from tests.support.image_files import FORMATS

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_gives_no_other_pixels(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("fabio")
    caplog.set_level(logging.CRITICAL)
    frame = RNG.poisson(300, (41, 37)).astype("int32" if suffix == ".cbf" else "uint16")
    content = FORMATS[suffix](frame, tmp_path)
    whole = tmp_path / f"whole{suffix}"
    whole.write_bytes(content)
    (read,) = open_image(whole)
    np.testing.assert_array_equal(read.data, frame)
    part = tmp_path / f"part{suffix}"
    n_refused = 0
    for n_bytes in {
        *range(0, len(content), 61),
        *range(len(content) - 16, len(content)),
    }:
        part.write_bytes(content[:n_bytes])
        try:
            (read,) = open_image(part)
        except SourceError:
            n_refused += 1
        else:  # What is missing is a tail that holds no pixels.
            np.testing.assert_array_equal(read.data, frame, str(n_bytes))
    assert n_refused > len(content) // 61 // 2
